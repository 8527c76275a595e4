"""Look-up of the sockets of a netlink family and of their multicast groups (sock_diag(7), ``linux/netlink_diag.h``).

The kernel names sockets and no process.  A socket has an inode, by which :mod:`hsframework.netlink.holders` finds the
processes that have it open, and a port, which names a process by convention alone.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hsframework.errors import MessageError
from hsframework.netlink.attributes import walk
from hsframework.netlink.messages import NLMSG_ERROR, Message, body_of, decode_error, framed, sequence_of, type_of
from hsframework.netlink.socket import NetlinkError, RequestSocket

NETLINK_SOCK_DIAG = 4
SOCK_DIAG_BY_FAMILY = 20
_SHOW_GROUPS = 2
_GROUPS = 1

# struct netlink_diag_req: u8 family, u8 protocol, u16, u32 inode, u32 show, u32 cookie[2]
_REQUEST = struct.Struct("=BBHIIII")
# struct netlink_diag_msg: u8 family, type, protocol, state, u32 port, destination's port and group, inode, cookie[2]
_ANSWER = struct.Struct("=BBBBIIIIII")
_LONG = struct.Struct("@L")


@dataclass(frozen=True, slots=True)
class NetlinkSocket:
    """A netlink socket of any process.

    ``port``: its netlink address, 0 for one of the kernel's own and for one that is not bound.  ``groups``: bit
    ``n - 1`` is set for a member of group ``n``.
    """

    port: int
    inode: int
    groups: int

    def in_group(self, number: int) -> bool:
        """Return True if it is a member of the group."""
        return bool(self.groups >> (number - 1) & 1)


class MembersCodec:
    """A codec for the dump of a family's sockets, for use with one RequestSocket.dump.

    ``most``: the number of sockets at which the dump is given up, with NetlinkError E2BIG; None: no limit.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._seen = 0

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes:
        """Encode the request.  ``values``: ``protocol``, the number of the netlink family."""
        body = _REQUEST.pack(socket.AF_NETLINK, values["protocol"], 0, 0, _SHOW_GROUPS, 0, 0)
        return framed(SOCK_DIAG_BY_FAMILY, body, sequence=sequence, flags=flags)

    def decode(self, data: bytes) -> Message:
        """Decode an error, or ``socket``: a NetlinkSocket.  Raises MessageError, and NetlinkError E2BIG."""
        if type_of(data) == NLMSG_ERROR:
            return decode_error(data)
        body = body_of(data, SOCK_DIAG_BY_FAMILY, _ANSWER.size, "sock_diag")
        self._seen += 1
        if self._most is not None and self._seen > self._most:
            raise NetlinkError(f"the family has more than {self._most} sockets", errno=errno.E2BIG)
        _, _, _, _, port, _, _, inode, _, _ = _ANSWER.unpack_from(body)
        attributes = dict(walk(body[_ANSWER.size :]))
        groups = _bits(attributes.get(_GROUPS, b""))
        return Message("socket", {"socket": NetlinkSocket(port, inode, groups)}, sequence_of(data))


def netlink_sockets(diag: RequestSocket, protocol: int, *, most: int | None = None) -> list[NetlinkSocket]:
    """Return the sockets of a netlink family that are members of a group, each once.

    ``diag``: a socket of the family NETLINK_SOCK_DIAG, in the network namespace that is meant; not to be used again
    after an error.  ``most``: see :class:`MembersCodec`.  Raises NetlinkError: ENOENT if the kernel has no
    CONFIG_NETLINK_DIAG.
    """
    try:
        messages = diag.dump(MembersCodec(most), "sockets", {"protocol": protocol})
    except NetlinkError as error:
        if error.errno == errno.ENOENT:
            raise NetlinkError("this kernel has no CONFIG_NETLINK_DIAG", errno=errno.ENOENT) from None
        raise
    # The kernel lists a member twice: in its table of all sockets, and in its list of members.
    found = {message.values["socket"].inode: message.values["socket"] for message in messages}
    return [each for each in found.values() if each.groups]


def _bits(bitmap: bytes) -> int:
    """Return the bitmap, an array of the kernel's ``unsigned long``, as one number."""
    if len(bitmap) % _LONG.size:
        raise MessageError(f"sock_diag's answer has {len(bitmap)} bytes of groups")
    words = (word for (word,) in _LONG.iter_unpack(bitmap))
    return sum(word << 8 * _LONG.size * index for index, word in enumerate(words))
