"""Netlink sockets; no other code opens AF_NETLINK.

The kernel carries out a request within ``send``: its answer waits in the socket when ``send`` returns, so a request
needs no event loop.  Notifications have a socket of their own, so that an overrun of their queue cannot lose an answer.

Both kinds are connected to the kernel.  A process with CAP_NET_ADMIN in the user namespace of a network namespace, such
as root of a container, may send messages to any netlink socket in it, and could otherwise answer in the kernel's place.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Protocol

from hsframework.errors import HsframeworkError, MessageError, errno_name
from hsframework.netlink.messages import (
    NLM_F_ACK,
    NLM_F_REQUEST,
    NLMSG_DONE,
    Message,
    sequence_of,
    split,
    type_of,
)

NETLINK_GENERIC = 16
SOL_NETLINK = 270
NETLINK_ADD_MEMBERSHIP = 1
NETLINK_DROP_MEMBERSHIP = 2
NETLINK_NO_ENOBUFS = 5
NETLINK_LIST_MEMBERSHIPS = 9
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
SO_RCVBUFFORCE = 33
SO_NETNS_COOKIE = 71
NLM_F_DUMP = 0x300

ANSWER_TIMEOUT = 5.0
"""Seconds to wait for the kernel's answer."""
_RECEIVE_SIZE = 64 * 1024
_NOTIFICATION_QUEUE = 8 * 1024 * 1024
_NOTIFICATIONS_AT_ONCE = 4096
_MEMBERSHIP_BYTES = 128
"""Room for 1024 groups."""
_KERNEL = (0, 0)
"""Netlink address of the kernel: port and groups."""


class NetlinkError(HsframeworkError):
    """A request that the kernel refused or did not answer, with its errno and, if it gave one, its text."""


class Codec(Protocol):
    """The methods of a codec that a :class:`RequestSocket` uses, for example of a MessageCodec."""

    def encode(self, operation: str, values: Mapping[str, Any], *, sequence: int = 0, flags: int = 0) -> bytes: ...

    def decode(self, data: bytes) -> Message: ...


