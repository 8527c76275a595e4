"""Listener on a local socket, with limits; the agents' server and the consumers' use it."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Callable
from typing import Protocol

import structlog

from hsframework.configuration.settings import Limits
from hsframework.dispatcher.policy import PeerCredentials, peer_credentials
from hsframework.errors import RequestRefused

_log = structlog.get_logger("hsframework.dispatcher")
_PAUSE = 0.1
_ACCEPTS_AT_ONCE = 64


class Connection(Protocol):
    """Link of one peer.  It calls ``closed(connection)`` of its listener once, when it has ended."""

    peer: PeerCredentials

    def close(self) -> None:
        """End the link."""


class Listener:
    """Acceptor on one listening socket; ``make(socket, peer)`` starts the link's handler.  Without a socket (None) it
    serves what :meth:`adopt` is given.

    A link past the limits is closed at once.  A user gets another link while fewer are his than are free, so whatever
    the others have, a newcomer finds room.  ``check(peer)`` raises RequestRefused for a stranger, to which policy gives
    nothing: all strangers count as one user.  ``privileged(peer)``: True for a peer that the limits on users spare, and
    for which a part of the links is reserved.  When the process is out of fds, accepting pauses: the backlog is the
    back-pressure.  ``close_fd`` closes without blocking.  ``account(peer)``: the user for whom a link counts.
    """

    RESERVED = 8
    """One link in so many is for privileged peers."""

    def __init__(
        self,
        sock: socket.socket | None,
        make: Callable[[socket.socket, PeerCredentials], Connection],
        limits: Limits,
        *,
        check: Callable[[PeerCredentials], None],
        privileged: Callable[[PeerCredentials], bool] = lambda peer: False,
        account: Callable[[PeerCredentials], int] = lambda peer: peer.uid,
        close_fd: Callable[[int], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._socket = sock
        self._make = make
        self._limits = limits
        self._check = check
        self._is_privileged = privileged
        self._account = account
        self._privileged: set[Connection] = set()
        self._close_fd = close_fd
        self._loop = loop
        self._strangers: set[Connection] = set()
        self._users: Counter[int] = Counter()
        self._timer: asyncio.TimerHandle | None = None
        self.connections: set[Connection] = set()
        if sock is not None:
            sock.setblocking(False)
            loop.add_reader(sock, self._readable)

    def closed(self, connection: Connection) -> None:
        """Stop counting a link that has ended."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._strangers.discard(connection)
            self._privileged.discard(connection)
            account = self._account(connection.peer)
            self._users[account] -= 1
            if not self._users[account]:
                del self._users[account]

    def close(self) -> None:
        """Stop accepting and end every link."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        for connection in list(self.connections):
            connection.close()

    def _readable(self) -> None:
        assert self._socket is not None
        for _ in range(_ACCEPTS_AT_ONCE):
            try:
                sock, _ = self._socket.accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                _log.error("cannot accept a connection", error=error.strerror)
                self._pause()
                return
            self.adopt(sock, peer_credentials(sock))

    def adopt(self, sock: socket.socket, peer: PeerCredentials) -> None:
        """Serve a link that was accepted here or by another process, if there is room for it."""
        stranger = self._is_stranger(peer)
        if not self._has_room(peer, stranger):
            _log.warning("connection refused: too many are open", uid=peer.uid, open=len(self.connections))
            self._close_fd(sock.detach())
            return
        connection = self._make(sock, peer)
        self._users[self._account(peer)] += 1
        self.connections.add(connection)
        if stranger:
            self._strangers.add(connection)
        elif self._is_privileged(peer):
            self._privileged.add(connection)

    def _is_stranger(self, peer: PeerCredentials) -> bool:
        try:
            self._check(peer)
        except RequestRefused:
            return True
        return False

    def _has_room(self, peer: PeerCredentials, stranger: bool) -> bool:
        limits, own = self._limits, self._users.get(self._account(peer), 0)
        if self._is_privileged(peer):
            return len(self.connections) < limits.connections
        reserved = limits.connections // self.RESERVED
        free = limits.connections - max(reserved, len(self._privileged)) - self._unprivileged
        return own < limits.connections_per_user and (len(self._strangers) if stranger else own) < free

    @property
    def _unprivileged(self) -> int:
        return len(self.connections) - len(self._privileged)

    def _pause(self) -> None:
        assert self._socket is not None
        self._loop.remove_reader(self._socket.fileno())
        self._timer = self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        assert self._socket is not None
        try:
            self._loop.add_reader(self._socket, self._readable)
        except OSError as error:
            _log.error("cannot watch a listening socket", error=error.strerror)
            self._pause()
