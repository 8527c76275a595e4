"""A session and its socket: what both kinds of stream are made of.

A :class:`Channel` never waits: its methods do what can be done now and raise BlockingIOError when the socket has to
become readable or writable first (TimeoutError, where the socket itself has a timeout and waits).  :mod:`.stream` and
:mod:`.aio_stream` wait, each in its way.

The rules:

* One caller at a time reads (``try_receive``), one writes (``queue_*``, ``try_flush``); the two may be different
  threads.
* What was queued goes out in that order, also after an error in between: ``try_flush`` resumes where the socket
  stopped.  A record is never sent twice and never in part.
* ``owes_output``: reading found something that has to be answered; the next flush sends it.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

from hsframework.interface import Role, Secret
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.events import Data
from hsframework_tls13.recordlayer import RecordLayer

_READ_SIZE = 1 << 16


class Channel(ABC):
    """``socket`` stays its owner's: a channel does not close it."""

    socket: socket.socket

    @property
    @abstractmethod
    def peer_closed(self) -> bool:
        """The peer has said close_notify."""

    @property
    @abstractmethod
    def owes_output(self) -> bool:
        """A flush would send something that the protocol asks for."""

    @abstractmethod
    def try_receive(self, max_size: int) -> bytes | None:
        """Data (at most ``max_size`` bytes), ``b""`` after close_notify, None: a record without data, call again.

        Raises SessionBroken; then a flush sends the alert.
        """

    @abstractmethod
    def queue_data(self, data: bytes) -> None:
        """Application data."""

    @abstractmethod
    def queue_key_update(self, request_peer: bool) -> None:
        """A KeyUpdate; what is queued after it is under the new keys."""

    @abstractmethod
    def queue_close(self) -> None:
        """close_notify."""

    @abstractmethod
    def try_flush(self) -> None:
        """Write what is queued and what is owed."""


class UserSpaceChannel(Channel):
    """The record layer is ours; the socket carries records."""

    def __init__(
        self,
        sock: socket.socket,
        role: Role,
        suite: CipherSuite,
        client_secret: Secret,
        server_secret: Secret,
        *,
        read_sequence: int = 0,
        write_sequence: int = 0,
    ) -> None:
        self.socket = sock
        self._layer = RecordLayer(
            role,
            suite,
            client_secret,
            server_secret,
            read_sequence=read_sequence,
            write_sequence=write_sequence,
        )
        self._received = bytearray()
        self._outgoing = bytearray()

    @property
    def peer_closed(self) -> bool:
        return self._layer.peer_closed

    @property
    def owes_output(self) -> bool:
        return self._layer.owes_output

    def try_receive(self, max_size: int) -> bytes | None:
        if not self._received:
            if self._layer.peer_closed:
                return b""
            self._read()
        if not self._received:
            return b"" if self._layer.peer_closed else None
        data = bytes(self._received[:max_size])
        del self._received[:max_size]
        return data

    def _read(self) -> None:
        if self._layer.failure is not None:
            raise self._layer.failure.fresh()
        chunk = self.socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        if not chunk:
            self._layer.receive_eof()
            return
        for event in self._layer.receive_data(chunk):
            if isinstance(event, Data):
                self._received += event.data

    def queue_data(self, data: bytes) -> None:
        self._outgoing += self._layer.encrypt(data)

    def queue_key_update(self, request_peer: bool) -> None:
        self._outgoing += self._layer.update_keys(request_peer)

    def queue_close(self) -> None:
        self._outgoing += self._layer.close()

    def try_flush(self) -> None:
        self._outgoing += self._layer.data_to_send()
        while self._outgoing:
            sent = self.socket.send(self._outgoing, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            del self._outgoing[:sent]
