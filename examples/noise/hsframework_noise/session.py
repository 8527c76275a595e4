"""The session that the agent hands to a consumer: attribute set ``session`` of ``specs/noise.yaml``, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hsframework.errors import StreamError
from hsframework.interface import Secret
from hsframework.netlink.spec import Specification, package_specification

from hsframework_noise.exchange import Established
from hsframework_noise.library import KEY_SIZE
from hsframework_noise.patterns import PATTERNS
from hsframework_noise.transport import Direction, Transport


@cache
def specification() -> Specification:
    """Return the plugin's netlink spec."""
    return package_specification("hsframework_noise", "noise")


def to_parameters(session: Established) -> dict[str, Any]:
    """Return the parameters for a consumer."""
    return {
        "protocol-name": session.protocol_name,
        "send-key": session.send_key,
        "receive-key": session.receive_key,
        "send-nonce": 0,
        "receive-nonce": 0,
        "rekey-interval": session.rekey_interval,
        "handshake-hash": session.handshake_hash,
        "payload": list(session.payloads),
    }


def to_transport(parameters: Mapping[str, Any]) -> Transport:
    """Return the consumer's transport.  Raises StreamError for parameters that are not those of a Noise session."""
    name = parameters.get("protocol-name", "")
    if name not in {pattern.protocol_name(psk) for pattern in PATTERNS.values() for psk in (False, True)}:
        raise StreamError(f"the session's parameters name the protocol {name!r:.80}, which is not known here")
    sending, receiving = (
        Direction(
            name,
            _key(parameters, f"{way}-key"),
            nonce=parameters.get(f"{way}-nonce", 0),
            rekey_interval=parameters.get("rekey-interval"),
        )
        for way in ("send", "receive")
    )
    return Transport(sending, receiving)


def _key(parameters: Mapping[str, Any], name: str) -> Secret:
    key = parameters.get(name)
    if not isinstance(key, Secret) or len(key) != KEY_SIZE:
        raise StreamError(f"the session's parameters have no {name} of {KEY_SIZE} bytes")
    return key
