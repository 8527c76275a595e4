"""The socket itself as a session: the kernel protects it, and bytes and FIN are the peer's own."""

from __future__ import annotations

import socket

from hsframework.failures import Failure
from hsframework.streams import Channel
from hsframework_tls13.events import SessionBroken


class ConnectionChannel(Channel):
    """The channel of a connection that the kernel protects.  The rules: :mod:`hsframework.streams.channel`."""

    owes_output = False

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._outgoing = bytearray()
        self._peer_closed = False
        self._closed = False

    @property
    def peer_closed(self) -> bool:
        return self._peer_closed

    def try_receive(self, max_size: int) -> bytes | None:
        data = b"" if self._peer_closed else self.socket.recv(max_size, socket.MSG_DONTWAIT)
        self._peer_closed = not data
        return data

    def queue_data(self, data: bytes) -> None:
        if self._closed:
            raise SessionBroken(Failure.CANCELLED, "our direction of the session is closed")
        self._outgoing += data

    def queue_close(self) -> None:
        self._closed = True

    def try_flush(self) -> None:
        while self._outgoing:
            sent = self.socket.send(self._outgoing, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            del self._outgoing[:sent]
        if self._closed:
            self.socket.shutdown(socket.SHUT_WR)
