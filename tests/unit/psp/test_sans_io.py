"""What is called sans-IO imports no I/O: checked in the source, so that nobody has to remember."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hsframework_psp

PACKAGE = Path(hsframework_psp.__file__).parent
SANS_IO = ["binding", "derivation", "exchange", "framing", "keys", "messages", "packet_stream", "packets", "settings",
           "software", "spis", "tunnel", "versions"]  # fmt: skip
IO = {"__init__", "connection", "devices", "family", "hooks", "kernel_device", "packet_device", "per_process", "plugin",
      "renewal", "rotation", "search", "session", "streams"}  # fmt: skip
FORBIDDEN = {"asyncio", "socket", "select", "selectors", "time", "datetime", "threading", "ssl", "os", "pyroute2"}


def imports(module: str) -> set[str]:
    """Top-level names of all that a module imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    return names


@pytest.mark.parametrize("module", SANS_IO)
def test_protocol_code_does_no_io(module: str) -> None:
    """No sockets, no event loop, no clock."""
    assert not imports(module) & FORBIDDEN


def test_all_modules_are_listed_or_do_io() -> None:
    """A new module is put on the list or stands here by name."""
    assert {path.stem for path in PACKAGE.glob("*.py")} == IO | set(SANS_IO)
