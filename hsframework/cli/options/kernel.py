"""Features of the running kernel, for ``doctor``."""

from __future__ import annotations

from pathlib import Path

from hsframework.netlink import socket as netlink_socket
from hsframework.netlink.control import find_family
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, RequestSocket
from hsframework.netlink.spec import builtin_specification

ULP = Path("/proc/sys/net/ipv4/tcp_available_ulp")


def has_family(name: str) -> bool | None:
    """Return True if the kernel has a generic netlink family of this name; None if it cannot be asked."""
    try:
        sock = RequestSocket(NETLINK_GENERIC)
        try:
            return find_family(sock, name) is not None
        finally:
            sock.close()
    except NetlinkError:
        return None


def has_raw_form() -> bool:
    """Return True if a kernel module offers the raw-netlink form of the service."""
    return netlink_socket.has_family(builtin_specification("handshake-raw").protonum or 0)


def has_ktls() -> bool | None:
    """Return True if the upper-layer protocol ``tls`` is loaded or built in; None if the kernel cannot be asked."""
    try:
        return "tls" in ULP.read_text().split()
    except OSError:
        return None
