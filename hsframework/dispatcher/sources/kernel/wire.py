"""Interface of the forms of the service: READY, ACCEPT and DONE over netlink, without their meaning.

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
"""Errors of a request whose family has gone."""


class Wire(ABC):
    """Form of the service in one network namespace.  Raises what :class:`RequestSocket` raises, and OSError.

    Every call may raise NetlinkError; an errno in :data:`GONE` means that the service has gone.
    """

    def __init__(self, requests: RequestSocket, protocol: int, specification: Specification, message_type: int) -> None:
        self._requests = requests
        self._codec = KernelCodec(specification, message_type=message_type)
        self._notifications = NotificationSocket(protocol)

    def fileno(self) -> int:
        """Return the fd of the announcements, which is readable when there is one."""
        return self._notifications.fileno()

    def drain(self) -> None:
        """Read every announcement.  They have no content: there is something to accept."""
        self._notifications.drain()

    def join(self, group: str) -> None:
        """Join the group."""
        self._notifications.join(self._group(group))

    def leave(self, group: str) -> None:
        """Leave the group."""
        self._notifications.leave(self._group(group))

    def close(self) -> None:
        """Leave every group and close the sockets."""
        self._notifications.close()
        self._requests.close()

    @abstractmethod
    def _group(self, group: str) -> int:
        """Return the number of the multicast group."""

    @abstractmethod
    def accept(self, group: str) -> Mapping[str, Any] | None:
        """Return the next request of the group, or None: its attribute set ``accept``, whose ``sockfd`` is ours."""

    @abstractmethod
    def done(self, fd: int, status: int, peers: Sequence[int]) -> None:
        """Send DONE and wait for its acknowledgement.  ``peers``: serials of keys.  ``fd`` stays the caller's."""
