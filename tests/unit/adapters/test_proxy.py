"""The PROXY protocol's header, against the examples of HAProxy's proxy-protocol.txt and by its fields."""

from __future__ import annotations

import socket
import struct
from typing import Any

import pytest

from hsframework.adapters.proxy import SIGNATURE, proxy_header


class Accepted(socket.socket):
    """A socket that says which ends it has."""

    ends: tuple[Any, Any]

    def getpeername(self) -> Any:
        return self.ends[0]

    def getsockname(self) -> Any:
        return self.ends[1]


def accepted(family: int, peer: Any = None, ours: Any = None) -> Accepted:
    sock = Accepted(family)
    sock.ends = peer, ours
    return sock


FOUR = ("192.168.0.1", 56324), ("192.168.0.11", 443)
SIX = ("2001:db8::1", 56324, 0, 0), ("2001:db8::2", 443, 0, 0)
MAPPED = ("::ffff:192.168.0.1", 56324, 0, 0), ("::ffff:192.168.0.11", 443, 0, 0)


@pytest.mark.parametrize(
    ("family", "ends", "line"),
    [
        (socket.AF_INET, FOUR, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
        (socket.AF_INET6, MAPPED, b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
        (socket.AF_INET6, SIX, b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n"),
        (socket.AF_UNIX, ("", ""), b"PROXY UNKNOWN\r\n"),
    ],
)
def test_version_1(family: int, ends: tuple[Any, Any], line: bytes) -> None:
    """One line of text; the longest has 107 bytes."""
    with accepted(family, *ends) as sock:
        assert proxy_header(1, sock) == line
        assert len(line) <= 107


def test_version_2() -> None:
    """Addresses and ports in network order, and the application protocol behind them."""
    with accepted(socket.AF_INET, *FOUR) as sock:
        header = proxy_header(2, sock, "h2")
    assert header[:12] == SIGNATURE
    assert header[12:16] == b"\x21\x11" + struct.pack(">H", 12 + 5)
    assert header[16:28] == bytes((192, 168, 0, 1, 192, 168, 0, 11)) + struct.pack(">HH", 56324, 443)
    assert header[28:] == b"\x01\0\x02h2"
    with accepted(socket.AF_INET6, *SIX) as sock:
        assert proxy_header(2, sock)[13:16] == b"\x21" + struct.pack(">H", 36)
    with accepted(socket.AF_UNIX, "", "") as sock:
        assert proxy_header(2, sock) == SIGNATURE + b"\x20\0\0\0"


def test_another_version() -> None:
    """There are two."""
    with accepted(socket.AF_INET, *FOUR) as sock, pytest.raises(ValueError, match="no PROXY protocol 3"):
        proxy_header(3, sock)
