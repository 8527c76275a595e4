"""Connections to a local socket: whoever fills it, a newcomer finds room, and root always does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable

import pytest

from hsframework.configuration.settings import Limits
from hsframework.dispatcher import connections
from hsframework.dispatcher.connections import Listener
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.errors import RequestRefused

STRANGERS = range(5000, 5100)
USER, ANOTHER, ROOT = 1000, 1001, 0


class Plain:
    """A link that does nothing."""

    def __init__(self, sock: socket.socket, peer: PeerCredentials) -> None:
        self.peer, self._socket = peer, sock

    def close(self) -> None:
        self._socket.close()


class Door:
    """A listener, and those who connect to it, each with a user id of the test's choice."""

    def __init__(self, limits: Limits) -> None:
        self._clients = contextlib.ExitStack()
        self._uid = ROOT
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind("")
        self._server.listen()
        self.address = self._server.getsockname()
        self.listener = Listener(
            self._server,
            Plain,
            limits,
            check=self._check,
            privileged=lambda peer: peer.uid == ROOT,
            close_fd=os.close,
            loop=asyncio.get_running_loop(),
        )

    def credentials(self, sock: socket.socket) -> PeerCredentials:
        return PeerCredentials(1, self._uid, self._uid)

    async def connect(self, uid: int) -> bool:
        """Connect as a user; False: the connection was closed at once."""
        self._uid = uid
        client = self._clients.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        before = len(self.listener.connections)
        client.connect(self.address)
        client.setblocking(False)
        while len(self.listener.connections) == before:
            try:
                if client.recv(1) == b"":
                    return False
            except BlockingIOError:
                await asyncio.sleep(0)
        return True

    async def fill(self, uid: int) -> int:
        """Connect until it is refused; return how often it was not."""
        number = 0
        while await self.connect(uid):
            number += 1
        return number

    def close(self) -> None:
        self.listener.close()
        self._clients.close()

    def _check(self, peer: PeerCredentials) -> None:
        if peer.uid in STRANGERS:
            raise RequestRefused("a stranger")


@pytest.fixture
def limits() -> Limits:
    return Limits(connections=64, connections_per_user=32)


@pytest.fixture
def door(limits: Limits, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Door]:
    def made() -> Door:
        door = Door(limits)
        monkeypatch.setattr(connections, "peer_credentials", door.credentials)
        return door

    return made


async def test_nobody_keeps_others_out(door: Callable[[], Door]) -> None:
    """A user, and strangers with a number of his own for each, take what they can: others still connect."""
    with contextlib.closing(door()) as made:
        assert await made.fill(USER) == 28
        assert sum([await made.connect(uid) for uid in STRANGERS]) == 14
        assert await made.connect(ANOTHER)
        assert await made.fill(ROOT) >= 8
        assert await made.connect(ANOTHER) is False


async def test_what_ends_makes_room(door: Callable[[], Door]) -> None:
    """A user has so many at a time, however often he comes; nothing is kept of one who has gone."""
    with contextlib.closing(door()) as made:
        for _ in range(3):
            assert await made.fill(USER) == 28
            for connection in list(made.listener.connections):
                connection.close()
                made.listener.closed(connection)
        assert not made.listener._users


@pytest.mark.parametrize("limits", [Limits(connections=4)])
async def test_strangers_count_as_one_user(door: Callable[[], Door]) -> None:
    """With numbers of their own they fill half of the connections, no more."""
    with contextlib.closing(door()) as made:
        assert [await made.connect(uid) for uid in STRANGERS[:3]] == [True, True, False]
        assert await made.connect(USER)
