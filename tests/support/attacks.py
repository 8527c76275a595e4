"""Attacks on the local sockets by whoever may connect, with the standard library alone: a guest runs them as they are.

Each tells ``ready`` once it has had its effect, and goes on until its process is ended.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable

from tests.support.lingering import lingering

LINGERING = 100
"""More than the threads that close files in any process."""

NONSENSE = struct.pack("=IHHII", 16, 0x20, 0, 1, 0)
CONNECTIONS = 600
kept: list[object] = []
"""Sockets that stay open until the end."""


def link_to(path: str) -> socket.socket:
    """Connect to a local socket of the service."""
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(3)
    link.connect(path)
    return link


def send(link: socket.socket, message: bytes, fd: int) -> None:
    """Send a message with a descriptor."""
    link.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def leaving(folder: str, message: bytes, ready: Callable[[], None]) -> None:
    """Leave sockets whose last close takes ten minutes, then files without end, each with ``message``."""
    path = f"{folder}/consumer.sock"
    for _ in range(LINGERING):
        near, far = lingering(600)
        kept.append(far)
        with link_to(path) as link:
            send(link, NONSENSE, near.fileno())
            threading.Thread(target=os.close, args=(near.detach(),), daemon=True).start()
            with contextlib.suppress(OSError):
                link.recv(4096)
    ready()
    file = os.open("/dev/null", os.O_RDONLY)
    while True:
        with contextlib.suppress(OSError), link_to(path) as link:
            while True:
                send(link, message, file)
                if not link.recv(4096):
                    break


def flooding(folder: str, ready: Callable[[], None]) -> None:
    """Fill both sockets with connections, and send nonsense over new ones without end."""
    paths = [f"{folder}/{name}.sock" for name in ("consumer", "agent")]
    for number in range(CONNECTIONS):
        with contextlib.suppress(OSError):
            kept.append(link_to(paths[number % 2]))
    ready()
    while True:
        for path in paths:
            with contextlib.suppress(OSError), link_to(path) as link:
                while True:
                    link.send(NONSENSE * 64)
                    if not link.recv(65536):
                        break
