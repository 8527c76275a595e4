"""The kernel's network block devices (generic netlink family ``nbd``): begin, end, lost and new connections.

The kernel takes a reference to a socket, so the caller may close it and end.  It sends and receives in it as any
program: a session must be in the socket (kTLS), and nobody else may read from it.
"""

from __future__ import annotations

import errno
import select
import socket
from pathlib import Path

from hsframework.netlink.control import Family, find_family
from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, NotificationSocket, RequestSocket
from hsframework.netlink.spec import load_specification
from hsframework_nbd.negotiation import Export

SPECIFICATION = load_specification(Path(__file__).with_name("specs") / "nbd.yaml")
LOOK = 1.0
"""Seconds between two looks whether a device is there."""

DEAD_TIME = 60
"""Seconds that requests wait for a new connection."""


class Devices:
    """The kernel's side.  Raises NetlinkError, from every method too: EOPNOTSUPP if the module nbd is not loaded."""

    def __init__(self) -> None:
        self._socket = RequestSocket(NETLINK_GENERIC)
        family = find_family(self._socket, "nbd")
        if family is None:
            raise NetlinkError("the kernel has no nbd; load its module", errno=errno.EOPNOTSUPP)
        self.family: Family = family
        self.codec = KernelCodec(SPECIFICATION, message_type=family.number)

    def begin(self, sock: socket.socket, export: Export, *, index: int | None = None) -> int:
        """Make a device of a connection, and return its index.  None: the next free one."""
        values = {
            "size-bytes": export.size,
            "block-size-bytes": export.block_size,
            "server-flags": export.flags,
            "dead-conn-timeout": DEAD_TIME,
            "sockets": {"item": [{"fd": sock.fileno()}]},
        }
        if index is not None:
            values["index"] = index
        (answer,) = self._socket.request(self.codec, "connect", values)
        return int(answer.values["index"])

    def use(self, index: int, sock: socket.socket) -> None:
        """Give a device a new connection in the place of one that is dead.  Raises NetlinkError; ENOSPC: none is."""
        values = {"index": index, "sockets": {"item": [{"fd": sock.fileno()}]}}
        self._socket.request(self.codec, "reconfigure", values, acknowledge=True)

    def end(self, index: int) -> None:
        """Disconnect a device."""
        self._socket.request(self.codec, "disconnect", {"index": index}, acknowledge=True)

    def close(self) -> None:
        """Close the netlink socket; devices stay."""
        self._socket.close()


class LostConnections:
    """The kernel's notifications of connections that are dead."""

    def __init__(self, devices: Devices) -> None:
        self._codec = devices.codec
        self._socket = NotificationSocket(NETLINK_GENERIC)
        self._socket.join(devices.family.groups["nbd_mc_group"])

    def wait(self, index: int) -> bool:
        """Block until a connection of this device is dead.  Return False if the device has ended."""
        while Path(f"/sys/block/nbd{index}/pid").exists():
            # The end of a device is not notified.
            select.select([self._socket], [], [], LOOK)
            for data in self._socket.drain():
                message = self._codec.decode(data)
                if message.operation == "link-dead" and message.values.get("index") == index:
                    return True
        return False

    def close(self) -> None:
        """Leave the group."""
        self._socket.close()
