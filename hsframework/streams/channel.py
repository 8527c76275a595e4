"""The channel below both kinds of stream: a session and its socket.

A :class:`Channel` never waits: its methods do as much as is possible now, and raise BlockingIOError when the socket has
to become readable or writable first (TimeoutError, where the socket itself has a timeout and waits).  :mod:`.blocking`
and :mod:`.asynchronous` wait, each in its way.

The rules:

* One caller at a time reads (``try_receive``), one writes (``queue_*``, ``try_flush``); the two may be different
  threads.
* Output is sent in the order in which it was queued, also after an error in between: ``try_flush`` resumes where the
  socket stopped.  A record is never sent twice and never in part.
* ``owes_output``: reading has made an answer due, and the next flush sends it.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import Protocol

from hsframework.errors import StreamError

_READ_SIZE = 1 << 16


class Channel(ABC):
    """A session over a socket, in calls that do not wait."""

    socket: socket.socket
    """The connection.  It stays its owner's: a channel does not close it."""

    @property
    @abstractmethod
    def peer_closed(self) -> bool:
        """True if the peer has closed its direction properly."""

    @property
    @abstractmethod
    def owes_output(self) -> bool:
        """True if the protocol has output due that a flush would send."""

    @property
    def pending(self) -> int:
        """Number of bytes that ``try_receive`` returns without the socket."""
        return 0

    @abstractmethod
    def try_receive(self, max_size: int) -> bytes | None:
        """Return 1 to ``max_size`` bytes, or ``b""`` once the peer has closed; None: nothing yet, call again.

        Raises StreamError for a session that is broken; a flush then sends the alert, where there is one.
        """

    @abstractmethod
    def queue_data(self, data: bytes) -> None:
        """Queue application data."""

    @abstractmethod
    def queue_close(self) -> None:
        """Queue the message that closes our direction; a second call queues nothing."""

    @abstractmethod
    def try_flush(self) -> None:
        """Write the queued output and the output that is due."""


def flush_answers(channel: Channel) -> None:
    """Flush what reading made due, as far as the socket takes it.

    A lost connection is no error: the next read says so.  Raises StreamError for a session that cannot go on.
    """
    try:
        channel.try_flush()
    except StreamError:  # an OSError too
        raise
    except OSError:
        pass


class UserSpaceSession(Protocol):
    """An established session without I/O.  Errors: :class:`hsframework.errors.StreamError`."""

    @property
    def peer_closed(self) -> bool:
        """True if the peer has closed its direction properly."""
        ...

    @property
    def owes_output(self) -> bool:
        """True if ``data_to_send`` would return bytes."""
        ...

    def encrypt(self, data: bytes) -> bytes:
        """Return the bytes for the connection that carry ``data``; none for none."""
        ...

    def decrypt(self, data: bytes) -> bytes:
        """Take bytes from the connection, in pieces of any size, and return the plain text of complete records, if any.

        An error behind good records in the same bytes is raised by the next call, also by one with ``b""``.
        """
        ...

    def receive_eof(self) -> None:
        """Note the end of the connection.  Raises StreamError unless the peer had closed its direction properly."""
        ...

    def data_to_send(self) -> bytes:
        """Return the bytes that the protocol itself has due for the peer, if any."""
        ...

    def close(self) -> bytes:
        """Return the bytes that close our direction; none the second time."""
        ...


class UserSpaceChannel(Channel):
    """A channel whose session is in this process; the socket carries its ciphertext."""

    def __init__(self, sock: socket.socket, session: UserSpaceSession) -> None:
        self.socket = sock
        self._session = session
        self._received = bytearray()
        self._outgoing = bytearray()

    @property
    def peer_closed(self) -> bool:
        return self._session.peer_closed

    @property
    def owes_output(self) -> bool:
        return self._session.owes_output

    @property
    def pending(self) -> int:
        return len(self._received)

    def try_receive(self, max_size: int) -> bytes | None:
        if not self._received:
            if self._session.peer_closed:
                return b""
            self._read()
        if not self._received:
            return b"" if self._session.peer_closed else None
        data = bytes(self._received[:max_size])
        del self._received[:max_size]
        return data

    def _read(self) -> None:
        self._received += self._session.decrypt(b"")
        if self._received:
            return
        chunk = self.socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        if chunk:
            self._received += self._session.decrypt(chunk)
        else:
            self._session.receive_eof()

    def queue_data(self, data: bytes) -> None:
        self._outgoing += self._session.encrypt(data)

    def queue_close(self) -> None:
        self._outgoing += self._session.close()

    def try_flush(self) -> None:
        self._outgoing += self._session.data_to_send()
        while self._outgoing:
            sent = self.socket.send(self._outgoing, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            del self._outgoing[:sent]
