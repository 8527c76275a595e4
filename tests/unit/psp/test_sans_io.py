"""Modules that are called sans-IO import no I/O: checked in the source, so that nobody has to remember."""

from __future__ import annotations

from pathlib import Path

import pytest

import hsframework_psp
from tests.support.sans_io import FORBIDDEN, imports

PACKAGE = Path(hsframework_psp.__file__).parent
SANS_IO = ["binding", "derivation", "exchange", "framing", "keys", "messages", "packet_stream", "packets", "policy",
           "settings", "software", "spis", "tunnel", "versions"]  # fmt: skip
IO = {"__init__", "connection", "devices", "family", "hooks", "kernel_device", "packet_device", "per_process", "plugin",
      "protocol", "renewal", "rotation", "search", "session", "streams"}  # fmt: skip


@pytest.mark.parametrize("module", SANS_IO)
def test_protocol_code_does_no_io(module: str) -> None:
    """No sockets, no event loop, no clock."""
    assert not imports(PACKAGE / f"{module}.py") & FORBIDDEN


def test_all_modules_are_listed_or_do_io() -> None:
    """A new module is put on the list or stands here by name."""
    assert {path.stem for path in PACKAGE.glob("*.py")} == IO | set(SANS_IO)
