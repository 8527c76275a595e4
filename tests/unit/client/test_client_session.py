"""Sessions and errors of a consumer, made from a result."""

from __future__ import annotations

import errno
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from hsframework.client.session import AsyncSession, Session
from hsframework.errors import MessageError, PluginError, StreamError
from hsframework.interface import Role, Secret
from hsframework.netlink.attributes import attribute_codec
from tests.unit.client.registry import SPECIFICATION, TinyStream, tiny_registry

PARAMETERS = attribute_codec(SPECIFICATION, "session").encode({"secret": b"TOPSECRET", "number": 7})
VALUES: dict[str, Any] = {
    "status": 0,
    "protocol": "tiny",
    "session": Secret(PARAMETERS),
    "alpn": "h2",
    "remote-certificate": [b"leaf", b"issuer"],
    "tag": [{"name": "cipher", "value": "AES"}, {"name": "group", "value": "X25519"}],
}


@pytest.fixture
def sock(pair: tuple[socket.socket, socket.socket]) -> socket.socket:
    return pair[0]


def test_facts(sock: socket.socket) -> None:
    """Every field of a result is where the interface says."""
    session = Session(sock, Role.CLIENT, VALUES, tiny_registry())
    assert session.socket is sock
    assert (session.protocol, session.role, session.alpn, session.in_kernel) == ("tiny", Role.CLIENT, "h2", False)
    assert session.peer.certificates == (b"leaf", b"issuer")
    assert session.peer.psk_identity is None
    assert session.tags == {"cipher": "AES", "group": "X25519"}
    assert session.established.parameters == {"secret": Secret(b"TOPSECRET"), "number": 7}


def test_nothing_secret_is_shown(sock: socket.socket) -> None:
    """Neither the session nor what the plugin gets shows its secrets."""
    session = Session(sock, Role.CLIENT, VALUES, tiny_registry())
    assert "TOPSECRET" not in repr(session) + repr(session.established) + repr(session.raw_parameters)


def test_psk_session_in_the_kernel(sock: socket.socket) -> None:
    """A session in the kernel has no parameters, and a PSK's identity is the peer's."""
    session = Session(
        sock,
        Role.SERVER,
        {"status": 0, "protocol": "tiny", "in-kernel": True, "remote-psk-identity": b"me"},
        tiny_registry(),
    )
    assert session.in_kernel
    assert session.raw_parameters is None
    assert session.parameters == {}
    assert session.peer.psk_identity == b"me"


def test_streams_are_made_by_the_plugin(sock: socket.socket) -> None:
    """The hook gets the session, the socket and which kind is wanted."""
    blocking: Any = Session(sock, Role.CLIENT, VALUES, tiny_registry()).stream()
    assert isinstance(blocking, TinyStream)
    assert (blocking.socket, blocking.asynchronous) == (sock, False)
    assert blocking.session.parameters["number"] == 7
    asynchronous: Any = AsyncSession(sock, Role.CLIENT, VALUES, tiny_registry()).stream()
    assert asynchronous.asynchronous
    assert sock.gettimeout() == 0


def test_a_second_stream_is_refused(sock: socket.socket) -> None:
    """It would count from the same number under the same keys: EALREADY.  In the kernel there is nothing to count."""
    session = Session(sock, Role.CLIENT, VALUES, tiny_registry())
    session.stream()
    with pytest.raises(StreamError, match="has its stream already") as caught:
        session.stream()
    assert caught.value.errno == errno.EALREADY
    in_kernel = Session(sock, Role.CLIENT, {**VALUES, "in-kernel": True}, tiny_registry())
    with pytest.raises(StreamError, match="offers no stream"):
        in_kernel.stream()


def test_without_the_plugin_the_bytes_are_there_and_the_error_names_the_package(sock: socket.socket) -> None:
    """No plugin: raw bytes in a Secret, and the texts say which package to install."""
    session = Session(sock, Role.CLIENT, VALUES, tiny_registry(protocols={}))
    assert session.raw_parameters == Secret(PARAMETERS)
    with pytest.raises(PluginError, match="install the package hsframework-tiny"):
        session.stream()
    with pytest.raises(PluginError, match="'tiny' is not installed"):
        _ = session.parameters


def test_a_broken_plugin_is_named_with_its_error(sock: socket.socket) -> None:
    """A plugin that is installed and could not be loaded: the text says why."""
    broken = SimpleNamespace(name="tiny", message="No module named 'left_pad'")
    session = Session(sock, Role.CLIENT, VALUES, tiny_registry(protocols={}, errors=[broken]))
    with pytest.raises(PluginError, match="left_pad"):
        session.stream()


def test_a_plugin_that_offers_no_stream(sock: socket.socket) -> None:
    """The hook gave None: EOPNOTSUPP, and what to do instead."""
    session = Session(sock, Role.CLIENT, {**VALUES, "in-kernel": True}, tiny_registry())
    with pytest.raises(StreamError, match="read and write the socket itself") as caught:
        session.stream()
    assert caught.value.errno == errno.EOPNOTSUPP


def test_parameters_that_the_specification_does_not_have(sock: socket.socket) -> None:
    """A newer or broken agent: MessageError, not a guess."""
    session = Session(sock, Role.CLIENT, {**VALUES, "session": Secret(b"\x08\0\x63\0abcd")}, tiny_registry())
    with pytest.raises(MessageError, match="unknown attribute"):
        _ = session.parameters
