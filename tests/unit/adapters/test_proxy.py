"""The PROXY protocol's header, against the examples of HAProxy's proxy-protocol.txt and by its fields."""

from __future__ import annotations

import ipaddress
import socket
import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hsframework.adapters.proxy import LONGEST, SIGNATURE, Ends, Header, ends_of, proxy_header, read_header


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
        assert proxy_header(1, ends_of(sock)) == line
        assert len(line) <= 107


def test_version_2() -> None:
    """Addresses and ports in network order, and the application protocol behind them."""
    with accepted(socket.AF_INET, *FOUR) as sock:
        header = proxy_header(2, ends_of(sock), "h2")
    assert header[:12] == SIGNATURE
    assert header[12:16] == b"\x21\x11" + struct.pack(">H", 12 + 5)
    assert header[16:28] == bytes((192, 168, 0, 1, 192, 168, 0, 11)) + struct.pack(">HH", 56324, 443)
    assert header[28:] == b"\x01\0\x02h2"
    with accepted(socket.AF_INET6, *SIX) as sock:
        assert proxy_header(2, ends_of(sock))[13:16] == b"\x21" + struct.pack(">H", 36)
    with accepted(socket.AF_UNIX, "", "") as sock:
        assert proxy_header(2, ends_of(sock)) == SIGNATURE + b"\x20\0\0\0"


def test_another_version() -> None:
    """There are two."""
    with accepted(socket.AF_INET, *FOUR) as sock, pytest.raises(ValueError, match="no PROXY protocol 3"):
        proxy_header(3, ends_of(sock))


PORTS = st.integers(0, 0xFFFF)
PAIRS = st.one_of(
    st.builds(Ends, st.tuples(st.ip_addresses(v=4), PORTS), st.tuples(st.ip_addresses(v=4), PORTS)),
    st.builds(Ends, st.tuples(st.ip_addresses(v=6), PORTS), st.tuples(st.ip_addresses(v=6), PORTS)),
    st.none(),
)


def read_exactly(stream: bytes) -> tuple[Header, bytes]:
    """Read a header from a stream as a program does that may take no byte of what follows."""
    data = b""
    while isinstance(found := read_header(data), int):
        assert found > 0
        piece = stream[len(data) : len(data) + found]
        assert piece, "more is asked for than there is"
        data += piece
    return found, stream[len(data) :]


@given(PAIRS, st.sampled_from([1, 2]), st.sampled_from([None, "h2"]), st.binary(max_size=64))
def test_what_is_written_is_read(ends: Ends | None, version: int, alpn: str | None, behind: bytes) -> None:
    """Both versions, with what follows left where it is."""
    assert read_exactly(proxy_header(version, ends, alpn) + behind) == (Header(ends), behind)


@given(st.one_of(st.binary(max_size=200), st.binary(max_size=60).map(lambda tail: SIGNATURE + tail),
                 st.text(max_size=120).map(lambda tail: b"PROXY " + tail.encode())))  # fmt: skip
def test_what_is_no_header(data: bytes) -> None:
    """It is refused, or more of it is asked for, within a bound: nothing else is raised."""
    try:
        found = read_header(data)
    except ValueError as error:
        assert "PROXY protocol" in str(error)
    else:
        assert isinstance(found, Header) or 0 < found <= LONGEST


@pytest.mark.parametrize(
    "line",
    [
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1",
        "PROXY TCP4 192.168.0.1 192.168.0.11 56324 65536",
        "PROXY TCP4 192.168.0.1 192.168.0.11 +5 443",
        "PROXY TCP6 192.168.0.1 192.168.0.11 56324 443",
        "PROXY TCP4 2001:db8::1 192.168.0.11 56324 443",
        "PROXY TCP4 localhost 192.168.0.11 56324 443",
        "PROXY TCP4",
    ],
)
def test_a_line_that_says_no_ends(line: str) -> None:
    """It is no line of the protocol, and refused."""
    with pytest.raises(ValueError, match="line of the PROXY protocol"):
        read_header(f"{line}\r\n".encode().ljust(15))


def test_a_long_header() -> None:
    """Its size is refused before it has come."""
    with pytest.raises(ValueError, match=f"{16 + 0xFFFF} bytes; {LONGEST}"):
        read_header(SIGNATURE + b"\x21\x11\xff\xff")


def test_the_health_check_of_a_balancer() -> None:
    """LOCAL, and families that are not TCP's, tell no ends: those of the connection count."""
    for head in (b"\x20\x11", b"\x21\x31"):
        assert read_header(SIGNATURE + head + b"\0\x0c" + bytes(12)) == Header(None)
    with accepted(socket.AF_UNIX, "", "") as sock:
        assert ends_of(sock) is None
    four = ipaddress.ip_address("192.168.0.1")
    assert str(Ends((four, 1), (four, 2))) == "192.168.0.1:1"
