"""What a request asks for, checked: attribute set ``request`` of ``specs/noise.yaml``."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hsframework.credentials.failures import Failure, HandshakeFailed
from hsframework.errors import HandshakeError
from hsframework.interface import Request, Role, Secret

from hsframework_noise.library import KEY_SIZE, MAX_MESSAGE
from hsframework_noise.patterns import MAX_OVERHEAD, PATTERNS, Pattern

MAX_PAYLOAD = MAX_MESSAGE - MAX_OVERHEAD
_NOTHING = Secret(b"")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One handshake.  ``peers``: the static keys that the peer may have; empty: any."""

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
    """``keys``: ours by name.  Raises HandshakeError, which says what is wrong with the request."""
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
        static=_static_key(attributes, keys),
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


def _static_key(attributes: Mapping[str, Any], keys: Mapping[str, Secret]) -> Secret:
    key, name = attributes.get("static-key"), attributes.get("static-key-name")
    if (key is None) == (name is None):
        raise HandshakeFailed(Failure.NO_KEY, "give our static key by static-key or by static-key-name, one of them")
    if key is not None:
        _check_size("static-key", key, KEY_SIZE)
        secret: Secret = key
        return secret
    if not isinstance(name, str) or name not in keys:
        raise HandshakeFailed(
            Failure.NO_KEY, f"static-key-name is {name!r:.80}, and plugins.noise.keys has no such key"
        )
    return keys[name]


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
