"""The I/O of an engine over an endpoint, for every protocol that runs inside TLS 1.3.

The rules:

* Records are taken from the socket as far as the engine has used them, and none once it has finished: what follows
  belongs to whoever comes next.
* On failure the alert goes out before the error does, if it can at once; the error is what counts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence

from hsframework.credentials.judgement import client_identities, judge_for
from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, CertificateDemand, Endpoint, PresharedKey, Request, Role
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine import ClientEngine, Engine, Established, ServerEngine
from hsframework_tls13.policy import Offer
from hsframework_tls13.prediction import Server
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import HEADER_SIZE, body_size, plaintext_alert, whole_records

MAX_PSK_LOOKUPS = 8
"""Identities of one client that are looked up; each costs a question to the dispatcher."""
MAX_NAME = 253
"""Characters of a host's name (RFC 1035 section 2.3.4)."""
_PEEK_SIZE = 16 * 1024
ALERT_TIMEOUT = 0.25
"""Seconds for an alert to leave: nobody waits longer for a goodbye."""


async def establish(
    request: Request,
    endpoint: Endpoint,
    contexts: Contexts,
    *,
    offer: Offer,
    alpn: Sequence[str],
    client_certificate: CertificateDemand,
) -> tuple[Established, bytes]:
    """Run the handshake that ``request`` asks for.  Raises HandshakeFailed, after the alert has been sent.

    Returns the session, and our last flight, which the caller is to send: in front of what it has to say itself.
    """
    server = _server_of(request)
    try:
        engine = _engine(request, contexts, offer, alpn, client_certificate, server)
    except HandshakeFailed as error:
        await say(endpoint, first_alert(error))
        raise
    try:
        flight = await _run(request, engine, endpoint)
    except BaseException:
        contexts.predictions.forget(server, offer.choices)
        raise
    contexts.predictions.learn(server, offer.choices, engine.established.group)
    return engine.established, flight


def _engine(
    request: Request,
    contexts: Contexts,
    offer: Offer,
    alpn: Sequence[str],
    client_certificate: CertificateDemand,
    server: Server | None,
) -> Engine:
    verify = judge_for(request)
    if request.role is Role.SERVER:
        return ServerEngine(
            contexts,
            identities=request.identities,
            psk=request.auth_mode is AuthMode.PSK,
            alpn=alpn,
            client_certificate=client_certificate,
            verify=verify,
            suites=offer.suites,
            choices=offer.choices,
        )
    return ClientEngine(
        contexts,
        server_name=request.peer_name,
        alpn=alpn,
        identities=client_identities(request),
        psk=_client_psk(request),
        verify=verify,
        suites=offer.suites,
        choices=offer.choices,
        best_group_alone=contexts.predictions.takes_best(server, offer.choices),
    )


def _server_of(request: Request) -> Server | None:
    """Return the server of a client's request; None: the request is a server's, or for a name that no host has."""
    name, address = request.peer_name, request.peer_address
    if request.role is Role.SERVER or (name is not None and len(name) > MAX_NAME):
        return None
    return request.user, name, None if address is None else address.rpartition(":")[0]


async def _run(request: Request, engine: Engine, endpoint: Endpoint) -> bytes:
    """Run the engine to its end; return our last flight."""
    try:
        while True:
            output = engine.data_to_send()
            if engine.finished:
                return output
            if output:
                await endpoint.send(output)
            await _feed(engine, endpoint)
            if engine.psk_identities:
                engine.provide_psk(await _look_up(request, engine.psk_identities))
    except HandshakeFailed as error:
        counts = engine.abort(error)
        await say(endpoint, engine.data_to_send())
        raise counts from None


async def _feed(engine: Engine, endpoint: Endpoint) -> None:
    """Feed the engine the handshake's records that are there; or wait for the rest of the first."""
    waiting = await endpoint.peek(_PEEK_SIZE)
    size = whole_records(waiting)
    if not size:
        engine.feed(await endpoint.receive_record(HEADER_SIZE, body_size))
        return
    try:
        taken = engine.feed(waiting[:size])
    except HandshakeFailed:
        # A connection that is closed with unread data in it is reset, and the reset overtakes our alert.
        endpoint.take(size)
        raise
    endpoint.take(taken)


async def say(endpoint: Endpoint, output: bytes) -> None:
    """Send an alert, if it can leave at once; otherwise drop it."""
    if not output:
        return
    with contextlib.suppress(HandshakeError, OSError, TimeoutError):
        async with asyncio.timeout(ALERT_TIMEOUT):
            await endpoint.send(output)


async def _look_up(request: Request, identities: tuple[bytes, ...]) -> PresharedKey | None:
    for identity in identities[:MAX_PSK_LOOKUPS]:
        key = await request.psk_lookup(identity)
        if key is not None:
            return key
    return None


def _client_psk(request: Request) -> PresharedKey | None:
    if request.auth_mode is not AuthMode.PSK:
        return None
    if not request.psks:
        raise HandshakeFailed(Failure.NO_KEY, "the request names no pre-shared key")
    return request.psks[0]


def first_alert(error: HandshakeFailed) -> bytes:
    """Return the alert of a refusal before there are keys; empty where the table has none."""
    return b"" if error.failure.alert is None else plaintext_alert(error.failure.alert)


def session_alert(session: Established, failure: Failure) -> bytes:
    """Return the alert as the first record of a finished session; empty where the table has none."""
    layer = RecordLayer(session.role, session.suite, session.client_secret, session.server_secret)
    return b"" if failure.alert is None else layer.abort(failure.alert)
