"""aioquic's inside is where the adapter thinks it is, and nobody else looks into it.

aioquic is pinned exactly.  When the pin moves these tests say what else has to be looked at.
"""

from __future__ import annotations

import ast
import hashlib
from importlib import metadata
from pathlib import Path

import aioquic
import pytest
from aioquic.quic.connection import QuicConnection

import hsframework_quic
from tests.support.quic_network import START, Network, bare_client, our_client, our_server

PACKAGE = Path(hsframework_quic.__file__).parent
READ = {
    "quic/connection.py": "6bad39a59cd772d8a6545d4b9356fa3bc9897cf5269619266310286b307cdf97",
    "quic/crypto.py": "9bedbee21476d1b5cf7417fd03b8a94f4711948027da0f8a224127bdb51c863d",
    "quic/packet_builder.py": "ca12616de245b8afa5a1a00c1d42fd803be34f10a85c837a0ab1c322d811fc5e",
    "quic/recovery.py": "b3c86760919184420e85bba0853747b3f849234018a8f48cd79709e1ba033cbc",
    "quic/stream.py": "d55a14b50a7684daac6b261271e3949c786a242297229c6084b105eb09f93d15",
    "tls.py": "1686d883e8782b91f78c26584a73aa68ec7a613025f2111db8846a4191b36128",
}
"""SHA-256 of the sources that the adapter was written against."""


def test_the_pin_is_exact() -> None:
    """The installed version is the one that the distribution demands, and it demands it exactly."""
    demands = [item for item in metadata.requires("hsframework-quic") or () if item.startswith("aioquic")]
    assert demands == [f"aioquic=={metadata.version('aioquic')}"]


@pytest.mark.parametrize("name", READ)
def test_the_sources_are_those_that_were_read(name: str) -> None:
    """Any change in them asks for a look: the adapter overrides and fills in what they do."""
    source = Path(aioquic.__file__).parent / name
    assert hashlib.sha256(source.read_bytes()).hexdigest() == READ[name]


def test_a_restored_connection_has_aioquic_s_own_attributes() -> None:
    """Every one that a connection of aioquic's has after its handshake, and none besides."""
    client, server = our_client(), our_server()
    assert Network(client, server).run(lambda: client.quic is not None and server.quic is not None)
    plain = bare_client(START).quic
    for side in (client, server):
        assert side.quic is not None
        assert isinstance(side.quic, QuicConnection)
        assert set(vars(side.quic)) - {"_probe_pending"} == set(vars(plain)) - {"_probe_pending"}


def test_only_the_adapter_uses_private_names() -> None:
    """Elsewhere an attribute that begins with an underscore is read off ``self`` alone, never off aioquic's objects."""
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name == "aioquic_adapter":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                assert _is_own(node.value), f"{path.relative_to(PACKAGE)}:{node.lineno}"


def _is_own(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "session", "socket")
