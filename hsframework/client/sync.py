"""The blocking client.

* Each handshake has a link to the dispatcher of its own while it lasts; links are kept for later handshakes.  So any
  number of threads may share a :class:`Client`.
* The socket stays the caller's.  Until the call returns, nobody else may read from it or write to it.
* A call that ends without a result (a timeout, an interrupt) closes its link, and the dispatcher withdraws the request.
  The socket may be shut down then.
* In a process that was forked a client makes links of its own: two processes on one would read each other's results.
* A session that is said to be in the kernel is looked for in the socket before the call returns.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hsframework.client.forks import renewed_in_children
from hsframework.client.planted import check_planted
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import Session
from hsframework.client.submits import Submits
from hsframework.client.wire import (
    User,
    codec,
    connect,
    connect_error,
    dispatcher_path,
    link_lost,
    open_socket,
    outcome,
    socket_closed,
)
from hsframework.errors import HandshakeError, HsframeworkError, MessageError
from hsframework.local.packets import MAX_PACKET, messages_of, send_packet
from hsframework.netlink.messages import Message, sequence_numbers

if TYPE_CHECKING:
    from hsframework.registry.plugins import Registry

GRACE = 2.0
"""Seconds beyond the request's own timeout after which the dispatcher is considered hung."""

UNTIMED = 130.0
"""Seconds to wait for the result of a request without a timeout; the service's own limits are shorter."""

CONNECT_TIMEOUT = 5.0
"""Seconds to wait for the dispatcher to take a link or a packet."""


class Client:
    """A blocking client of the dispatcher.

    ``runtime_dir``: the dispatcher's runtime directory, or the path of its socket; None: what the variable
    HSFRAMEWORK_RUNTIME_DIR names, else the default configuration file, else the usual places.  ``registry``: the
    plugins that decode sessions; None: the installed ones, loaded when they are first needed.  ``dispatcher_user``:
    name or number of the user that runs the dispatcher, if it is neither root nor this process's; None: the one that
    HSFRAMEWORK_DISPATCHER_USER names.  A socket where another user might listen is not used.

    >>> with Client() as client:                                          # doctest: +SKIP
    ...     session = client.handshake(sock, HandshakeOptions(peer_name="server.example", trust=trust))
    ...     session.stream().send(b"hello")
    """

    def __init__(
        self,
        runtime_dir: Path | str | None = None,
        *,
        registry: Registry | None = None,
        dispatcher_user: User = None,
    ) -> None:
        self._runtime_dir = runtime_dir
        self._user = dispatcher_user
        self._registry = registry
        self._submits = Submits(registry)
        self._numbers = sequence_numbers()
        self._idle: list[_Link] = []
        self._links: set[_Link] = set()
        self._lock = threading.Lock()
        self._closed = False
        renewed_in_children(self, Client._renew)

    def __enter__(self) -> Client:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """Path of the dispatcher's socket."""
        return dispatcher_path(self._runtime_dir)

    def connect(self) -> None:
        """Connect to the dispatcher now rather than with the first handshake.  Raises HsframeworkError."""
        self._give_back(self._take()[0])

    def close(self) -> None:
        """Close the idle links now, and those in use when their handshakes end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            self._end(link)

    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Session:
        """Run a handshake on a connected socket, block until it has ended, and return the session.

        Raises RequestRefused (no handshake was begun, the socket is as it was), HandshakeError (the handshake failed),
        another HsframeworkError when the dispatcher cannot be reached or closes the link.  Each carries its errno.
        """
        sequence = next(self._numbers)
        data = self._submits.encode(options, sequence)
        limit = (UNTIMED if options.timeout is None else options.timeout) + GRACE
        link = self._submit(data, sock)
        try:
            message = link.result(sequence, limit)
        except BaseException:
            self._end(link)
            raise
        self._give_back(link)
        values = outcome(message, options.group)
        if values.get("in-kernel"):
            check_planted(sock, options.group)
        return Session(sock, options.role, values, self._registry)

    def _renew(self) -> None:
        """Leave the links to the process that was forked."""
        inherited, self._links, self._idle = self._links, set(), []
        self._lock = threading.Lock()
        for link in inherited:
            link.leave()

    def _submit(self, data: bytes, sock: socket.socket) -> _Link:
        while True:
            link, used_before = self._take()
            try:
                link.submit(data, sock)
                return link
            except OSError as error:
                self._end(link)
                # An idle link may lead to a dispatcher that has been restarted since.
                if not used_before:
                    raise connect_error(self.path, error) from None
            except BaseException:
                self._end(link)
                raise

    def _take(self) -> tuple[_Link, bool]:
        """Return a link, and whether it was used before."""
        with self._lock:
            if self._closed:
                raise HsframeworkError("the client is closed", errno=errno.EBADF)
            if self._idle:
                return self._idle.pop(), True
        link = _Link(self.path, self._user)
        self._links.add(link)
        return link, False

    def _give_back(self, link: _Link) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(link)
                return
        self._end(link)

    def _end(self, link: _Link) -> None:
        self._links.discard(link)
        link.close()


class _Link:
    """A link to the dispatcher, used by one thread at a time."""

    def __init__(self, path: Path, user: User) -> None:
        self._socket = open_socket(path, user)
        try:
            self._socket.settimeout(CONNECT_TIMEOUT)
            connect(self._socket, path, user)
        except OSError as error:
            self._socket.close()
            raise connect_error(path, error) from None
        except BaseException:
            self._socket.close()
            raise

    def submit(self, data: bytes, sock: socket.socket) -> None:
        fd = sock.fileno()
        if fd < 0:
            raise socket_closed()
        self._socket.settimeout(CONNECT_TIMEOUT)
        send_packet(self._socket, data, fd)

    def result(self, sequence: int, limit: float) -> Message:
        end = time.monotonic() + limit
        while True:
            for message in self._receive(max(0.001, end - time.monotonic()), limit):
                if message.sequence == sequence and message.error != 0:
                    return message

    def _receive(self, remaining: float, limit: float) -> list[Message]:
        self._socket.settimeout(remaining)
        try:
            # Without a buffer for control data the kernel closes any fds that a packet carries.
            data = self._socket.recv(MAX_PACKET + 1)
            if not data:
                raise link_lost(None)
            return [codec().decode(message) for message in messages_of(data)]
        except TimeoutError:
            raise HandshakeError(
                f"the dispatcher did not answer within {limit:.1f} s; is it hung?", errno=errno.ETIMEDOUT
            ) from None
        except (OSError, MessageError) as error:
            raise link_lost(error) from None

    def close(self) -> None:
        # A process that was forked may hold a copy, which would keep the request alive.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def leave(self) -> None:
        """Close this process's copy of a link that another process uses."""
        self._socket.close()
