"""Attacks on the local sockets: ``python -m tests.kernel.hostile UID ATTACK FOLDER``.  Goes on until it is killed.

Writes one line once the attack has had its effect, if it has one.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import sys
from collections.abc import Callable

from hsframework.client import HandshakeOptions
from hsframework.client.submits import encode_submit
from hsframework.interface import Role
from hsframework.local.packets import send_packet
from hsframework.netlink.messages import with_sequence
from tests.support.attacks import NONSENSE, flooding, leaving, link_to

SUBMITS = 3000


def submitting(folder: str) -> None:
    """Have thousands of requests in flight, and end in the middle of them, again and again."""
    submit = encode_submit(HandshakeOptions(role=Role.SERVER, timeout=60), None)
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    while True:
        with contextlib.ExitStack() as opened:
            links = [opened.enter_context(link_to(f"{folder}/consumer.sock")) for _ in range(8)]
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


ATTACKS: dict[str, Callable[[str], None]] = {
    "lingering": lambda folder: leaving(folder, NONSENSE, _ready),
    "flooding": lambda folder: flooding(folder, _ready),
    "submitting": submitting,
}


if __name__ == "__main__":
    _, uid, attack, folder = sys.argv
    resource.setrlimit(resource.RLIMIT_NOFILE, (16384, 16384))
    "".encode("idna")
    encode_submit(HandshakeOptions(role=Role.SERVER), None)  # imports what other users may not read
    os.setgroups([])
    os.setgid(int(uid))
    os.setuid(int(uid))
    ATTACKS[attack](folder)
