"""Objects that programs hand over as their socket: refused at once, in words that say what to give."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.errors import ConfigurationError
from hsframework.testing.network import tcp_pair


def _of_a_transport(sock: socket.socket) -> Any:
    return asyncio.trsock.TransportSocket(sock)


def _of_ssl(sock: socket.socket) -> Any:
    return ssl.create_default_context().wrap_socket(sock.dup(), server_hostname="x", do_handshake_on_connect=False)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (socket.socket.fileno, "socket.socket\\(fileno="),
        (_of_a_transport, "start_tls"),
        (_of_ssl, "the socket below it"),
        (lambda sock: sock.makefile("rb"), "is no socket"),
    ],
)
def test_what_is_no_socket_is_refused_in_words(
    tmp_path: Path, change: Callable[[socket.socket], Any], words: str
) -> None:
    """Both clients, without a dispatcher: nothing was asked of it."""
    near, far = tcp_pair()
    with near, far:
        given = change(near)
        with pytest.raises(ConfigurationError, match=words):
            Client(tmp_path).handshake(given, HandshakeOptions())
        with pytest.raises(ConfigurationError, match=words):
            asyncio.run(AsyncClient(tmp_path).handshake(given, HandshakeOptions()))
        if hasattr(given, "close"):
            given.close()


def test_alpn_in_bytes_is_refused_in_words() -> None:
    """The habit of h2 and of OpenSSL."""
    protocols: Any = (b"h2",)
    with pytest.raises(ConfigurationError, match="not a text"):
        HandshakeOptions(alpn=protocols)
