"""The protocol ``tls13`` of the agent: the handshake by :mod:`.driver`, then the session's hand-over.

The rules:

* The peer is authorized when the handshake is done and before the session is installed, so that an alert can still be
  sent for a refusal.
* A kernel consumer gets its session in the socket, or ``NO_KERNEL_SESSION``; its secrets go nowhere else.  A consumer
  in user space gets the secrets in either case: with them it answers a KeyUpdate.
"""

from __future__ import annotations

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint, Handshaker, Request, Result
from hsframework_tls13 import ktls
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.driver import establish, first_alert, say, session_alert
from hsframework_tls13.engine import Established
from hsframework_tls13.session import specification, to_parameters
from hsframework_tls13.settings import Settings


class Tls13Handshaker(Handshaker):
    """The handshaker of both roles.  Raises ConfigurationError where OpenSSL does not take the settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._contexts = Contexts(settings)
        self._contexts.check()
        specification()
        supported = ktls.supported_suites() if settings.kernel_offload else frozenset()
        self._in_kernel = tuple(suite for suite in settings.suites if suite in supported)

    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        try:
            suites = self._suites(request)
        except HandshakeFailed as error:
            await say(endpoint, first_alert(error))
            raise
        session, flight = await establish(
            request,
            endpoint,
            self._contexts,
            suites=suites,
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
            raise HandshakeFailed(Failure.NO_KERNEL_SESSION, "no kTLS here: load the kernel's module tls")
        return self._in_kernel

    async def _hand_over(self, request: Request, endpoint: Endpoint, session: Established) -> Result:
        try:
            request.authorize(session.peer)
        except HandshakeError as refusal:
            failure = refusal.failure if isinstance(refusal, HandshakeFailed) else Failure.NOT_AUTHORIZED
            await say(endpoint, session_alert(session, failure))
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
        """Install the session in the kernel, where that is possible; return True if it is there."""
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
            await say(endpoint, session_alert(session, failure.failure))
            raise failure from None
        return True
