"""Waiting for sockets to become readable, on an epoll of the agent's own that the loop watches as one fd.

A socket in mid-handshake is waited for once or twice in its life, for which the loop's own ``add_reader`` does far too
much.  The rules:

* A socket is in the epoll while it is waited for, and no longer, so that data for the consumer does not wake the loop.
* One whose wait has been given up is forgotten before it is closed: another process has a copy, which would keep a
  closed fd firing.  If a handshaker has closed it all the same, it fires once (EPOLLONESHOT).
"""

from __future__ import annotations

import asyncio
import contextlib
import select

_READABLE = select.EPOLLIN | select.EPOLLONESHOT
_MOST_EVENTS = 256


class Readiness:
    """The sockets that are waited for on one event loop, until :meth:`close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._waiting: dict[int, asyncio.Future[None]] = {}
        loop.add_reader(self._epoll.fileno(), self._wake)

    def wait(self, fd: int, future: asyncio.Future[None]) -> None:
        """Set ``future`` once ``fd`` is readable, its peer has gone or it has failed.

        If the wait is given up before, :meth:`forget` is to be called at the end, or :meth:`wait` again.
        Raises OSError or ValueError for an fd that is closed.
        """
        try:
            self._epoll.register(fd, _READABLE)
        except FileExistsError:
            self._epoll.modify(fd, _READABLE)
        self._waiting[fd] = future

    def forget(self, fd: int) -> None:
        """Take a socket out whose wait has been given up, and that is about to be closed."""
        self._waiting.pop(fd, None)
        with contextlib.suppress(OSError):
            self._epoll.unregister(fd)

    def close(self) -> None:
        """End all waiting."""
        self.loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _wake(self) -> None:
        for fd, _ in self._epoll.poll(0, _MOST_EVENTS):
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)
            future = self._waiting.pop(fd, None)
            if future is not None and not future.done():
                future.set_result(None)
