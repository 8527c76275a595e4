"""What the running kernel offers, for ``doctor``."""

from __future__ import annotations

from pathlib import Path

ULP = Path("/proc/sys/net/ipv4/tcp_available_ulp")


def has_family(name: str) -> bool | None:
    """Is there a generic netlink family of this name?  None: the kernel could not be asked."""
    from pyroute2.netlink import genlmsg
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket

    try:
        with GenericNetlinkSocket() as sock:
            sock.bind(name, genlmsg)
    except NetlinkError:
        return False
    except OSError:
        return None
    return True


def has_ktls() -> bool | None:
    """Is the ``tls`` upper-layer protocol loaded or built in?  None: the kernel could not be asked."""
    try:
        return "tls" in ULP.read_text().split()
    except OSError:
        return None
