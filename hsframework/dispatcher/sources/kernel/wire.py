"""A form of the service: how READY, ACCEPT and DONE go over netlink, and nothing of what they mean.

Both forms have a socket for requests and one of its own for notifications, in the network namespace in which they were
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
"""What a request meets whose family is there no more."""


class Wire(ABC):
    """One form in one network namespace.  Made with what :class:`RequestSocket` raises, and OSErrors of its own.

    Every call may raise NetlinkError; one whose errno is in :data:`GONE` says that the service is there no more.
    """

    def __init__(self, requests: RequestSocket, protocol: int, specification: Specification, message_type: int) -> None:
        self._requests = requests
        self._codec = KernelCodec(specification, message_type=message_type)
        self._notifications = NotificationSocket(protocol)

    def fileno(self) -> int:
        """Readable when a request was announced."""
        return self._notifications.fileno()

    def drain(self) -> None:
        """Read every announcement: they say no more than that there is something to accept."""
        self._notifications.drain()

    def join(self, group: str) -> None:
        """Become a member of the group."""
        self._notifications.join(self._group(group))

    def leave(self, group: str) -> None:
        """Cease to be one."""
        self._notifications.leave(self._group(group))

    def close(self) -> None:
        """Leave every group and close the sockets."""
        self._notifications.close()
        self._requests.close()

    @abstractmethod
    def _group(self, group: str) -> int:
        """The number of the multicast group."""

    @abstractmethod
    def accept(self, group: str) -> Mapping[str, Any] | None:
        """The next request of the group: the attribute set ``accept``, its ``sockfd`` ours.  None: none waits."""

    @abstractmethod
    def done(self, fd: int, status: int, peers: Sequence[int]) -> None:
        """A request's end, acknowledged.  ``peers``: serials of keys.  ``fd`` stays open and the caller's."""
