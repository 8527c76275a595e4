"""The sockets of one form in one network namespace, open while they are needed and not longer.

Open sockets keep the namespace alive, and a module that offers the service.  They are opened by the first call that
needs them; their owner closes them.  A service that is gone raises :class:`ServiceLost` out of every call but DONE.

The socket that is a member of groups is kept for a successor of this process (:mod:`hsframework.process.kept`): until
that one has read it, the kernel goes on announcing requests to it, and refuses none for want of a listener.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable

import structlog

from hsframework.dispatcher.sources.kernel.wire import GONE, Accepted, Ending, Wire
from hsframework.errors import HsframeworkError
from hsframework.netlink.socket import NetlinkError
from hsframework.process.kept import Kept, member_name

_log = structlog.get_logger("hsframework.dispatcher")


class ServiceLost(HsframeworkError):
    """Loss of the service: it is missing, has vanished, or does not allow us to use it."""


class Sockets:
    """A :class:`~hsframework.dispatcher.sources.kernel.wire.Wire` that comes and goes.

    ``open_wire``: opens the form in the namespace, and goes on with a predecessor's socket if there is one; raises
    HsframeworkError or OSError.  ``announced``: called by the loop when a request was announced.
    """

    def __init__(
        self,
        source: str,
        open_wire: Callable[[], Wire],
        announced: Callable[[], None],
        *,
        loop: asyncio.AbstractEventLoop,
        kept: Kept,
    ) -> None:
        self._source = source
        self._open_wire = open_wire
        self._announced = announced
        self._kept = kept
        self._kept_name = member_name(source)
        self._loop = loop
        self._wire: Wire | None = None
        self._problem = ""

    @property
    def inode(self) -> int | None:
        """Inode of the socket that is a member of groups; None: it is not open."""
        return None if self._wire is None else os.fstat(self._wire.fileno()).st_ino

    def held(self, groups: Iterable[str]) -> list[str]:
        """Return those of the groups that a predecessor had joined, of which we are a member still.

        Raises ServiceLost.
        """
        if self._kept_name not in self._kept.names():
            return []
        wire = self._opened()
        try:
            return [group for group in groups if wire.is_member(group)]
        except NetlinkError as error:
            raise _lost(error) from None

    def join(self, group: str) -> None:
        """Become a member of a group.  Raises ServiceLost, and NetlinkError when the membership is refused."""
        self._opened().join(group)
        self._problem = ""

    def leave(self, group: str) -> None:
        """Cease to be a member.  Raises ServiceLost."""
        try:
            self._open().leave(group)
        except NetlinkError as error:
            raise _lost(error) from None

    def number(self, group: str) -> int:
        """Return the number of a multicast group that was joined."""
        return self._open().number(group)

    def drain(self) -> None:
        """Read every announcement.  Raises ServiceLost."""
        try:
            self._open().drain()
        except HsframeworkError as error:
            raise _lost(error) from None

    def accept(self, group: str) -> Accepted | None:
        """Return the next request of the group, or None if none waits.

        Raises ServiceLost; NetlinkError with EINVAL when the service has no such group; HsframeworkError.
        """
        try:
            return self._open().accept(group)
        except HsframeworkError as error:
            if error.errno in GONE:
                raise _lost(error) from None
            raise

    def done(self, fd: int, ending: Ending) -> None:
        """Complete a request.  Raises HsframeworkError and OSError."""
        self._opened().done(fd, ending)

    def report(self, error: ServiceLost) -> None:
        """Log the reason once, until a group has been joined again."""
        if str(error) != self._problem:
            self._problem = str(error)
            _log.warning("the kernel's requests cannot be taken", source=self._source, reason=self._problem)

    def close(self) -> None:
        """Leave every group and close the sockets, if they are open."""
        if self._wire is not None:
            self._loop.remove_reader(self._wire.fileno())
            self._wire.close()
            self._wire = None
            self._kept.remove(self._kept_name)

    def _opened(self) -> Wire:
        """Return the wire, which is opened now if it is not open.  Raises ServiceLost."""
        if self._wire is None:
            try:
                wire = self._open_wire()
            except (HsframeworkError, OSError) as error:
                raise _lost(error) from None
            try:
                self._loop.add_reader(wire.fileno(), self._announced)
            except OSError as error:
                # One that is open and not watched would hear of no request.
                wire.close()
                raise _lost(error) from None
            self._wire = wire
            self._kept.put(self._kept_name, wire.fileno())
        return self._wire

    def _open(self) -> Wire:
        """Return the wire of a group that was joined: it is open until every group has been sent LOST."""
        assert self._wire is not None
        return self._wire


def _lost(error: Exception) -> ServiceLost:
    return ServiceLost(str(error))
