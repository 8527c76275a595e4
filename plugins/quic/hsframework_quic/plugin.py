"""The protocol ``quic`` of the agent: the I/O around :mod:`.handshake.handshake`.

The rules:

* Datagrams are taken from the socket until the handshake is over, and none after that: what follows is the consumer's.
  1-RTT packets that came in with the handshake's own travel in the session.
* A failure is said to the peer before it is raised, if it can be at once; so is a request that is withdrawn, or that
  has come to its deadline.
* Nothing is kept of a handshake but what tickets need, and of those a bounded number.
* A kernel consumer cannot use a session in user space: on a UDP socket it gets ``NO_KERNEL_SESSION``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aioquic.quic.logger import QuicLogger

from hsframework.credentials.judgement import client_identities, judge_for
from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    Endpoint,
    Handshaker,
    Request,
    Result,
    Role,
)
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions
from hsframework_quic.aioquic_adapter.tls_policy import narrowed
from hsframework_quic.handshake.client import ClientHandshake
from hsframework_quic.handshake.handshake import Handshake
from hsframework_quic.handshake.server import ClientFacts, ServerHandshake
from hsframework_quic.handshake.tickets import Tickets
from hsframework_quic.logs import KeyLog, QlogFolder
from hsframework_quic.session import VERSIONS, specification
from hsframework_quic.settings import Settings

MAX_DATAGRAM = 65535
MAX_FIRST_DATAGRAMS = 16
BURST = 8
"""Datagrams that are taken from one socket before the loop turns to others."""
CLOSE_TIMEOUT = 0.04
"""Seconds for CONNECTION_CLOSE to leave: nobody waits longer for a goodbye."""


class QuicHandshaker(Handshaker):
    """The handshaker for UDP sockets, both roles.  Raises ConfigurationError for a file that cannot be used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tickets = Tickets(settings.tickets)
        self._key_log = _open_key_log(settings)
        # aioquic's own log says what the peer likes, as often as it likes; what happened is in the outcome.
        logging.getLogger("quic").setLevel(logging.CRITICAL)
        self._qlogs = None if settings.qlog_dir is None else QlogFolder(settings.qlog_dir, "qlog-dir")
        specification()

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        if request.kernel_consumer:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "a UDP socket has no QUIC in the kernel")
        logger = None if self._qlogs is None else QuicLogger()
        handshake = self._begin(request, logger)
        try:
            await _run(handshake, endpoint)
            return _result(handshake)
        finally:
            if self._qlogs is not None and logger is not None and handshake.name:
                self._qlogs.write(logger, f"{handshake.name}-{request.role.name.lower()}-handshake")

    def _begin(self, request: Request, logger: QuicLogger | None) -> Handshake:
        options = self._options(request)
        now = asyncio.get_running_loop().time()
        if request.role is Role.CLIENT:
            return ClientHandshake(self._settings, options, now, logger)
        handshake = ServerHandshake(self._settings, options, _client_facts(request), logger)
        for datagram in request.attributes.get("datagram", ())[:MAX_FIRST_DATAGRAMS]:
            handshake.receive(datagram, now)
        return handshake

    def _options(self, request: Request) -> TlsOptions:
        if request.auth_mode is AuthMode.PSK:
            raise HandshakeError("QUIC is served with certificates, not with a pre-shared key", errno=errno.EOPNOTSUPP)
        is_client = request.role is Role.CLIENT
        tickets: dict[str, Any] = self._tickets.options_for(request)
        options = TlsOptions(
            role=request.role,
            identities=client_identities(request) if is_client else request.identities,
            server_name=request.peer_name if is_client else None,
            alpn=request.alpn,
            verify=judge_for(request),
            authorize=request.authorize,
            client_certificate=request.client_certificate,
            cipher_suites=self._settings.suites,
            groups=self._settings.wire_groups(request.role),
            key_log=None if self._key_log is None else self._key_log.write,
            **tickets,
        )
        return narrowed(options, request, self._settings.wire_groups(Role.SERVER))

    def close(self) -> None:
        for log in (self._key_log, self._qlogs):
            if log is not None:
                log.close()


async def _run(handshake: Handshake, endpoint: Endpoint) -> None:
    """Run the handshake until it has finished.  Raises HandshakeError."""
    try:
        await _exchange(handshake, endpoint)
    except asyncio.CancelledError:
        handshake.abort(Failure.CANCELLED)
        await _say(handshake, endpoint)
        raise
    except HandshakeError:
        raise
    except Exception:
        # The host logs it; the peer need not wait for what will not come.
        with contextlib.suppress(Exception):
            handshake.abort(Failure.INTERNAL)
            await _say(handshake, endpoint)
        raise


async def _exchange(handshake: Handshake, endpoint: Endpoint) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        for _ in range(BURST):
            if await _step(handshake, endpoint, clock):
                return
        # A socket that always has something never waits, and the others' turn would not come.
        await asyncio.sleep(0)


async def _step(handshake: Handshake, endpoint: Endpoint, clock: Callable[[], float]) -> bool:
    """Send, then wait for one thing to happen.  Return True if the handshake has finished."""
    if handshake.error is not None:
        await _say(handshake, endpoint)
        raise handshake.error
    for datagram in handshake.output(clock()):
        await endpoint.send(datagram)
    if handshake.finished:
        return True
    timer = handshake.timer()
    if timer is not None and timer <= clock():
        handshake.on_timer(clock())
        return handshake.finished
    try:
        datagram = await endpoint.receive_datagram(MAX_DATAGRAM, until=timer)
    except TimeoutError:
        handshake.on_timer(clock())
    else:
        handshake.receive(datagram, clock())
    return handshake.finished


async def _say(handshake: Handshake, endpoint: Endpoint) -> None:
    """Send the last datagrams, if that is possible at once."""
    with contextlib.suppress(HandshakeError, OSError, TimeoutError):
        async with asyncio.timeout(CLOSE_TIMEOUT):
            for datagram in handshake.output(asyncio.get_running_loop().time()):
                await endpoint.send(datagram)


def _result(handshake: Handshake) -> Result:
    agreed = handshake.agreed
    assert agreed is not None
    session = handshake.session()
    tags = {"version": VERSIONS[session.version], "cipher": agreed.cipher, "group": agreed.group}
    if agreed.resumed:
        tags["resumed"] = "yes"
    return Result(peer=agreed.peer, alpn=agreed.alpn, session=session.to_parameters(), tags=tags)


def _client_facts(request: Request) -> ClientFacts:
    attributes = request.attributes
    return ClientFacts(
        original_destination_connection_id=attributes.get("original-destination-connection-id"),
        retry_source_connection_id=attributes.get("retry-source-connection-id"),
        address_validated=bool(attributes.get("address-validated")),
    )


def _open_key_log(settings: Settings) -> KeyLog | None:
    if settings.keylog_file is not None:
        return KeyLog(settings.keylog_file, "keylog-file")
    path = os.environ.get("SSLKEYLOGFILE")
    return KeyLog(Path(path), "SSLKEYLOGFILE") if path else None
