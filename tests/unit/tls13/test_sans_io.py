"""Modules that are called sans-IO import no I/O: checked in the source, so that nobody has to remember."""

from __future__ import annotations

from pathlib import Path

import pytest

import hsframework_tls13
from tests.support.sans_io import FORBIDDEN, imports

PACKAGE = Path(hsframework_tls13.__file__).parent
SANS_IO = ["allowance", "callbacks", "ciphers", "client_hello", "contexts", "encodings", "engine", "engine_client",
           "engine_core", "engine_server", "events", "inbound", "keyschedule", "openssl", "openssl_callbacks",
           "openssl_failures", "outbound", "policy", "prediction", "protection", "recordlayer", "records",
           "settings"]  # fmt: skip


@pytest.mark.parametrize("module", SANS_IO)
def test_protocol_code_does_no_io(module: str) -> None:
    """No sockets, no event loop, no clock."""
    assert not imports(PACKAGE / f"{module}.py") & FORBIDDEN


def test_two_modules_touch_the_binding() -> None:
    """``OpenSSL._util`` is private to pyOpenSSL: its use stays in one place."""
    users = {path.stem for path in PACKAGE.glob("*.py") if "from OpenSSL._util import" in path.read_text()}
    assert users == {"openssl", "openssl_callbacks"}


def test_all_modules_are_listed_or_do_io() -> None:
    """A new module is put on the list or stands here by name."""
    io = {
        "__init__",
        "ageing",
        "channel",
        "driver",
        "hooks",
        "ktls",
        "ktls_options",
        "ktls_stream",
        "plugin",
        "protocol",
        "session",
        "streams",
    }
    assert {path.stem for path in PACKAGE.glob("*.py")} == io | set(SANS_IO)
