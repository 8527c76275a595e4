"""The interface of a form of the service: READY, ACCEPT and DONE over netlink, without their meaning.

Both forms have one socket for requests and another for notifications, in the network namespace in which they were
opened.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.socket import NotificationSocket, RequestSocket
from hsframework.netlink.spec import Specification

GONE = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP})
"""The errnos of a request whose netlink family is gone."""


class Wire(ABC):
    """One form in one network namespace.  To make one raises NetlinkError or OSError.

    Every call may raise NetlinkError; an errno in :data:`GONE` means that the service is gone.
    """

    def __init__(self, requests: RequestSocket, protocol: int, specification: Specification, message_type: int) -> None:
        self._requests = requests
        self._codec = KernelCodec(specification, message_type=message_type)
        self._protocol = protocol
        self._notifications = NotificationSocket(protocol)

    def adopt(self, fd: int) -> None:
        """Go on with the notification socket of a predecessor, in place of the one that was opened.  Takes the fd over.

        To be called in the wire's namespace.  Raises NetlinkError for one that does not fit, and then nothing changes.
        """
        adopted = NotificationSocket.adopt(fd, self._protocol)
        self._notifications.close()
        self._notifications = adopted

    def is_member(self, group: str) -> bool:
        """True if the notification socket has joined the group."""
        return self._group(group) in self._notifications.memberships()

    def fileno(self) -> int:
        """Return the fd that is readable when a request was announced."""
        return self._notifications.fileno()

    def drain(self) -> None:
        """Read every announcement.  Each means that there may be something to accept, and no more."""
        self._notifications.drain()

    def join(self, group: str) -> None:
        """Join the group."""
        self._notifications.join(self._group(group))

    def leave(self, group: str) -> None:
        """Cease to be a member of the group."""
        self._notifications.leave(self._group(group))

    def number(self, group: str) -> int:
        """Return the number of the multicast group.  Raises NetlinkError."""
        return self._group(group)

    def close(self) -> None:
        """Leave every group and close the sockets."""
        self._notifications.close()
        self._requests.close()

    @abstractmethod
    def _group(self, group: str) -> int:
        """Return the number of the multicast group.  Raises NetlinkError with EINVAL for an unknown one."""

    @abstractmethod
    def accept(self, group: str) -> Mapping[str, Any] | None:
        """Return the next request of the group, or None if none waits.

        A request is the attribute set ``accept``; its ``sockfd`` is the caller's.
        """

    @abstractmethod
    def done(self, fd: int, status: int, peers: Sequence[int]) -> None:
        """Complete a request, and wait for the acknowledgement.  ``status``: 0 or a positive errno.

        ``peers``: serials of the keys that name the peer.  ``fd`` stays open and the caller's.
        """
