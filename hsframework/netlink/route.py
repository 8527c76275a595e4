"""Look-up of the interface over which the kernel routes a connection (rtnetlink(7))."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from collections.abc import Mapping
from typing import Any

from hsframework.errors import MessageError
from hsframework.netlink.attributes import walk
from hsframework.netlink.messages import NLMSG_ERROR, Message, body_of, decode_error, framed, sequence_of, type_of
from hsframework.netlink.socket import NetlinkError, RequestSocket

NETLINK_ROUTE = 0
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTA_DST, RTA_SRC, RTA_OIF, RTA_MARK = 1, 2, 4, 16

# struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, u32 flags
_ROUTE = struct.Struct("=BBBBBBBBI")
_ATTRIBUTE = struct.Struct("=HH")


class RouteCodec:
    """A codec for RTM_GETROUTE and its answer, for use with a RequestSocket."""

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes:
        """Encode RTM_GETROUTE.

        ``values``: ``family``, ``source`` and ``destination`` (packed addresses), ``interface`` (index) and ``mark``,
        each 0 for none.
        """
        bits = len(values["destination"]) * 8
        body = _ROUTE.pack(values["family"], bits, bits, 0, 0, 0, 0, 0, 0)
        body += _attribute(RTA_DST, values["destination"]) + _attribute(RTA_SRC, values["source"])
        for kind, name in ((RTA_OIF, "interface"), (RTA_MARK, "mark")):
            if values[name]:
                body += _attribute(kind, struct.pack("=I", values[name]))
        return framed(RTM_GETROUTE, body, sequence=sequence, flags=flags)

    def decode(self, data: bytes) -> Message:
        """Decode the answer: an error, or ``interface`` (its index).  Raises MessageError."""
        if type_of(data) == NLMSG_ERROR:
            return decode_error(data)
        attributes = dict(walk(body_of(data, RTM_NEWROUTE, _ROUTE.size, "rtnetlink")[_ROUTE.size :]))
        interface = attributes.get(RTA_OIF, b"")
        if len(interface) != 4:
            raise MessageError("rtnetlink's answer has no interface")
        return Message("newroute", {"interface": struct.unpack("=I", interface)[0]}, sequence_of(data))


def route_interface(route: RequestSocket, sock: socket.socket) -> int:
    """Return the index of the interface over which ``sock`` reaches its peer.

    ``route``: rtnetlink in the network namespace of ``sock``.  ``sock``: connected, IPv4 or IPv6.  Raises NetlinkError
    if there is no route, OSError if the socket has no peer.
    """
    source, destination = (_packed(name) for name in (sock.getsockname(), sock.getpeername()))
    bound = sock.getsockopt(socket.SOL_SOCKET, _SO_BINDTOIFINDEX)
    scope = sock.getpeername()[3] if sock.family == socket.AF_INET6 else 0
    values = {
        "family": socket.AF_INET if len(destination) == 4 else socket.AF_INET6,
        "source": source,
        "destination": destination,
        "interface": bound or scope,
        "mark": sock.getsockopt(socket.SOL_SOCKET, socket.SO_MARK),
    }
    answers = route.request(RouteCodec(), "getroute", values)
    if not answers:
        raise NetlinkError("rtnetlink names no route", errno=errno.ENETUNREACH)
    return int(answers[0].values["interface"])


_SO_BINDTOIFINDEX = 62  # asm-generic/socket.h


def _packed(name: tuple[Any, ...]) -> bytes:
    """Pack the address of a socket name; an IPv4-mapped IPv6 address becomes IPv4."""
    address = ipaddress.ip_address(name[0].partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.packed
    return address.packed


def _attribute(kind: int, payload: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(size, kind) + payload + bytes(-size & 3)
