"""The links of a blocking client: how many there are, those that wait for a next handshake, and their end.

* At most :data:`MOST` handshakes of one client run at a time, each over a link of its own; further callers wait their
  turn.  The service allows a user 512 links (``limits.connections-per-user``), for all of his processes.
* A program that runs both ends of many handshakes gives each end a client of its own: else those that have a turn could
  wait for peers that have none.
* At most :data:`MOST_IDLE` links are kept for later handshakes.
* ``close`` ends the links in use too, so that every call that waits on one ends at once.
* A process that was forked leaves all links to the process that forked it (``leave``), and makes its own.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from hsframework.errors import ClientError

MOST = 256
"""Links of one client; half of what the service allows a user."""

MOST_IDLE = 4
"""Links that are kept while no handshake uses them: others' clients cannot have them meanwhile."""


class Link(Protocol):
    """A link to the dispatcher, used by one thread at a time."""

    def end(self) -> None:
        """Shut the link down, from another thread than the one that waits on it."""
        ...

    def close(self) -> None:
        """Close the link; its fd is free."""
        ...

    def leave(self) -> None:
        """Close this process's copy of a link that another process uses."""
        ...


L = TypeVar("L", bound=Link)


class Links(Generic[L]):
    """The links of one client; ``connect`` makes one.  For any number of threads."""

    def __init__(self, connect: Callable[[], L]) -> None:
        self._connect = connect
        self._begin()

    def _begin(self) -> None:
        self._idle: list[L] = []
        self._used: set[L] = set()
        self._lock = threading.Lock()
        self._turns = threading.BoundedSemaphore(MOST)
        self._closed = threading.Event()

    def take(self, timeout: float) -> tuple[L, bool]:
        """Return a link, and True if it was used before.

        Raises TimeoutError if there is no turn within ``timeout`` seconds, ClientError for a closed client and for a
        dispatcher that cannot be reached.
        """
        if self._closed.is_set():
            raise _closed()
        if not self._turns.acquire(timeout=timeout):
            raise TimeoutError("timed out")
        try:
            return self._taken()
        except BaseException:
            self._turns.release()
            raise

    def _taken(self) -> tuple[L, bool]:
        with self._lock:
            if not self._closed.is_set() and self._idle:
                link = self._idle.pop()
                self._used.add(link)
                return link, True
        if self._closed.is_set():
            raise _closed()
        link = self._connect()
        with self._lock:
            if not self._closed.is_set():
                self._used.add(link)
                return link, False
        link.close()
        raise _closed()

    def give_back(self, link: L) -> None:
        """Keep a link for a later handshake, where there is room."""
        with self._lock:
            keep = not self._closed.is_set() and len(self._idle) < MOST_IDLE
            if keep:
                self._used.discard(link)
                self._idle.append(link)
        if keep:
            self._turns.release()
        else:
            self.drop(link)

    def drop(self, link: L) -> None:
        """Close a link that can serve no other handshake."""
        with self._lock:
            self._used.discard(link)
            link.close()
        self._turns.release()

    def wait_closed(self, timeout: float) -> None:
        """Wait for ``timeout`` seconds.  Raises ClientError as soon as the client is closed."""
        if self._closed.wait(timeout):
            raise _closed()

    def close(self) -> None:
        """Close the idle links, and end those in use."""
        with self._lock:
            self._closed.set()
            for link in self._idle:
                link.close()
            self._idle.clear()
            # Under the lock, so that a link is not ended after it was closed, when its fd may be another's.
            for link in self._used:
                link.end()

    def leave(self) -> None:
        """Leave the links to the process that forked this one.  The locks are new: other threads may have had them."""
        left, closed = [*self._idle, *self._used], self._closed.is_set()
        self._begin()
        if closed:
            self._closed.set()
        for link in left:
            link.leave()


def _closed() -> ClientError:
    return ClientError("the client is closed", errno=errno.EBADF)
