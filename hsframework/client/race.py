"""A session with the first of a host's addresses that answers, for protocols over UDP (RFC 8305).

No answer of a network tells whether a server listens at a UDP address, only its handshake does.  So the handshakes
race: each address gets a head start of :data:`HEAD_START` before the next one, or the next begins at once if one fails.
The first that succeeds wins, and the others are withdrawn.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import socket
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from hsframework.client.aio import AsyncClient
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import AsyncSession
from hsframework.client.udp import connected_udp, find_udp
from hsframework.errors import HsframeworkError

T = TypeVar("T")

HEAD_START = 0.25
"""Seconds, as RFC 8305 section 8 recommends."""

_NOBODY_ANSWERED = frozenset(
    (errno.ECONNRESET, errno.ECONNREFUSED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
)


class Won(NamedTuple):
    """The session of the race's winner, and its socket, which the caller closes."""

    socket: socket.socket
    session: AsyncSession


async def connect_udp_session(client: AsyncClient, host: str, port: int, options: HandshakeOptions) -> Won:
    """Return a session with the first of the host's addresses that answers.

    Raises ClientError: of the addresses' errors one that a server gave, if one did, else the first.
    """
    found = await asyncio.to_thread(find_udp, host, port)
    return await race([partial(_handshake, client, address, options) for address in interleaved(found)])


async def _handshake(client: AsyncClient, found: Any, options: HandshakeOptions) -> Won:
    sock = connected_udp(found)
    try:
        sock.setblocking(False)
        return Won(sock, await client.handshake(sock, options))
    except BaseException:
        sock.close()
        raise


def interleaved(found: Sequence[Any]) -> list[Any]:
    """Return the answers of getaddrinfo with the families in turn, the first one's first (RFC 8305 section 4)."""
    families = dict.fromkeys(family for family, *_ in found)
    rows = [[answer for answer in found if answer[0] == family] for family in families]
    return [answer for row in itertools.zip_longest(*rows) for answer in row if answer is not None]


async def race(attempts: Sequence[Callable[[], Awaitable[T]]], head_start: float = HEAD_START) -> T:
    """Return the result of the first attempt that succeeds.  Raises HsframeworkError if none does.

    Each begins ``head_start`` seconds after the one before, or when one has failed.
    """
    waiting = list(attempts)
    running: list[asyncio.Future[T]] = []
    failures: list[HsframeworkError] = []
    try:
        while waiting or running:
            if waiting:
                running.append(asyncio.ensure_future(waiting.pop(0)()))
            timeout = head_start if waiting else None
            done, _ = await asyncio.wait(running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in [task for task in running if task in done]:
                running.remove(task)
                try:
                    return task.result()
                except HsframeworkError as error:
                    failures.append(error)
    finally:
        for task in running:
            task.cancel()
        for ended in await asyncio.gather(*running, return_exceptions=True):
            if isinstance(ended, Won):
                with contextlib.suppress(OSError):
                    ended.socket.close()
    raise next((error for error in failures if error.errno not in _NOBODY_ANSWERED), failures[0])
