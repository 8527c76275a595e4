"""A request's opinion of a peer's certificates, ready to be asked in mid-handshake: the same for every protocol."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from hsframework.credentials.chain import Purpose, verifier_for
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Identity, Request, Role

Verify = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
"""Judges what the peer sent (DER, leaf first): returns the path that was believed, or raises HandshakeFailed."""


def no_trust(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The :data:`Verify` of who trusts nobody."""
    raise HandshakeFailed(Failure.UNTRUSTED, "no trust is configured for this request")


def judge_for(request: Request) -> Verify:
    """What ``request`` believes.  Raises ``HandshakeFailed(INTERNAL)`` for a trust that cannot be read."""
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


def client_identities(request: Request) -> tuple[Identity, ...]:
    """What a client may show: nothing unless it authenticates by certificate.  Raises ``HandshakeFailed(NO_KEY)``."""
    if request.auth_mode is not AuthMode.X509:
        return ()
    if not request.identities:
        raise HandshakeFailed(Failure.NO_KEY, "the request names no certificate of ours")
    return request.identities
