"""The blocking client.

* Each handshake has a link to the dispatcher of its own while it lasts; links are kept for later handshakes.  So any
  number of threads may share a :class:`Client`.
* The socket stays the caller's.  Until the call returns, nobody else may read from it or write to it.
* A call that ends without a result (a timeout, an interrupt) closes its link, and the dispatcher withdraws the request.
  The socket may be shut down then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from hsframework.client.request import HandshakeOptions
from hsframework.client.session import Session
from hsframework.client.submits import Submits
from hsframework.client.trusts import TrustFile, TrustFiles, travels_alone
from hsframework.client.wire import cannot_send, codec, connect_error, link_lost, open_socket, outcome, socket_closed
from hsframework.errors import HandshakeError, HsframeworkError, MessageError
from hsframework.interface import Trust
from hsframework.local.packets import MAX_PACKET, messages_of, send_packet
from hsframework.local.places import consumer_socket
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

    ``runtime_dir``: the dispatcher's runtime directory, or the path of its socket; None: the usual places.
    ``registry``: the plugins that decode sessions; None: the installed ones, loaded when they are first needed.

    >>> with Client() as client:                                          # doctest: +SKIP
    ...     session = client.handshake(sock, HandshakeOptions(peer_name="server.example", trust=trust))
    ...     session.stream().send(b"hello")
    """

    def __init__(self, runtime_dir: Path | str | None = None, *, registry: Registry | None = None) -> None:
        self._runtime_dir = runtime_dir
        self._registry = registry
        self._submits = Submits(registry)
        self._trusts = TrustFiles()
        self._numbers = sequence_numbers()
        self._idle: list[_Link] = []
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
        """Path of the dispatcher's socket."""
        return consumer_socket(self._runtime_dir)

    def connect(self) -> None:
        """Connect to the dispatcher now rather than with the first handshake.  Raises HsframeworkError."""
        self._give_back(self._take()[0])

    def close(self) -> None:
        """Close the idle links now, and those in use when their handshakes end."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for link in idle:
            link.close()
        self._trusts.close()

    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Session:
        """Run a handshake on a connected socket, block until it has ended, and return the session.

        Raises RequestRefused (no handshake was begun, the socket is as it was), HandshakeError (the handshake failed),
        another HsframeworkError when the dispatcher cannot be reached or closes the link.  Each carries its errno.
        """
        sequence = next(self._numbers)
        data = self._submits.encode(options, sequence)
        limit = (UNTIMED if options.timeout is None else options.timeout) + GRACE
        link = self._submit(data, sock, options, sequence)
        try:
            message = link.result(sequence, limit)
        except BaseException:
            link.close()
            raise
        self._give_back(link)
        return Session(sock, options.role, outcome(message, options.group), self._registry)

    def _submit(self, data: bytes, sock: socket.socket, options: HandshakeOptions, sequence: int) -> _Link:
        while True:
            link, used_before = self._take()
            try:
                if options.trust is not None and travels_alone(options.trust) and link.trust != options.trust.digest:
                    with self._file_of(options.trust) as file:
                        link.send_trust(file, sequence)
                link.submit(data, sock)
                return link
            except OSError as error:
                link.close()
                # An idle link may lead to a dispatcher that has been restarted since.
                if not used_before:
                    raise connect_error(self.path, error) from None
            except BaseException:
                link.close()
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

    def _take(self) -> tuple[_Link, bool]:
        """Return a link, and whether it was used before."""
        with self._lock:
            if self._closed:
                raise HsframeworkError("the client is closed", errno=errno.EBADF)
            if self._idle:
                return self._idle.pop(), True
        return _Link(self.path), False

    def _give_back(self, link: _Link) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(link)
                return
        link.close()


class _Link:
    """A link to the dispatcher, used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self.trust = b""
        """Digest of the large trust that was sent over the link."""
        self._socket = open_socket(path)
        try:
            self._socket.settimeout(CONNECT_TIMEOUT)
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise connect_error(path, error) from None

    def submit(self, data: bytes, sock: socket.socket) -> None:
        fd = sock.fileno()
        if fd < 0:
            raise socket_closed()
        self._socket.settimeout(CONNECT_TIMEOUT)
        send_packet(self._socket, data, fd)

    def send_trust(self, file: TrustFile, sequence: int) -> None:
        """Send a large trust, before the submit with this number."""
        self._socket.settimeout(CONNECT_TIMEOUT)
        send_packet(self._socket, file.message(sequence), file.fd)
        self.trust = file.digest

    def result(self, sequence: int, limit: float) -> Message:
        end = time.monotonic() + limit
        while True:
            for message in self._receive(max(0.001, end - time.monotonic()), limit):
                if message.sequence == sequence and message.error != 0:
                    if message.error is not None:
                        self.trust = b""  # it may be the trust that was refused
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
        self._socket.close()
