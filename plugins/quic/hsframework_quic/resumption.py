"""The policy of a session: the facts that a request must share with an earlier one to resume its session.  Sans-IO.

It has the consumer's user, who knows the ticket's secret and could pass for the peer with it; the profile; the TLS
policies; the trust; our own certificates; the peer's name and address; the demand for a client certificate; and the
application protocols.
"""

from __future__ import annotations

import hashlib

from hsframework.interface import Request, Role

Policy = bytes


def policy(request: Request, version: int = 0) -> Policy:
    """Return 32 bytes that are equal for requests that may share sessions.

    ``version``: of QUIC, where it is known before the handshake.
    """
    peer = (request.peer_name, request.any_peer_name, request.peer_address) if request.role is Role.CLIENT else ()
    parts: tuple[object, ...] = (
        request.role,
        request.group,
        request.auth_mode,
        None if request.trust is None else request.trust.digest,
        tuple(identity.chain for identity in request.identities),
        peer,
        request.client_certificate,
        request.alpn,
        request.profile,
        request.tls_priorities,
        request.user,
        version,
    )
    return hashlib.sha256(repr(parts).encode()).digest()
