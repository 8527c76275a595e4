"""The blocking client.

* Each handshake has a link to the dispatcher of its own while it lasts; some are kept for later handshakes.  So any
  number of threads may share a :class:`Client`.  Callers beyond the limits wait their turn (:mod:`.links`), also where
  other programs of the user have all the links: a request that the dispatcher has not read is sent again.
* The socket stays the caller's.  Until the call returns, nobody else may read from it or write to it.
* The socket's timeout (``settimeout``) limits the whole call, as it limits ``ssl.SSLSocket.do_handshake``; a
  non-blocking socket sets no limit.
* A call that ends without a result (a timeout, an interrupt, a closed client) closes its link, and the dispatcher
  withdraws the request.  The socket may be shut down then.
* In a process that was forked a client makes links of its own: two processes on one would read each other's results.
* A session that is said to be in the kernel is looked for in the socket before the call returns.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hsframework.client.forks import renewed_in_children
from hsframework.client.links import Links
from hsframework.client.planted import check_planted
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import Session
from hsframework.client.sockets import check_socket
from hsframework.client.submits import Submits
from hsframework.client.trusts import TrustFile, TrustFiles, travels_alone
from hsframework.client.wire import (
    User,
    cannot_send,
    client_closed,
    codec,
    connect,
    connect_error,
    dispatcher_path,
    link_lost,
    not_taken,
    open_socket,
    outcome,
    socket_closed,
)
from hsframework.errors import ClientTimeout, MessageError
from hsframework.interface import Trust
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

QUEUE = 30.0
"""Seconds that a call waits at most for its turn."""

FIRST_PAUSE, LAST_PAUSE = 0.02, 0.5
"""Seconds between the attempts of a request that the dispatcher does not take."""


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
        self._trusts = TrustFiles()
        self._numbers = sequence_numbers()
        self._links: Links[_Link] = Links(lambda: _Link(self.path, self._user))
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
        """Connect to the dispatcher now rather than with the first handshake.  Raises ClientError."""
        self._links.give_back(self._links.take(CONNECT_TIMEOUT)[0])

    def close(self) -> None:
        """Close every link.  Handshakes that wait end with ClientError (ECONNRESET)."""
        self._links.close()
        self._trusts.close()

    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Session:
        """Run a handshake on a connected socket, block until it has ended, and return the session.

        Raises RequestRefused (no handshake was begun, the socket is as it was), HandshakeError (the handshake failed),
        ClientError when the dispatcher cannot be reached or closes the link.  Each carries its errno.
        """
        check_socket(sock)
        sequence = next(self._numbers)
        data = self._submits.encode(options, sequence)
        limit, reason = _limit(options.timeout, sock.gettimeout())
        queue = _Queue(self._links, min(limit, QUEUE))
        while True:
            link = self._submit(data, sock, options.trust, sequence, queue)
            try:
                message = link.result(sequence, limit - queue.waited, reason)
                break
            except _NotTaken:
                self._links.drop(link)
                queue.pause()
            except BaseException:
                self._links.drop(link)
                raise
        self._links.give_back(link)
        values = outcome(message, options.group)
        if values.get("in-kernel"):
            check_planted(sock, options.group)
        return Session(sock, options.role, values, self._registry)

    def _renew(self) -> None:
        """Leave the links to the process that was forked."""
        self._links.leave()
        self._trusts.renew()

    def _submit(self, data: bytes, sock: socket.socket, trust: Trust | None, sequence: int, queue: _Queue) -> _Link:
        """Return the link over which the request was sent, and before it a trust that travels alone."""
        while True:
            link, used_before = queue.take()
            try:
                if trust is not None and travels_alone(trust) and link.trust != trust.digest:
                    with self._file_of(trust) as file:
                        link.send_trust(file, sequence)
                link.submit(data, sock)
                return link
            except _NotTaken:
                self._links.drop(link)
                # An idle link may lead to a dispatcher that has been restarted since.
                if not used_before:
                    queue.pause()
            except BaseException:
                self._links.drop(link)
                raise

    @contextlib.contextmanager
    def _file_of(self, trust: Trust) -> Iterator[TrustFile]:
        try:
            file = self._trusts.file(trust)
        except OSError as error:
            raise cannot_send(error) from None
        try:
            yield file
        finally:
            os.close(file.fd)


def _limit(requested: float | None, patience: float | None) -> tuple[float, str]:
    """Return the seconds until a call ends by itself, by the options and the socket's timeout, and the error's text."""
    limit = (UNTIMED if requested is None else requested) + GRACE
    if patience and patience < limit:
        return patience, f"the handshake did not end within the socket's timeout, {patience:.1f} s"
    return limit, f"the dispatcher did not answer within {limit:.1f} s; is it hung?"


class _Queue:
    """One call's place in the queue for a link; it lasts ``seconds`` at most."""

    def __init__(self, links: Links[_Link], seconds: float) -> None:
        self._links = links
        self._seconds = seconds
        self._begin = time.monotonic()
        self._pause = FIRST_PAUSE

    @property
    def waited(self) -> float:
        """Seconds since the call began."""
        return time.monotonic() - self._begin

    def take(self) -> tuple[_Link, bool]:
        """Return a link, and True if it was used before."""
        try:
            return self._links.take(max(0.0, self._seconds - self.waited))
        except TimeoutError:
            raise not_taken(self._seconds) from None

    def pause(self) -> None:
        """Wait before the next attempt, longer each time."""
        if self.waited + self._pause > self._seconds:
            raise not_taken(self._seconds)
        self._links.wait_closed(self._pause)
        self._pause = min(2 * self._pause, LAST_PAUSE)


