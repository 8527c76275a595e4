"""Consumers for the tests of the whole path: handshakes with both ends ours, and some whose peer says nothing."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass

from hsframework.client import AsyncClient, AsyncSession, HandshakeOptions
from hsframework.errors import HsframeworkError
from hsframework.interface import Identity, PresharedKey, Role, Secret, Trust
from hsframework.testing.certificates import Authority
from tests.support.running import WAIT, tcp_pairs

NAME = "server.example"
DEADLINE = 9.0
"""Seconds of a handshake that something else must end long before."""


class Credentials:
    """One authority, one server certificate and one pre-shared key."""

    def __init__(self) -> None:
        self.authority = Authority("Load CA", key_type="ecdsa-p256")
        self.identity: Identity = self.authority.issue(names=[NAME], key_type="ecdsa-p256").identity
        self.trust: Trust = self.authority.trust()
        self.psk = PresharedKey(b"load test", Secret(bytes(range(100, 132))))

    def client(self, timeout: float | None = DEADLINE, *, alpn: tuple[str, ...] = ()) -> HandshakeOptions:
        """Return options of a client that verifies its server."""
        return HandshakeOptions(peer_name=NAME, trust=self.trust, timeout=timeout, alpn=alpn)

    def server(self, timeout: float | None = DEADLINE) -> HandshakeOptions:
        """Return options of the server that it expects."""
        return HandshakeOptions(role=Role.SERVER, identities=(self.identity,), timeout=timeout)

    def psk_client(self) -> HandshakeOptions:
        """Return options of a client with the pre-shared key."""
        return HandshakeOptions(psks=(self.psk,), timeout=DEADLINE)

    def psk_server(self) -> HandshakeOptions:
        """Return options of a server that looks the key up."""
        return HandshakeOptions(role=Role.SERVER, psks=(self.psk,), timeout=DEADLINE)


@dataclass(frozen=True)
class Ended:
    """End of a handshake: its errno (0: it succeeded), and its time on the monotonic clock."""

    errno: int
    at: float
    message: str = ""


async def outcome(client: AsyncClient, sock: socket.socket, options: HandshakeOptions) -> Ended:
    """Run a handshake to its one end."""
    try:
        await client.handshake(sock, options)
    except HsframeworkError as error:
        return Ended(error.errno, time.monotonic(), str(error))
    return Ended(0, time.monotonic())


async def handshake_pair(
    client: AsyncClient, pair: tuple[socket.socket, socket.socket], credentials: Credentials, *, psk: bool = False
) -> tuple[AsyncSession, AsyncSession]:
    """Run a handshake with both ends ours, and return the sessions of client and server."""
    near = credentials.psk_client() if psk else credentials.client()
    far = credentials.psk_server() if psk else credentials.server()
    return await asyncio.gather(client.handshake(pair[0], near), client.handshake(pair[1], far))


async def check_served(client: AsyncClient, credentials: Credentials) -> None:
    """Check that a fresh handshake succeeds, with data in both directions."""
    with tcp_pairs() as (pair,):
        near, far = (session.stream() for session in await handshake_pair(client, pair, credentials))
        for one, other in ((near, far), (far, near)):
            await one.send(b"hello")
            assert await other.receive() == b"hello"


async def served_again(client: AsyncClient, credentials: Credentials) -> None:
    """Check the same while nobody may serve: repeat a handshake that is refused or ends with a process."""
    end = time.monotonic() + WAIT
    while True:
        try:
            await check_served(client, credentials)
            return
        except HsframeworkError as error:
            assert error.errno in (errno.EIO, errno.ESRCH, errno.ECONNRESET, errno.ECONNREFUSED), error
            assert time.monotonic() < end, error
            await asyncio.sleep(0.01)


async def spoken_to(peers: Sequence[socket.socket]) -> None:
    """Wait until every peer has something to read, which stays there: all these handshakes are under way."""
    async with asyncio.timeout(WAIT):
        for peer in peers:
            await _readable(peer)
            assert peer.recv(1, socket.MSG_PEEK), "the connection was ended before a byte of the handshake"


async def hung_up(peers: Sequence[socket.socket]) -> float:
    """Wait until the connection of every peer has been ended, and return the time of that on the monotonic clock."""
    async with asyncio.timeout(WAIT):
        for peer in peers:
            with contextlib.suppress(ConnectionResetError):
                await _readable(peer)
                while peer.recv(65536):
                    await _readable(peer)
    return time.monotonic()


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sock)
