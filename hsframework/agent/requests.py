"""Conversion of messages of the local family to requests, and of results and errors to messages.

The form of a message from the dispatcher has been checked by the codec; its sense is checked here: an unknown role or
mode ends the request with EINVAL.  A plugin's result is checked whole.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from hsframework.agent.conversation import codec
from hsframework.agent.served import Served
from hsframework.errors import HandshakeError, HsframeworkError, MessageError, PluginError
from hsframework.interface import (
    AuthMode,
    Authorize,
    CertificateDemand,
    Identity,
    OpenNetlink,
    PeerIdentity,
    PresharedKey,
    PskLookup,
    Request,
    Result,
    Role,
    Trust,
    no_netlink,
)
from hsframework.local.packets import MAX_PACKET
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.spec import builtin_specification

MAX_MESSAGE = 1000
"""Characters of the explanation that goes with a failure."""

_outcome = attribute_codec(builtin_specification("local"), "outcome")

_ROLES = {int(role): role for role in Role}
_MODES = {int(mode): mode for mode in AuthMode}
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
    """Return the request of a reply to ACCEPT.  Raises HandshakeError (EINVAL).

    ``deadline``: in seconds on the loop's clock.
    """
    try:
        get = values.get
        return Request(
            id=values["request-id"],
            group=values["group"],
            role=_ROLES[values["message-type"]],
            auth_mode=_MODES[values["auth-mode"]],
            deadline=deadline,
            peer_name=get("peername"),
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
            alpn=tuple(get("alpn", ())),
            kernel_consumer="kernel-consumer" in values,
            attributes=_attributes(get("attributes"), served),
        )
    except KeyError as error:
        raise HandshakeError(f"the request makes no sense: {error} is missing or unknown", errno=errno.EINVAL) from None


def decode_psk(values: Mapping[str, Any]) -> PresharedKey:
    """Return the key of an attribute set ``psk``.  Raises KeyError."""
    hash_name = values.get("hash", "sha256")
    if hash_name not in ("sha256", "sha384"):
        raise KeyError("hash")
    return PresharedKey(values["identity"], values["key"], hash_name)


def encode_success(request_id: int, served: Served, result: object) -> bytes:
    """Return DONE for a handshaker's result.  Raises PluginError for one that is no Result or cannot be encoded."""
    if not isinstance(result, Result):
        raise PluginError(f"the handshaker returned a {type(result).__name__}, not a Result")
    if not isinstance(result.peer, PeerIdentity):
        raise PluginError(f"the result's peer is a {type(result.peer).__name__}, not a PeerIdentity")
    try:
        values = {
            "request-id": request_id,
            "status": 0,
            "remote-certificate": result.peer.certificates,
            "remote-psk-identity": result.peer.psk_identity,
            "remote-public-key": result.peer.public_key,
            "alpn": result.alpn,
            "in-kernel": result.in_kernel,
            "session": _session(result, served),
            "protocol": served.protocol.name,
        }
        data = codec.encode("done", values, encoded=_tags(tuple(result.tags.items())))
    except (MessageError, AttributeError, TypeError) as error:
        raise PluginError(f"the handshaker's result cannot be told: {error}") from None
    if len(data) > MAX_PACKET:
        raise PluginError(f"the handshaker's result takes {len(data)} bytes; at most {MAX_PACKET} go into a message")
    return data


def encode_failure(request_id: int, error: HsframeworkError, protocol: str | None = None) -> bytes:
    """Return DONE for an error.  An errno outside 1 to 4095 becomes EIO."""
    number: object = getattr(error, "errno", None)
    status = number if isinstance(number, int) and 1 <= number <= 4095 else errno.EIO
    text = _text(error).replace("\0", "")[:MAX_MESSAGE].encode(errors="replace").decode()
    return codec.encode("done", {"request-id": request_id, "status": status, "message": text, "protocol": protocol})


def _text(error: HsframeworkError) -> str:
    try:
        return str(error)
    except Exception:
        return f"a {type(error).__name__} that has no text"


def _identity(values: Mapping[str, Any]) -> Identity:
    return Identity(tuple(values["certificate"]), values["private-key"])


def _attributes(data: bytes | None, served: Served) -> Mapping[str, Any]:
    if not data:
        return {}
    if served.request_codec is None:
        raise HandshakeError(f"{served.name} takes no attributes of its own", errno=errno.EINVAL)
    try:
        return served.request_codec.decode(data)
    except MessageError as error:
        raise HandshakeError(f"the request's attributes make no sense: {error}", errno=errno.EINVAL) from None


@lru_cache(maxsize=64)
def _tags(items: tuple[tuple[str, str], ...]) -> bytes:
    """Return the attributes ``tag``, often the same.  Raises MessageError, TypeError for values without a hash."""
    return _outcome.encode({"tag": [{"name": name, "value": value} for name, value in items]})


def _session(result: Result, served: Served) -> bytes | None:
    if not result.session:
        return None
    if served.session_codec is None:
        raise MessageError(f"{served.name} describes no session parameters in its specification")
    return served.session_codec.encode(result.session)