class _NotTaken(Exception):
    """The dispatcher has closed the link before it read the request: it does not know of it."""


class _Link:
    """A link to the dispatcher, used by one thread at a time."""

    def __init__(self, path: Path, user: User) -> None:
        self.trust = b""
        """Digest of the large trust that was sent over the link."""
        self._path = path
        self._ended = False
        self._socket = open_socket(path, user)
        try:
            connect(self._socket, path, CONNECT_TIMEOUT, user)
        except BaseException:
            self._socket.close()
            raise

    def submit(self, data: bytes, sock: socket.socket) -> None:
        """Send the request.  Raises RequestRefused, ClientError, or _NotTaken for a link that has ended."""
        fd = sock.fileno()
        if fd < 0:
            raise socket_closed()
        self._send(data, fd)

    def send_trust(self, file: TrustFile, sequence: int) -> None:
        """Send a large trust, before the submit with this number.  Raises ClientError or _NotTaken."""
        self._send(file.message(sequence), file.fd)
        self.trust = file.digest

    def _send(self, data: bytes, fd: int) -> None:
        self._socket.settimeout(CONNECT_TIMEOUT)
        try:
            send_packet(self._socket, data, fd)
        except (BrokenPipeError, ConnectionResetError):
            raise _NotTaken from None
        except OSError as error:
            raise connect_error(self._path, error) from None

    def result(self, sequence: int, limit: float, reason: str) -> Message:
        """Wait for the result of the request, ``limit`` seconds; ``reason``: the text of ClientTimeout."""
        end = time.monotonic() + limit
        while True:
            for message in self._receive(max(0.001, end - time.monotonic()), reason):
                if message.sequence == sequence and message.error != 0:
                    if message.error is not None:
                        self.trust = b""  # it may be the trust that was refused
                    return message

    def _receive(self, remaining: float, reason: str) -> list[Message]:
        self._socket.settimeout(remaining)
        try:
            # Without a buffer for control data the kernel closes any fds that a packet carries.
            data = self._socket.recv(MAX_PACKET + 1)
        except TimeoutError:
            raise ClientTimeout(reason) from None
        except ConnectionResetError:
            # Linux gives this error, and no end of file, if the other end was closed with a packet unread
            # (unix_release_sock): a link carries one request at a time, so this request was not read.
            raise _NotTaken from None
        except OSError as error:
            raise link_lost(error) from None
        if not data:
            raise client_closed() if self._ended else link_lost(None)
        try:
            return [codec().decode(message) for message in messages_of(data)]
        except MessageError as error:
            raise link_lost(error) from None

    def end(self) -> None:
        """Shut the link down: a call that waits on it ends with ClientError."""
        self._ended = True
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # A process that was forked may hold a copy, which would keep the request alive.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def leave(self) -> None:
        """Close this process's copy of a link that another process uses."""
        self._socket.close()
