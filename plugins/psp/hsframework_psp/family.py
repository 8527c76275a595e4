"""The kernel's generic netlink family ``psp`` (Linux 6.18), over a socket in one network namespace.

Everything here works without a capability.  A device is seen from its own namespace and from those of the interfaces
that are associated with it.
"""

from __future__ import annotations

import errno
import sys
from dataclasses import dataclass
from typing import Any

from hsframework.interface import Secret
from hsframework.netlink.control import Family, find_family
from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.psp import sends_protected
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, NotificationSocket, RequestSocket
from hsframework.netlink.spec import builtin_specification
from hsframework_psp.keys import Grant, Key
from hsframework_psp.versions import Version, versions_of


class NoPsp(NetlinkError):
    """The error of a kernel without PSP."""


@dataclass(frozen=True, slots=True)
class KernelDeviceFacts:
    """A device.  ``interfaces``: indices, in the asking namespace, of the interfaces whose packets it can protect."""

    id: int
    interfaces: frozenset[int]
    capable: frozenset[Version]
    enabled: frozenset[Version]


class PspFamily:
    """Requests to the family.  Raises NoPsp where the kernel has none, NetlinkError for the kernel's refusals."""

    def __init__(self, sock: RequestSocket | None = None) -> None:
        self._socket = sock or RequestSocket(NETLINK_GENERIC)
        try:
            family = find_family(self._socket, "psp")
            if family is None:
                raise NoPsp("this kernel has no PSP (CONFIG_INET_PSP, Linux 6.18)", errno=errno.EOPNOTSUPP)
        except BaseException:
            self._socket.close()
            raise
        self._family = family
        self._codec = _codec(family)

    def close(self) -> None:
        """Close the netlink socket."""
        self._socket.close()

    def __enter__(self) -> PspFamily:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def devices(self) -> list[KernelDeviceFacts]:
        """Return the devices that this namespace has."""
        return [_facts(message.values) for message in self._socket.dump(self._codec, "dev-get", {})]

    def enable(self, device: int, versions: frozenset[Version]) -> None:
        """Set the enabled versions; takes CAP_NET_ADMIN."""
        mask = sum(1 << version for version in versions)
        self._ask("dev-set", {"id": device, "psp-versions-ena": mask})

    def rotate(self, device: int) -> None:
        """Rotate the device key; takes CAP_NET_ADMIN."""
        self._ask("key-rotate", {"id": device})

    def associate_rx(self, device: int, version: Version, fd: int) -> Grant:
        """Make the socket's Rx association and return its grant."""
        values = self._ask("rx-assoc", {"dev-id": device, "version": int(version), "sock-fd": fd})
        keys = values.get("rx-key", {})
        secret, spi = keys.get("key"), keys.get("spi")
        if not isinstance(secret, Secret) or len(secret) < version.key_size or not spi:
            raise NetlinkError("the kernel's answer to rx-assoc has no key", errno=errno.EIO)
        return Grant(spi, Key(secret.reveal()[: version.key_size]))

    def associate_tx(self, device: int, version: Version, grant: Grant, fd: int) -> None:
        """Make the socket's Tx association.  EBUSY: plain data waits in the socket, or it has one already."""
        keys = {"key": Secret(grant.key.reveal()), "spi": grant.spi}
        self._ask("tx-assoc", {"dev-id": device, "version": int(version), "tx-key": keys, "sock-fd": fd})

    def sends_protected(self, fd: int) -> bool:
        """Return True if the socket sends under a Tx association.  A socket that does not is of no use afterwards."""
        return sends_protected(self._socket, fd)

    def statistics(self, device: int) -> dict[str, int]:
        """Return the device's counters by the kernel's names."""
        values = self._ask("get-stats", {"dev-id": device})
        return {name: int.from_bytes(value, sys.byteorder) for name, value in values.items() if name != "dev-id"}

    def rotation_notices(self) -> NotificationSocket:
        """Return a member of the group ``use``, in the calling thread's namespace."""
        sock = NotificationSocket(NETLINK_GENERIC)
        try:
            sock.join(self._family.groups["use"])
        except BaseException:
            sock.close()
            raise
        return sock

    def _ask(self, operation: str, values: dict[str, Any]) -> dict[str, Any]:
        answers = self._socket.request(self._codec, operation, values, acknowledge=True)
        return answers[0].values if answers else {}


def _codec(family: Family) -> KernelCodec:
    return KernelCodec(builtin_specification("psp"), message_type=family.number)


def _facts(values: dict[str, Any]) -> KernelDeviceFacts:
    here = not values.get("by-association", False)
    interfaces = {values["ifindex"]} if here and "ifindex" in values else set()
    # An associated interface of this namespace comes without a namespace's number of its own.
    interfaces |= {item["ifindex"] for item in values.get("assoc-list", ()) if item.get("nsid", -1) < 0}
    return KernelDeviceFacts(
        values["id"],
        frozenset(interfaces),
        versions_of(values.get("psp-versions-cap", 0)),
        versions_of(values.get("psp-versions-ena", 0)),
    )
