"""The kinds of objects that a consumer hands over as its socket, and the words for those that cannot be one."""

from __future__ import annotations

import asyncio.trsock
import socket
import sys

from hsframework.errors import ConfigurationError


def check_socket(sock: object) -> None:
    """Raise ConfigurationError, which says what to give instead, for anything but a socket with plain data."""
    tls = sys.modules.get("ssl")
    if tls is not None and isinstance(sock, tls.SSLSocket):
        raise ConfigurationError("the socket has TLS of Python's ssl already: hand over the socket below it")
    if isinstance(sock, socket.socket):
        return
    if isinstance(sock, asyncio.trsock.TransportSocket):
        raise ConfigurationError(
            "the socket belongs to a transport of asyncio, which reads from it: use start_tls of "
            "hsframework.adapters.aio with the transport, or hand over a socket of your own"
        )
    if isinstance(sock, int):
        raise ConfigurationError(
            f"{sock!r} is no socket: socket.socket(fileno={sock!r}) makes one of a file descriptor, and owns it then"
        )
    raise ConfigurationError(f"a {type(sock).__qualname__} is no socket: give a socket.socket that is connected")
