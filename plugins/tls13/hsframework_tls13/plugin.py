"""TLS 1.3 as a protocol of the agent: the I/O around :mod:`.engine`.

The rules:

* Records are taken from the socket as far as the engine has used them, and none once it has finished: what follows
  belongs to the consumer.
* Who may connect, beyond what the handshake proves, is asked when it is done and before the session is planted, so
  that a refusal can still be said to the peer.
* On failure the alert goes out before the error does, if it can at once; the error is what counts.
* A kernel consumer gets its session in the socket, or ``NO_KERNEL_SESSION``; its secrets go nowhere else.  A consumer
  in user space gets the secrets in either case: with them it answers a KeyUpdate.
"""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime

from hsframework.credentials.chain import Purpose, verifier_for
from hsframework.credentials.failures import Failure, HandshakeFailed
from hsframework.errors import ConfigurationError, HandshakeError
from hsframework.interface import (
    AuthMode,
    Endpoint,
    Handshaker,
    Identity,
    PresharedKey,
    Protocol,
    Request,
    Result,
    Role,
)
from hsframework.netlink.spec import Specification
from hsframework_tls13 import ktls
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine import ClientEngine, Engine, Established, ServerEngine, Verify, no_trust
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import HEADER_SIZE, body_size, plaintext_alert, whole_records
from hsframework_tls13.session import specification, to_parameters
from hsframework_tls13.settings import Settings

MAX_PSK_LOOKUPS = 8
"""Identities of one client that are looked up; each costs a question to the dispatcher."""
_PEEK_SIZE = 16 * 1024
ALERT_TIMEOUT = 0.25
"""Seconds for an alert to leave: nobody waits longer for a goodbye."""


class Tls13Protocol(Protocol):
    """``tlshd`` is the kernel's group for TLS; ``tls13`` the one that local consumers use."""

    name = "tls13"
    groups = ("tls13", "tlshd")
    settings_type = Settings

    @property
    def specification(self) -> Specification:
        return specification()

    def prepare(self, settings: Settings | None) -> Tls13Handshaker:
        return Tls13Handshaker(settings or Settings())


class Tls13Handshaker(Handshaker):
    """Serves both roles.  Raises ConfigurationError where OpenSSL does not take the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts = Contexts(settings)
        self._contexts.check()
        specification()
        supported = ktls.supported_suites() if settings.kernel_offload else frozenset()
        self._in_kernel = tuple(suite for suite in settings.suites if suite in supported)

    @property
    def kernel_suites(self) -> tuple[CipherSuite, ...]:
        """The suites whose sessions this kernel takes; empty: it takes none, or is not asked to."""
        return self._in_kernel

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        try:
            engine = self._engine(request)
        except HandshakeFailed as error:
            await _say(endpoint, _first_alert(error))
            raise
        await self._run(request, engine, endpoint)
        return await self._hand_over(request, endpoint, engine.established)

    def _engine(self, request: Request) -> Engine:
        suites = self._suites(request)
        verify = self._verify(request)
        if request.role is Role.SERVER:
            return ServerEngine(
                self._contexts,
                identities=request.identities,
                psk=request.auth_mode is AuthMode.PSK,
                alpn=request.alpn,
                client_certificate=request.client_certificate,
                verify=verify,
                suites=suites,
            )
        return ClientEngine(
            self._contexts,
            server_name=request.peer_name,
            alpn=request.alpn,
            identities=_client_identities(request),
            psk=_client_psk(request),
            verify=verify,
            suites=suites,
        )

    def _suites(self, request: Request) -> tuple[CipherSuite, ...]:
        if not request.kernel_consumer:
            return self._settings.suites
        if not self._in_kernel:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kTLS here: load the kernel's module tls")
        return self._in_kernel

    def _verify(self, request: Request) -> Verify:
        if request.trust is None:
            return no_trust
        try:
            verifier = verifier_for(request.trust)
        except ConfigurationError as error:
            raise HandshakeFailed(Failure.INTERNAL, str(error)) from None
        is_client = request.role is Role.CLIENT
        purpose = Purpose.SERVER_AUTH if is_client else Purpose.CLIENT_AUTH
        peer_name = request.peer_name if is_client else None
        return lambda chain: verifier.verify(chain, purpose=purpose, peer_name=peer_name, now=datetime.now(UTC))

    async def _run(self, request: Request, engine: Engine, endpoint: Endpoint) -> None:
        try:
            while True:
                output = engine.data_to_send()
                if output:
                    await endpoint.send(output)
                if engine.finished:
                    return
                await _feed(engine, endpoint)
                if engine.psk_identities:
                    engine.provide_psk(await _look_up(request, engine.psk_identities))
        except HandshakeFailed as error:
            counts = engine.abort(error)
            await _say(endpoint, engine.data_to_send())
            raise counts from None

    async def _hand_over(self, request: Request, endpoint: Endpoint, session: Established) -> Result:
        try:
            request.authorize(session.peer)
        except HandshakeError as refusal:
            failure = refusal.failure if isinstance(refusal, HandshakeFailed) else Failure.NOT_AUTHORIZED
            await _say(endpoint, _session_alert(session, failure))
            raise
        in_kernel = await self._plant(request, endpoint, session)
        return Result(
            peer=session.peer,
            alpn=session.alpn,
            in_kernel=in_kernel,
            session={} if request.kernel_consumer else to_parameters(session),
            tags={"version": "TLSv1.3", "cipher": session.suite.name, "group": session.group},
        )

    async def _plant(self, request: Request, endpoint: Endpoint, session: Established) -> bool:
        """Into the kernel, where that is possible; True: it is there."""
        if session.suite not in self._in_kernel:
            return False
        try:
            ktls.install(endpoint.socket, session.role, session.suite, session.client_secret, session.server_secret)
        except ktls.HalfInstalled as refusal:
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, str(refusal)) from None
        except ktls.KernelRefused as refusal:
            if not request.kernel_consumer:
                return False
            failure = HandshakeFailed(Failure.NO_KERNEL_SESSION, str(refusal))
            await _say(endpoint, _session_alert(session, failure.failure))
            raise failure from None
        return True


async def _feed(engine: Engine, endpoint: Endpoint) -> None:
    """The records that are there, as far as they are the handshake's; or wait for the rest of the first."""
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


async def _say(endpoint: Endpoint, output: bytes) -> None:
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


def _client_identities(request: Request) -> tuple[Identity, ...]:
    if request.auth_mode is not AuthMode.X509:
        return ()
    if not request.identities:
        raise HandshakeFailed(Failure.NO_KEY, "the request names no certificate of ours")
    return request.identities


def _client_psk(request: Request) -> PresharedKey | None:
    if request.auth_mode is not AuthMode.PSK:
        return None
    if not request.psks:
        raise HandshakeFailed(Failure.NO_KEY, "the request names no pre-shared key")
    return request.psks[0]


def _first_alert(error: HandshakeFailed) -> bytes:
    return b"" if error.failure.alert is None else plaintext_alert(error.failure.alert)


def _session_alert(session: Established, failure: Failure) -> bytes:
    layer = RecordLayer(session.role, session.suite, session.client_secret, session.server_secret)
    return b"" if failure.alert is None else layer.abort(failure.alert)
