"""Features of the running kernel, for ``doctor``."""

from __future__ import annotations

from hsframework.netlink import socket as netlink_socket
from hsframework.netlink.control import find_family
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, RequestSocket
from hsframework.netlink.spec import builtin_specification
from hsframework.probes import No, NotSeen, Probe, Yes


def probe_family(name: str) -> Probe[None]:
    """Return whether the kernel has a generic netlink family of this name."""
    try:
        sock = RequestSocket(NETLINK_GENERIC)
        try:
            found = find_family(sock, name)
        finally:
            sock.close()
    except NetlinkError as error:
        return NotSeen(str(error))
    return No(f"the kernel has no netlink family {name!r}") if found is None else Yes(None)


def has_raw_form() -> bool:
    """Return True if a kernel module offers the raw-netlink form of the service."""
    return netlink_socket.has_family(builtin_specification("handshake-raw").protonum or 0)
