"""The protocol ``tls13`` of the agent: the handshake by :mod:`.driver`, then the session's hand-over.

The rules:

* The peer is authorized when the handshake is done and before the session is installed, so that an alert can still be
  sent for a refusal.
* A kernel consumer gets its session in the socket, or ``NO_KERNEL_SESSION``; its secrets go nowhere else.  A consumer
  in user space gets the secrets in either case: with them it answers a KeyUpdate.
"""

from __future__ import annotations

import asyncio
import errno

import structlog

from hsframework.errors import SHORTAGE_PAUSE, HandshakeError, is_shortage
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint, Handshaker, Request, Result
from hsframework_tls13 import ktls, ktls_options
from hsframework_tls13.ageing import Ageing
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.driver import establish, first_alert, say, session_alert
from hsframework_tls13.engine import Established
from hsframework_tls13.records import MAX_PLAINTEXT
from hsframework_tls13.session import specification, to_parameters
from hsframework_tls13.settings import LEAST_PAYLOAD, Settings

_CONNECTION_LOST = frozenset((errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE))
"""Refusals of a session whose peer has gone in the moment of success: no fault of the kernel's."""

_AGREED = "the peer asked for small records (max_fragment_length)"

_log = structlog.get_logger("hsframework.agent")


class Tls13Handshaker(Handshaker):
    """The handshaker of both roles.

    Raises ConfigurationError where OpenSSL does not take the settings, or the kernel one that is required.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts = Contexts(settings)
        self._contexts.check()
        self._ageing = Ageing(self._contexts)
        specification()
        supported = ktls.supported_suites() if settings.kernel_offload else frozenset()
        self._in_kernel = tuple(suite for suite in settings.kernel_suites if suite in supported)
        self._options = self._tried_options() if self._in_kernel else ()
        probe = ktls_options.payload_limit(LEAST_PAYLOAD)
        self._limits_payload = bool(self._in_kernel) and not ktls_options.refused_here(self._in_kernel[0], (probe,))

    def _tried_options(self) -> tuple[ktls_options.Option, ...]:
        """Return the wanted options that this kernel takes, and report the others.  Raises ConfigurationError."""
        options = ktls_options.wanted(self._settings)
        refused = ktls_options.refused_here(self._in_kernel[0], options) if options else {}
        ktls_options.check_required(refused, self._settings.ktls_require)
        for setting, reason in refused.items():
            _log.warning("this kernel refuses an option of kTLS; it is left out", setting=setting, reason=reason)
        return tuple(option for option in options if option.setting not in refused)

    def close(self) -> None:
        self._ageing.close()

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        self._ageing.used()
        try:
            offer = self._contexts.offer(request, self._suites(request))
        except HandshakeFailed as error:
            await say(endpoint, first_alert(error))
            raise
        session, flight = await establish(
            request,
            endpoint,
            self._contexts,
            offer=offer,
            alpn=request.alpn,
            client_certificate=request.client_certificate,
        )
        if flight:
            await endpoint.send(flight)
        return await self._hand_over(request, endpoint, session)

    def _suites(self, request: Request) -> tuple[CipherSuite, ...]:
        if not request.kernel_consumer:
            return self._settings.suites
        if not self._in_kernel:
            reason = "load the kernel's module tls, or name a cipher in ktls-ciphers that the kernel takes"
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, f"no kTLS here: {reason}")
        return self._in_kernel

    async def _hand_over(self, request: Request, endpoint: Endpoint, session: Established) -> Result:
        try:
            request.authorize(session.peer)
        except HandshakeError as refusal:
            failure = refusal.failure if isinstance(refusal, HandshakeFailed) else Failure.NOT_AUTHORIZED
            await say(endpoint, session_alert(session, failure))
            raise
        in_kernel = await self._plant(request, endpoint, session)
        refused = self._set_options(endpoint, session) if in_kernel else ""
        return Result(
            peer=session.peer,
            alpn=session.alpn,
            in_kernel=in_kernel,
            session={} if request.kernel_consumer else to_parameters(session),
            tags={
                "version": "TLSv1.3",
                "cipher": session.suite.name,
                "group": session.group,
                **({"ktls-refused": refused} if refused else {}),
            },
        )

    def _set_options(self, endpoint: Endpoint, session: Established) -> str:
        """Set the options of kTLS on the socket; return the settings that it refuses.  Raises HandshakeFailed."""
        options, agreed = self._options, session.max_payload < MAX_PLAINTEXT
        if agreed:
            options = ktls_options.limited(options, session.max_payload)
        refused = ktls_options.set_all(endpoint.socket, options)
        for setting, reason in refused.items():
            number = next(option.number for option in options if option.setting == setting)
            if agreed and number == ktls_options.TLS_TX_MAX_PAYLOAD_LEN:
                raise HandshakeFailed(Failure.NO_KERNEL_SESSION, f"{_AGREED}: {reason}")
            if setting in self._settings.ktls_require:
                raise HandshakeFailed(Failure.NO_KERNEL_SESSION, f"ktls-require: {setting}: {reason}")
            _log.warning("the kernel refuses an option of kTLS for a session", setting=setting, reason=reason)
        return " ".join(refused)

    async def _plant(self, request: Request, endpoint: Endpoint, session: Established) -> bool:
        """Install the session in the kernel, where that is possible; return True if it is there."""
        if session.suite not in self._in_kernel:
            return False
        if session.max_payload < MAX_PLAINTEXT and not self._limits_payload:
            if not request.kernel_consumer:
                return False
            failure = HandshakeFailed(Failure.NO_KERNEL_SESSION, f"{_AGREED}, and this kernel has no such limit")
            await say(endpoint, session_alert(session, failure.failure))
            raise failure
        secrets = session.client_secret, session.server_secret
        done = 0
        while True:
            try:
                ktls.install(endpoint.socket, session.role, session.suite, *secrets, done=done)
                return True
            except ktls.KernelRefused as refusal:
                half = isinstance(refusal, ktls.HalfInstalled)
                if not half and not request.kernel_consumer:
                    return False
                if refusal.errno in _CONNECTION_LOST:
                    raise HandshakeFailed(Failure.PEER_GONE, str(refusal)) from None
                if not is_shortage(refusal):
                    failure = HandshakeFailed(Failure.NO_KERNEL_SESSION, str(refusal))
                    if not half:
                        await say(endpoint, session_alert(session, failure.failure))
                    raise failure from None
                done = refusal.done
            # The session can live nowhere else.  The deadline ends the attempts.
            await asyncio.sleep(SHORTAGE_PAUSE)
