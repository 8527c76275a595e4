"""Attacks on the local sockets: ``python -m tests.kernel.hostile UID ATTACK FOLDER``.  Goes on until it is killed.

Writes one line once the attack has had its effect, if it has one.
"""

from __future__ import annotations

import array
import contextlib
import os
import resource
import socket
import struct
import sys
import threading
from collections.abc import Callable

from hsframework.client import HandshakeOptions
from hsframework.client.submits import encode_submit
from hsframework.interface import Role
from hsframework.local.packets import send_packet
from hsframework.netlink.messages import with_sequence
from tests.support.lingering import lingering

LINGERING = 100
"""More than the threads that close files in any process."""

NONSENSE = struct.pack("=IHHII", 16, 0x20, 0, 1, 0)
CONNECTIONS = 600
SUBMITS = 3000
_kept: list[object] = []


def _link(path: str) -> socket.socket:
    link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    link.settimeout(3)
    link.connect(path)
    return link


def _send(link: socket.socket, fd: int) -> None:
    link.sendmsg([NONSENSE], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))])


def leaving(folder: str) -> None:
    """Leave sockets whose last close takes ten minutes, then files without end."""
    path = f"{folder}/consumer.sock"
    for _ in range(LINGERING):
        near, far = lingering(600)
        _kept.append(far)
        with _link(path) as link:
            _send(link, near.fileno())
            threading.Thread(target=os.close, args=(near.detach(),), daemon=True).start()
            with contextlib.suppress(OSError):
                link.recv(4096)
    _ready()
    file = os.open("/dev/null", os.O_RDONLY)
    while True:
        with contextlib.suppress(OSError), _link(path) as link:
            while True:
                _send(link, file)
                if not link.recv(4096):
                    break


def flooding(folder: str) -> None:
    """Fill both sockets with connections, and send nonsense over new ones without end."""
    paths = [f"{folder}/{name}.sock" for name in ("consumer", "agent")]
    for number in range(CONNECTIONS):
        with contextlib.suppress(OSError):
            _kept.append(_link(paths[number % 2]))
    _ready()
    while True:
        for path in paths:
            with contextlib.suppress(OSError), _link(path) as link:
                while True:
                    link.send(NONSENSE * 64)
                    if not link.recv(65536):
                        break


def submitting(folder: str) -> None:
    """Have thousands of requests in flight, and end in the middle of them, again and again."""
    submit = encode_submit(HandshakeOptions(role=Role.SERVER, timeout=60), None)
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    while True:
        with contextlib.ExitStack() as opened:
            links = [opened.enter_context(_link(f"{folder}/consumer.sock")) for _ in range(8)]
            with contextlib.suppress(OSError):
                for number in range(SUBMITS):
                    near = opened.enter_context(socket.create_connection(server.getsockname()))
                    opened.enter_context(server.accept()[0])
                    send_packet(links[number % 8], with_sequence(submit, number + 1), near.fileno())
        _ready()


_said: list[None] = []


def _ready() -> None:
    if not _said:
        _said.append(None)
        print("ready", flush=True)


ATTACKS: dict[str, Callable[[str], None]] = {"lingering": leaving, "flooding": flooding, "submitting": submitting}


if __name__ == "__main__":
    _, uid, attack, folder = sys.argv
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
    "".encode("idna")
    encode_submit(HandshakeOptions(role=Role.SERVER), None)  # imports what other users may not read
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    ATTACKS[attack](folder)
