"""Verification of a peer's certificates by a request's trust, as a function for use within a handshake."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from hsframework.credentials.admission import check_admitted
from hsframework.credentials.certificate import weakness_of_key
from hsframework.credentials.chain import Purpose, verifier_for
from hsframework.credentials.rules import purpose_for
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, Identity, PeerIdentity, Request, Role, Trust

_SUNRPC = "sunrpc"
"""ALPN of remote procedure calls (RFC 9289 section 4.1)."""
Verify = Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
"""Verifies the peer's certificates (DER, leaf first): returns the accepted path, or raises HandshakeFailed."""


def no_trust(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Raise ``HandshakeFailed(UNTRUSTED)``: the :data:`Verify` for a request without trust."""
    raise HandshakeFailed(Failure.UNTRUSTED, "no trust is configured for this request")


def no_name(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Raise ``HandshakeFailed(NO_PEER_NAME)``: the :data:`Verify` for a client's request that names no peer."""
    raise HandshakeFailed(Failure.NO_PEER_NAME, "give peer_name, or set any_peer_name")


def check_key(certificate: bytes) -> None:
    """Check the key of a peer's certificate (DER) before a library verifies a signature with it.

    For protocols that judge a chain only later: with some keys one signature costs 20 ms.  Raises
    ``HandshakeFailed(BAD_CERTIFICATE)``.
    """
    weakness = weakness_of_key(certificate)
    if weakness:
        raise HandshakeFailed(Failure.BAD_CERTIFICATE, weakness)


def judge_for(request: Request) -> Verify:
    """Return the :data:`Verify` for a request, by its trust, role and peer name.

    Raises ``HandshakeFailed(INTERNAL)`` for a trust that cannot be read, and ``HandshakeFailed(NO_PEER_NAME)`` for a
    client's request without a name whose peer has to show a certificate.
    """
    if request.trust is None:
        return no_trust
    if request.role is Role.CLIENT and request.peer_name is None and not request.any_peer_name:
        if request.auth_mode is not AuthMode.PSK:
            no_name(())
        return no_name
    try:
        verifier = verifier_for(request.trust.of_anybody)
    except ConfigurationError as error:
        raise HandshakeFailed(Failure.INTERNAL, str(error)) from None
    is_client = request.role is Role.CLIENT
    purpose, admit = _purpose(request, request.trust), request.trust.admit
    peer_name = request.peer_name if is_client and not request.any_peer_name else None

    def verify(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        path = verifier.verify(chain, purpose=purpose, peer_name=peer_name, now=datetime.now(UTC))
        check_admitted(admit, PeerIdentity(certificates=path))
        return path

    return verify


def _purpose(request: Request, trust: Trust) -> Purpose:
    """Return the purpose of the peer's certificate.  The kernel's requests for ``sunrpc`` are those of NFS."""
    return purpose_for(request.role, trust.client_usage, of_nfs=request.kernel_consumer and _SUNRPC in request.alpn)


def client_identities(request: Request) -> tuple[Identity, ...]:
    """Return the identities that a client may present; none unless its ``auth_mode`` is X509.

    Raises ``HandshakeFailed(NO_KEY)`` if it is X509 and the request has no identity.
    """
    if request.auth_mode is not AuthMode.X509:
        return ()
    if not request.identities:
        raise HandshakeFailed(Failure.NO_KEY, "the request names no certificate of ours")
    return request.identities
