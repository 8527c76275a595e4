"""The UDP ports in use: a port that is listened at, told from one with connected sockets alone.

A server that ends or is reloaded leaves connections behind, whose sockets have its port and are connected: a successor
may listen there meanwhile.  A socket without a peer is another listener, beside which nobody may listen.
"""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TABLES = ("/proc/net/udp", "/proc/net/udp6")


def is_listened_at(family: int, address: Any) -> bool:
    """Return True if an unconnected UDP socket of this network namespace would share the address with a new one."""
    host = socket.inet_pton(family, address[0].partition("%")[0])
    return any(port == address[1] and _meet(host, other) for other, port in _unconnected())


def _meet(one: bytes, other: bytes) -> bool:
    """True if the addresses are equal, or one of them stands for all."""
    return one == other or not any(one) or not any(other)


def _unconnected() -> Iterator[tuple[bytes, int]]:
    """Yield address and port of each UDP socket without a peer."""
    for table in _TABLES:
        with contextlib.suppress(OSError):  # a system without IPv6, or without /proc
            for line in Path(table).read_text().splitlines()[1:]:
                local, remote = line.split()[1:3]
                if remote.endswith(":0000"):
                    packed, _, port = local.partition(":")
                    yield _address(packed), int(port, 16)


def _address(text: str) -> bytes:
    """Return an address of the kernel's table, in which each word of 32 bits is in the host's byte order."""
    return b"".join(int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8))
