"""The interface of a form of the service: READY, ACCEPT and DONE over netlink, without their meaning.

Both forms have one socket for requests and another for notifications, in the network namespace in which they were
opened.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hsframework.netlink.socket import Codec, NotificationSocket, RequestSocket

GONE = frozenset({errno.ENOENT, errno.ECONNREFUSED, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP})
"""The errnos of a request whose netlink family is gone."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request as ACCEPT returns it.

    ``values``: the attribute set ``accept`` of the spec ``handshake-raw``, which includes that of ``handshake``; its
    ``sockfd`` is the caller's.  ``mechanism``: the attributes of the mechanism's own, encoded.  ``dialect``: the one of
    its DONE, for a form that has several.
    """

    values: Mapping[str, Any]
    mechanism: bytes = b""
    dialect: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """The arguments of DONE.

    ``status``: 0 or a positive errno.  ``peers``: serials of the keys that name the peer.  ``mechanism``: attributes of
    the mechanism's own, encoded, which a form without any leaves out.  ``dialect``: that of the ACCEPT; empty: unknown,
    because an earlier dispatcher took the request, which then fails.
    """

    status: int
    peers: Sequence[int] = ()
    mechanism: bytes = field(default=b"", repr=False)
    dialect: str = ""


class Wire(ABC):
    """One form in one network namespace.  To make one raises NetlinkError or OSError.

    Every call may raise NetlinkError; an errno in :data:`GONE` means that the service is gone.
    """

    def __init__(self, requests: RequestSocket, protocol: int, codec: Codec) -> None:
        self._requests = requests
        self._codec = codec
        self._notifications = NotificationSocket(protocol)

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

    def close(self) -> None:
        """Leave every group and close the sockets."""
        self._notifications.close()
        self._requests.close()

    @abstractmethod
    def _group(self, group: str) -> int:
        """Return the number of the multicast group.  Raises NetlinkError with EINVAL for an unknown one."""

    @abstractmethod
    def accept(self, group: str) -> Accepted | None:
        """Return the next request of the group, or None if none waits or none is handed over at present."""

    @abstractmethod
    def done(self, fd: int, ending: Ending) -> None:
        """Complete a request, and wait for the acknowledgement.  ``fd`` stays open and the caller's."""
