"""Sockets whose last close blocks whoever makes it."""

from __future__ import annotations

import contextlib
import socket
import struct


def lingering(seconds: int = 3600) -> tuple[socket.socket, socket.socket]:
    """Return a connection whose first end takes ``seconds`` to close: its buffer is full; the other reads nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        far, _ = server.accept()
    near.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            near.send(b"x" * 65536)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, seconds))
    return near, far
