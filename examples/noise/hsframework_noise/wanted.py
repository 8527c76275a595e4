"""The attributes of a request, checked: attribute set ``request`` of ``specs/noise.yaml``."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Request, Role, Secret

from hsframework_noise.library import KEY_SIZE, MAX_MESSAGE
from hsframework_noise.patterns import MAX_OVERHEAD, PATTERNS, Pattern

MAX_PAYLOAD = MAX_MESSAGE - MAX_OVERHEAD
_NOTHING = Secret(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The demands of one request.  ``peers``: the static keys that the peer may have; empty: any."""

    pattern: Pattern
    initiator: bool
    static: Secret
    peers: frozenset[bytes]
    prologue: bytes = b""
    psk: Secret | None = None
    payload: Secret = _NOTHING
    rekey_interval: int | None = None

    @property
    def protocol_name(self) -> str:
        return self.pattern.protocol_name(self.psk is not None)


def read_request(request: Request, *, default_pattern: str, keys: Mapping[str, Secret]) -> Wanted:
    """Return the demands of a request.  ``keys``: ours by profile.

    Raises HandshakeError with the fault of the request.
    """
    attributes = request.attributes
    initiator = request.role is Role.CLIENT
    pattern = _pattern(attributes.get("pattern", default_pattern))
    psk = attributes.get("psk")
    if psk is not None:
        _check_size("psk", psk, KEY_SIZE)
    payload = attributes.get("payload", _NOTHING)
    if len(payload) > MAX_PAYLOAD:
        raise _wrong(f"payload has {len(payload)} bytes; {MAX_PAYLOAD} fit into a handshake message")
    interval = attributes.get("rekey-interval")
    if interval == 0:
        raise _wrong("rekey-interval is 0; give a number of messages, or leave it out for no rekeying")
    return Wanted(
        pattern=pattern,
        initiator=initiator,
        static=_static_key(request, keys),
        peers=_peers(attributes, named=initiator and pattern.knows_responder),
        prologue=attributes.get("prologue", b""),
        psk=psk,
        payload=payload,
        rekey_interval=interval,
    )


def _pattern(name: str) -> Pattern:
    if name not in PATTERNS:
        raise _wrong(f"pattern is {name!r:.40}; use {' or '.join(PATTERNS)}")
    return PATTERNS[name]


def _static_key(request: Request, keys: Mapping[str, Secret]) -> Secret:
    """Return the request's own key, else its profile's, which the dispatcher has allowed the consumer to use."""
    key: Secret | None = request.attributes.get("static-key")
    if key is not None:
        _check_size("static-key", key, KEY_SIZE)
        return key
    profile = request.profile
    if profile is None or profile not in keys:
        named = "none" if profile is None else repr(profile)
        raise HandshakeFailed(
            Failure.NO_KEY,
            f"give static-key, or a profile that has a key in plugins.noise.keys (this request's: {named})",
        )
    return keys[profile]


def _peers(attributes: Mapping[str, Any], *, named: bool) -> frozenset[bytes]:
    peers = frozenset(attributes.get("remote-static-key", ()))
    for key in peers:
        _check_size("remote-static-key", key, KEY_SIZE)
    anybody = bool(attributes.get("any-peer"))
    if named and len(peers) != 1:
        raise _wrong(f"a client of IK knows its peer's key: give one remote-static-key, not {len(peers)}")
    if anybody and peers:
        raise _wrong("any-peer and remote-static-key exclude each other")
    if not anybody and not peers:
        raise _wrong("say whom to believe: give remote-static-key, or any-peer")
    return peers


def _check_size(name: str, value: bytes | Secret, size: int) -> None:
    if len(value) != size:
        raise _wrong(f"{name} has {len(value)} bytes; it is an X25519 key or a PSK of {size}")


def _wrong(problem: str) -> HandshakeError:
    return HandshakeError(f"the request makes no sense: {problem}", errno=errno.EINVAL)
