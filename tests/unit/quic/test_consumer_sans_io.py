"""The consumer's side of QUIC that is called sans-IO imports no I/O: checked in the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import hsframework_quic

PACKAGE = Path(hsframework_quic.__file__).parent
SANS_IO = ["aioquic_adapter/consumer", "aioquic_adapter/stateless", "connection", "endings", "gate", "headers", "retry",
           "stream_state"]  # fmt: skip
FORBIDDEN = {"asyncio", "socket", "select", "selectors", "time", "datetime", "threading", "ssl", "os", "pyroute2"}


@pytest.mark.parametrize("module", SANS_IO)
def test_protocol_code_does_no_io(module: str) -> None:
    """No sockets, no event loop, no clock, no randomness of its own."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert not names & FORBIDDEN
