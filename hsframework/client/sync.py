"""The blocking client.

* A handshake has a connection of its own to the dispatcher for as long as it lasts; connections are kept for the next
  one.  So any number of threads may share a :class:`Client`.
* The socket stays the caller's.  Until the call returns, nobody else may read from it or write to it.
* A call that ends in another way than by its result (a timeout, an interrupt) drops its connection, by which the
  dispatcher withdraws the request.  The socket may be shut down then.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hsframework.client.request import HandshakeOptions
from hsframework.client.session import Session
from hsframework.client.wire import (
    Submits,
    codec,
    connect_error,
    connection_lost,
    numbered,
    open_socket,
    outcome,
    socket_fd,
)
from hsframework.errors import HandshakeError, HsframeworkError, MessageError
from hsframework.local.packets import MAX_PACKET, messages_of, send_packet
from hsframework.local.places import consumer_socket
from hsframework.netlink.messages import Message

if TYPE_CHECKING:
    from hsframework.registry.plugins import Registry

GRACE = 2.0
"""Seconds beyond the request's own timeout after which the dispatcher itself is taken for hung."""

UNTIMED = 130.0
"""Seconds given to a request without a timeout: the service's own limits are below this."""

CONNECT_TIMEOUT = 5.0


class Client:
    """A consumer.  ``runtime_dir``: the dispatcher's folder or its socket; None: the usual places.

    >>> with Client() as client:                                          # doctest: +SKIP
    ...     session = client.handshake(sock, HandshakeOptions(peer_name="server.example", trust=trust))
    ...     session.stream().send(b"hello")
    """

    def __init__(self, runtime_dir: Path | str | None = None, *, registry: Registry | None = None) -> None:
        self._runtime_dir = runtime_dir
        self._registry = registry
        self._submits = Submits(registry)
        self._idle: list[_Connection] = []
        self._lock = threading.Lock()
        self._closed = False

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The socket of the dispatcher."""
        return consumer_socket(self._runtime_dir)

    def connect(self) -> None:
        """Reach the dispatcher now rather than with the first handshake.  Raises HsframeworkError."""
        self._give_back(self._take()[0])

    def close(self) -> None:
        """Close the connections that are not in use; those in use when their handshakes end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Session:
        """Run a handshake on a connected socket, and block until it has ended.

        Raises RequestRefused (nothing was begun, the socket is as it was), HandshakeError (it was begun and failed),
        another HsframeworkError when the dispatcher cannot be reached or goes away.  Each carries its errno.
        """
        data = self._submits.encode(options)
        limit = (UNTIMED if options.timeout is None else options.timeout) + GRACE
        connection = self._submit(data, sock)
        try:
            message = connection.result(limit)
        except BaseException:
            connection.close()
            raise
        self._give_back(connection)
        return Session(sock, options.role, outcome(message, options.group), self._registry)

    def _submit(self, data: bytes, sock: socket.socket) -> _Connection:
        while True:
            connection, used_before = self._take()
            try:
                connection.submit(data, socket_fd(sock))
                return connection
            except OSError as error:
                connection.close()
                # A kept connection may belong to a dispatcher that has been restarted since.
                if not used_before:
                    raise connect_error(self.path, error) from None
            except BaseException:
                connection.close()
                raise

    def _take(self) -> tuple[_Connection, bool]:
        with self._lock:
            if self._closed:
                raise HsframeworkError("the client is closed", errno=errno.EBADF)
            if self._idle:
                return self._idle.pop(), True
        return _Connection(self.path), False

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()


class _Connection:
    """One connection, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._socket = open_socket(path)
        self._sequence = 0
        try:
            self._socket.settimeout(CONNECT_TIMEOUT)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise connect_error(path, error) from None

    def submit(self, data: bytes, fd: int) -> None:
        self._sequence = self._sequence % 0xFFFFFFFF + 1
        self._socket.settimeout(CONNECT_TIMEOUT)
        send_packet(self._socket, numbered(data, self._sequence), fd)

    def result(self, limit: float) -> Message:
        end = time.monotonic() + limit
        while True:
            for message in self._receive(max(0.001, end - time.monotonic()), limit):
                if message.sequence == self._sequence and message.error != 0:
                    return message

    def _receive(self, remaining: float, limit: float) -> list[Message]:
        self._socket.settimeout(remaining)
        try:
            # Without room for control data the kernel drops whatever fds came along.
            data = self._socket.recv(MAX_PACKET + 1)
            if not data:
                raise connection_lost(None)
            return [codec().decode(message) for message in messages_of(data)]
        except TimeoutError:
            raise HandshakeError(
                f"the dispatcher did not answer within {limit:.1f} s; is it hung?", errno=errno.ETIMEDOUT
            ) from None
        except (OSError, MessageError) as error:
            raise connection_lost(error) from None

    def close(self) -> None:
        self._socket.close()
