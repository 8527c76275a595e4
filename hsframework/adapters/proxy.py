"""The header of the PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2), which tells a server the peer's
address: written for the server behind a forwarder, and read from a balancer before it.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from dataclasses import dataclass

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LONGEST = 16 + 4096
"""Bytes of a header that is read at most; version 2 could have 65,551."""

_VERSION_2, _LOCAL, _PROXY = 0x20, 0, 1
_TCP_4, _TCP_6 = 0x11, 0x21
_TYPE_ALPN = 0x01
_LONGEST_1 = 107
_FIXED_2 = 16
_SHORTEST = len(b"PROXY UNKNOWN\r\n")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True, slots=True)
class Ends:
    """Both ends of a TCP connection, each an address and a port: the peer's, and the one that it has connected to."""

    source: tuple[Address, int]
    target: tuple[Address, int]

    def __str__(self) -> str:
        address, port = self.source
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"


@dataclass(frozen=True, slots=True)
class Header:
    """A header that was read.  ``ends``: None: those of the connection itself count."""

    ends: Ends | None


def ends_of(accepted: socket.socket) -> Ends | None:
    """Return the ends of a connection that was accepted; None: it is not TCP's.  Raises OSError if the peer is gone."""
    if accepted.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    peer, own = accepted.getpeername(), accepted.getsockname()
    return Ends(_plain(peer[0], peer[1]), _plain(own[0], own[1]))


def proxy_header(version: int, ends: Ends | None, alpn: str | None = None) -> bytes:
    """Return the header; ``ends``: None: they are told as unknown.  ``alpn`` is told in version 2 alone.

    Raises ValueError for another version.
    """
    if version not in (1, 2):
        raise ValueError(f"there is no PROXY protocol {version}")
    return _version_1(ends) if version == 1 else _version_2(ends, alpn)


def read_header(data: bytes) -> Header | int:
    """Read a header, of which ``data`` is all that has come; or return the number of bytes that are missing at least.

    Raises ValueError for what is no header, for one above :data:`LONGEST`, and for bytes behind it.
    """
    if len(data) < _SHORTEST:
        return _SHORTEST - len(data)
    if data.startswith(SIGNATURE):
        return _read_2(data)
    if not data.startswith(b"PROXY "):
        raise ValueError("the connection does not begin with a header of the PROXY protocol")
    if b"\r\n" in data:
        return Header(_read_1(data.removesuffix(b"\r\n")))
    if len(data) >= _LONGEST_1:
        raise ValueError("the line of the PROXY protocol does not end")
    return 1


def _plain(host: str, port: int) -> tuple[Address, int]:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address), port


def _version_1(ends: Ends | None) -> bytes:
    if ends is None:
        return b"PROXY UNKNOWN\r\n"
    (source, from_port), (target, to_port) = ends.source, ends.target
    return f"PROXY TCP{source.version} {source} {target} {from_port} {to_port}\r\n".encode("ascii")


def _version_2(ends: Ends | None, alpn: str | None) -> bytes:
    if ends is None:
        return SIGNATURE + struct.pack(">BBH", _VERSION_2 | _LOCAL, 0, 0)
    (source, from_port), (target, to_port) = ends.source, ends.target
    body = source.packed + target.packed + struct.pack(">HH", from_port, to_port)
    if alpn is not None:
        name = alpn.encode(errors="surrogateescape")
        body += struct.pack(">BH", _TYPE_ALPN, len(name)) + name
    family = _TCP_4 if source.version == 4 else _TCP_6
    return SIGNATURE + struct.pack(">BBH", _VERSION_2 | _PROXY, family, len(body)) + body


def _read_1(line: bytes) -> Ends | None:
    words = line.decode("ascii", "replace").split(" ")
    if words[1] == "UNKNOWN":
        return None
    try:
        kind, source, target, from_port, to_port = words[1:]
        ends = Ends((ipaddress.ip_address(source), _port(from_port)), (ipaddress.ip_address(target), _port(to_port)))
    except ValueError:
        raise ValueError("the line of the PROXY protocol has no two addresses and ports") from None
    if {f"TCP{address.version}" for address, _ in (ends.source, ends.target)} != {kind}:
        raise ValueError("the line of the PROXY protocol says another family than its addresses")
    return ends


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF):
        raise ValueError(text)
    return int(text)


def _read_2(data: bytes) -> Header | int:
    if len(data) < _FIXED_2:
        return _FIXED_2 - len(data)
    command, family, size = data[12], data[13], int.from_bytes(data[14:16], "big")
    whole = _FIXED_2 + size
    if command & 0xF0 != _VERSION_2 or command & 0x0F not in (_LOCAL, _PROXY):
        raise ValueError(f"version and command 0x{command:02x} of the PROXY protocol are not known")
    if whole > LONGEST:
        raise ValueError(f"the header of the PROXY protocol has {whole} bytes; {LONGEST} are read at most")
    if len(data) < whole:
        return whole - len(data)
    if len(data) > whole:
        raise ValueError("bytes behind the header of the PROXY protocol")
    if command & 0x0F == _LOCAL or family not in (_TCP_4, _TCP_6):
        return Header(None)
    width = 4 if family == _TCP_4 else 16
    if size < 2 * width + 4:
        raise ValueError("the header of the PROXY protocol is too short for its addresses")
    body = data[_FIXED_2:whole]
    from_port, to_port = struct.unpack_from(">HH", body, 2 * width)
    source, target = (ipaddress.ip_address(body[at : at + width]) for at in (0, width))
    return Header(Ends((source, from_port), (target, to_port)))
