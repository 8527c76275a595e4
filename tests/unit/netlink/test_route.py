"""rtnetlink, asked on this machine, and what its answers may not be."""

from __future__ import annotations

import socket
import struct

import pytest

from hsframework.errors import MessageError
from hsframework.netlink.route import NETLINK_ROUTE, RouteCodec, route_interface
from hsframework.netlink.socket import NetlinkError, RequestSocket, open_netlink


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_the_loopback_interface(family: socket.AddressFamily) -> None:
    """A connection over loopback is routed over `lo`; also one of IPv4 in an IPv6 socket."""
    host = "127.0.0.1" if family is socket.AF_INET else "::1"
    route = RequestSocket(NETLINK_ROUTE)
    try:
        with socket.create_server((host, 0), family=family) as listener:
            address = listener.getsockname()
            with socket.create_connection(address[:2]) as client:
                assert route_interface(route, client) == socket.if_nametoindex("lo")
    finally:
        route.close()


def test_ipv4_mapped() -> None:
    """IPv4 over a socket of both families."""
    route = RequestSocket.adopt(open_netlink(NETLINK_ROUTE))
    try:
        with (
            socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener,
            socket.create_connection(("127.0.0.1", listener.getsockname()[1])),
        ):
            server, _ = listener.accept()
            with server:
                assert route_interface(route, server) == socket.if_nametoindex("lo")
    finally:
        route.close()


def test_a_socket_without_a_peer() -> None:
    """OSError, as getpeername gives it; nothing is asked."""
    route = RequestSocket(NETLINK_ROUTE)
    try:
        with socket.socket() as sock, pytest.raises(OSError, match="not connected"):
            route_interface(route, sock)
    finally:
        route.close()


def test_no_route() -> None:
    """The kernel's own errno."""
    route = RequestSocket(NETLINK_ROUTE)
    values = {"family": 255, "source": bytes(4), "destination": bytes(4), "interface": 0, "mark": 0}
    try:
        with pytest.raises(NetlinkError):
            route.request(RouteCodec(), "getroute", values)
    finally:
        route.close()


def _answer(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


@pytest.mark.parametrize(
    "data",
    [_answer(24, bytes(12)), _answer(25, bytes(20)), _answer(24, bytes(4)), _answer(24, bytes(12) + b"\6\0\4\0ab\0\0")],
    ids=["no interface", "another type", "cut off", "a short interface"],
)
def test_answers_that_make_no_sense(data: bytes) -> None:
    """MessageError."""
    with pytest.raises(MessageError):
        RouteCodec().decode(data)