class RequestSocket:
    """A socket for requests and their answers, in the network namespace of the calling thread.

    Not for several threads.  ``protocol``: the netlink family, for example 16, generic netlink.  Raises NetlinkError;
    EPROTONOSUPPORT if the kernel has no such family.
    """

    def __init__(self, protocol: int) -> None:
        self._begin(_open(protocol))

    @classmethod
    def adopt(cls, sock: socket.socket) -> RequestSocket:
        """Make a RequestSocket of a netlink socket that was opened elsewhere, and take over its ownership."""
        adopted = cls.__new__(cls)
        adopted._begin(sock)
        return adopted

    def _begin(self, sock: socket.socket) -> None:
        self._socket = sock
        self._socket.settimeout(ANSWER_TIMEOUT)
        self._numbers = count(1)

    def request(
        self, codec: Codec, operation: str, values: Mapping[str, Any], *, acknowledge: bool = False
    ) -> list[Message]:
        """Send one request and return its answers, without the acknowledgement.

        Raises NetlinkError, and the codec's MessageError.
        """
        return self._exchange(codec, operation, values, NLM_F_REQUEST | (NLM_F_ACK if acknowledge else 0), one=True)

    def dump(self, codec: Codec, operation: str, values: Mapping[str, Any]) -> list[Message]:
        """Send a request for a table (NLM_F_DUMP) and return all its entries.

        Raises NetlinkError, and the codec's MessageError.
        """
        return self._exchange(codec, operation, values, NLM_F_REQUEST | NLM_F_DUMP, one=False)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _exchange(
        self, codec: Codec, operation: str, values: Mapping[str, Any], flags: int, *, one: bool
    ) -> list[Message]:
        sequence = next(self._numbers) & 0xFFFFFFFF
        self._send(codec.encode(operation, values, sequence=sequence, flags=flags))
        answers: list[Message] = []
        wants_acknowledgement = bool(flags & NLM_F_ACK)
        while True:
            for data in self._receive():
                if sequence_of(data) != sequence:
                    continue
                if type_of(data) == NLMSG_DONE:
                    return answers
                message = codec.decode(data)
                if message.error:
                    text = message.values.get("message") or os.strerror(message.error)
                    raise NetlinkError(f"the kernel refuses {operation}: {text}", errno=message.error)
                if message.error == 0:
                    return answers
                answers.append(message)
            if one and not wants_acknowledgement and answers:
                return answers

    def _send(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except OSError as error:
            number = error.errno or errno.EIO
            raise NetlinkError(f"the kernel takes no request ({errno_name(number)})", errno=number) from None

    def _receive(self) -> Iterator[bytes]:
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except TimeoutError:
            raise NetlinkError("the kernel does not answer", errno=errno.ETIMEDOUT) from None
        except OSError as error:
            raise NetlinkError(
                f"the kernel's answer is lost ({error.strerror})", errno=error.errno or errno.EIO
            ) from None
        if len(data) == _RECEIVE_SIZE:
            raise MessageError("an answer of the kernel's is too long")
        return split(data)


def has_family(protocol: int) -> bool:
    """Return True if the kernel serves this netlink family in our network namespace.

    Reads /proc/thread-self/net/netlink, because opening a socket of a missing family makes the kernel run modprobe.
    """
    try:
        with open("/proc/thread-self/net/netlink", encoding="ascii") as table:
            return any(line.split()[1] == str(protocol) for line in table)
    except OSError:
        return False


class NotificationSocket:
    """A socket for multicast groups and the notifications in them.

    After an overrun, notifications are lost, and the kernel does not count the socket as a listener until its queue is
    empty.  NETLINK_NO_ENOBUFS prevents the latter, a large queue makes overruns rare, :meth:`drain` empties the queue.
    Raises NetlinkError.
    """

    def __init__(self, protocol: int) -> None:
        self._socket = _open(protocol)
        self._prepare()

    @classmethod
    def adopt(cls, fd: int, protocol: int) -> NotificationSocket:
        """Go on with a socket of another process, its memberships and what waits in it.  Takes the fd over.

        Raises NetlinkError if it is none of this netlink family and of our network namespace.
        """
        adopted = cls.__new__(cls)
        try:
            adopted._socket = socket.socket(fileno=fd)
        except OSError as error:
            os.close(fd)
            raise NetlinkError(f"fd {fd}, which was passed: {error.strerror}", errno=errno.ENOTSOCK) from None
        try:
            check_same_kind(adopted._socket, protocol)
        except BaseException:
            adopted.close()
            raise
        adopted._prepare()
        return adopted

    def _prepare(self) -> None:
        self._socket.setblocking(False)
        for level, option, value in (
            (socket.SOL_SOCKET, SO_RCVBUFFORCE, _NOTIFICATION_QUEUE),
            (SOL_NETLINK, NETLINK_NO_ENOBUFS, 1),
        ):
            try:
                self._socket.setsockopt(level, option, value)
            except PermissionError:
                # Without CAP_NET_ADMIN joining a group fails too, and reports it.
                break

    def fileno(self) -> int:
        """Return the fd, for the event loop: readable when notifications wait."""
        return self._socket.fileno()

    def memberships(self) -> frozenset[int]:
        """Return the numbers of the groups that were joined.  Raises NetlinkError."""
        try:
            words = self._socket.getsockopt(SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, _MEMBERSHIP_BYTES)
        except OSError as error:
            number = error.errno or errno.EIO
            raise NetlinkError(f"memberships: {errno_name(number)}", errno=number) from None
        bits = int.from_bytes(words, sys.byteorder)
        return frozenset(number + 1 for number in range(bits.bit_length()) if bits >> number & 1)

    def join(self, group: int) -> None:
        """Join a group by its number.  Raises NetlinkError."""
        self._membership(NETLINK_ADD_MEMBERSHIP, group)

    def leave(self, group: int) -> None:
        """Leave a group by its number.  Raises NetlinkError."""
        self._membership(NETLINK_DROP_MEMBERSHIP, group)

    def drain(self) -> list[bytes]:
        """Return the kernel's messages that wait, of at most 4096 datagrams.  Raises NetlinkError."""
        messages: list[bytes] = []
        for _ in range(_NOTIFICATIONS_AT_ONCE):
            try:
                data, sender = self._socket.recvfrom(_RECEIVE_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    number = error.errno or errno.EIO
                    raise NetlinkError(f"notifications: {errno_name(number)}", errno=number) from None
                continue
            # Processes may send to a group too, if they are allowed to.
            if sender[0] == _KERNEL[0]:
                messages.extend(split(data))
        return messages

    def close(self) -> None:
        """Leave every group and close the socket."""
        self._socket.close()

    def _membership(self, option: int, group: int) -> None:
        try:
            self._socket.setsockopt(SOL_NETLINK, option, group)
        except OSError as error:
            number = error.errno or errno.EIO
            raise NetlinkError(f"membership of group {group}: {errno_name(number)}", errno=number) from None


def open_netlink(protocol: int) -> socket.socket:
    """Open a netlink socket in the network namespace of the calling thread.  Raises NetlinkError.

    It is for :meth:`RequestSocket.adopt`, here or in another process.
    """
    return _open(protocol)


def check_same_kind(sock: socket.socket, protocol: int) -> None:
    """Raise NetlinkError unless a socket has this netlink family and is in our network namespace."""
    if sock.family != socket.AF_NETLINK or sock.proto != protocol:
        raise NetlinkError(f"a socket that was passed is none of netlink family {protocol}", errno=errno.EPROTOTYPE)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
        try:
            cookies = {each.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8) for each in (sock, own)}
        except OSError as error:
            raise NetlinkError(
                f"the namespace of a socket is not told: {error.strerror}", errno=error.errno or errno.EIO
            ) from None
    if len(cookies) != 1:
        raise NetlinkError("a socket that was passed is in another network namespace", errno=errno.EXDEV)


def _open(protocol: int) -> socket.socket:
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        number = error.errno or errno.EIO
        raise NetlinkError(f"netlink family {protocol}: {error.strerror}", errno=number) from None
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
        sock.setsockopt(SOL_NETLINK, option, 1)
    sock.bind((0, 0))
    sock.connect(_KERNEL)
    return sock
