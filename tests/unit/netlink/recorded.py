"""Recorded answers of the kernel, given to a RequestSocket in place of the kernel's."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hsframework.netlink.socket import RequestSocket

DATA = Path(__file__).with_name("data")


def load(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text("utf-8"))


SOCK_DIAG = load("sock_diag.yaml")


@contextlib.contextmanager
def answering(*answers: str) -> Iterator[tuple[RequestSocket, socket.socket]]:
    """Make a RequestSocket whose first requests have these answers in hexadecimal; the other end has the requests."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for answer in answers:
        far.send(bytes.fromhex(answer))
    with far:
        asking = RequestSocket.adopt(near)
        try:
            yield asking, far
        finally:
            asking.close()
