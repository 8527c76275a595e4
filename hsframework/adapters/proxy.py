"""The header of the PROXY protocol (HAProxy's proxy-protocol.txt, versions 1 and 2), by which a server behind a
forwarder is told the peer's address.
"""

from __future__ import annotations

import ipaddress
import socket
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_VERSION_2, _LOCAL, _PROXY = 0x20, 0, 1
_TCP_4, _TCP_6 = 0x11, 0x21
_TYPE_ALPN = 0x01


def proxy_header(version: int, accepted: socket.socket, alpn: str | None = None) -> bytes:
    """Return the header for a connection that was accepted; ``alpn`` is told in version 2 alone.

    A connection that is not TCP's is told as unknown.  Raises OSError for a connection whose peer has gone, ValueError
    for another version.
    """
    if version not in (1, 2):
        raise ValueError(f"there is no PROXY protocol {version}")
    tcp = accepted.family in (socket.AF_INET, socket.AF_INET6)
    ends = [_plain(name[0], name[1]) for name in (accepted.getpeername(), accepted.getsockname())] if tcp else []
    if version == 1:
        return _version_1(ends)
    return _version_2(ends, alpn)


Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def _plain(host: str, port: int) -> tuple[Address, int]:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address), port


def _version_1(ends: list[tuple[Address, int]]) -> bytes:
    if not ends:
        return b"PROXY UNKNOWN\r\n"
    (source, from_port), (target, to_port) = ends
    return f"PROXY TCP{source.version} {source} {target} {from_port} {to_port}\r\n".encode("ascii")


def _version_2(ends: list[tuple[Address, int]], alpn: str | None) -> bytes:
    if not ends:
        return SIGNATURE + struct.pack(">BBH", _VERSION_2 | _LOCAL, 0, 0)
    (source, from_port), (target, to_port) = ends
    body = source.packed + target.packed + struct.pack(">HH", from_port, to_port)
    if alpn is not None:
        name = alpn.encode(errors="surrogateescape")
        body += struct.pack(">BH", _TYPE_ALPN, len(name)) + name
    family = _TCP_4 if source.version == 4 else _TCP_6
    return SIGNATURE + struct.pack(">BBH", _VERSION_2 | _PROXY, family, len(body)) + body
