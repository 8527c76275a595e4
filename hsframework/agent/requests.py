"""Requests, from the values of the reply to ACCEPT.

The form of a message has been checked by the codec; its sense is checked here: an unknown role or mode ends the request
with EINVAL.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping, Sequence
from typing import Any

from hsframework.agent.served import Served
from hsframework.errors import HandshakeError, MessageError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import (
    AuthMode,
    Authorize,
    CertificateDemand,
    Demand,
    Identity,
    OpenNetlink,
    PresharedKey,
    PskLookup,
    Request,
    Role,
    Trust,
    no_netlink,
)
from hsframework.tls.alpn import wrong_alpn

_ROLES = {int(role): role for role in Role}
_MODES = {int(mode): mode for mode in AuthMode}
_ALL = frozenset(Demand)
_DEMANDS = {int(demand): demand for demand in CertificateDemand}


def decode_request(
    values: Mapping[str, Any],
    served: Served,
    *,
    deadline: float,
    trust: Trust | None,
    psk_lookup: PskLookup,
    open_netlink: OpenNetlink = no_netlink,
    authorize: Authorize,
) -> Request:
    """Return the request of a reply to ACCEPT.

    Raises HandshakeError (EINVAL), and HandshakeFailed (NOT_OFFERED_HERE) for a demand or an auth mode that the
    protocol does not understand.

    ``deadline``: in seconds on the loop's clock.
    """
    try:
        get = values.get
        request = Request(
            id=values["request-id"],
            group=values["group"],
            role=_ROLES[values["message-type"]],
            auth_mode=_MODES[values["auth-mode"]],
            deadline=deadline,
            peer_name=get("peername"),
            any_peer_name="any-peer-name" in values,
            local_address=get("local-address"),
            peer_address=get("peer-address"),
            profile=get("profile"),
            user=get("user"),
            identities=tuple(map(_identity, get("identity", ()))),
            psks=tuple(map(decode_psk, get("psk", ()))),
            psk_lookup=psk_lookup,
            open_netlink=open_netlink,
            trust=trust,
            authorize=authorize,
            client_certificate=_DEMANDS[get("client-certificate", 0)],
            alpn=_alpn(get("alpn", ())),
            tls_priorities=tuple(get("tls-priorities", ())),
            kernel_consumer="kernel-consumer" in values,
            attributes=_attributes(get("attributes"), served),
        )
    except KeyError as error:
        raise HandshakeError(f"the request makes no sense: {error} is missing or unknown", errno=errno.EINVAL) from None
    _check_understood(request, served)
    return request


def decode_psk(values: Mapping[str, Any]) -> PresharedKey:
    """Return the key of an attribute set ``psk``.  Raises KeyError."""
    hash_name = values.get("hash", "sha256")
    if hash_name not in ("sha256", "sha384"):
        raise KeyError("hash")
    return PresharedKey(values["identity"], values["key"], hash_name)


def _alpn(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of application protocols.  Raises HandshakeError (EINVAL) for those that no message holds."""
    if names and (wrong := wrong_alpn(names)):
        raise HandshakeError(wrong, errno=errno.EINVAL)
    return tuple(names)


def _identity(values: Mapping[str, Any]) -> Identity:
    return Identity(tuple(values["certificate"]), values["private-key"])


def _check_understood(request: Request, served: Served) -> None:
    """Check a request against what its protocol has declared, as the dispatcher does.

    Raises HandshakeFailed (NOT_OFFERED_HERE).
    """
    protocol = served.protocol
    if request.auth_mode not in protocol.auth_modes:
        detail = f"the auth mode {request.auth_mode.name}, which {served.name} does not have"
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, detail)
    if protocol.understands == _ALL:
        return
    unknown = _demands(request) - protocol.understands
    if Demand.TLS_POLICIES in unknown and not protocol.tls_policies:
        detail = f"a TLS policy, which {served.name} does not keep to; leave tls-priorities out of request and profile"
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, detail)
    if unknown := unknown - {Demand.TLS_POLICIES}:
        named = ", ".join(sorted(unknown))
        detail = f"what {served.name} does not understand: {named}; leave that out of request and profile"
        raise HandshakeFailed(Failure.NOT_OFFERED_HERE, detail)


def _demands(request: Request) -> set[Demand]:
    named = request.role is Role.CLIENT and request.peer_name is not None and not request.any_peer_name
    return {
        demand
        for demand, there in (
            (Demand.ALPN, request.alpn),
            (Demand.CLIENT_CERTIFICATE, request.client_certificate),
            (Demand.PEER_NAME, named),
            (Demand.TLS_POLICIES, request.tls_priorities),
            (Demand.TRUST, request.trust is not None),
        )
        if there
    }


def _attributes(data: bytes | None, served: Served) -> Mapping[str, Any]:
    if not data:
        return {}
    if served.request_codec is None:
        raise HandshakeError(f"{served.name} takes no attributes of its own", errno=errno.EINVAL)
    try:
        return served.request_codec.decode(data)
    except MessageError as error:
        raise HandshakeError(f"the request's attributes make no sense: {error}", errno=errno.EINVAL) from None
