"""The session that the agent hands to a consumer: attribute set ``session`` of ``specs/spake2.yaml``, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hsframework.errors import StreamError
from hsframework.interface import Secret
from hsframework.netlink.spec import Specification, package_specification

from hsframework_spake2.exchange import KEY_SIZE, VERSION, Keys
from hsframework_spake2.transport import Transport


@cache
def specification() -> Specification:
    """Return the plugin's netlink spec."""
    return package_specification("hsframework_spake2", "spake2")


def to_parameters(keys: Keys) -> dict[str, Any]:
    """Return the parameters for a consumer."""
    return {"version": VERSION, "send-key": keys.send_key, "receive-key": keys.receive_key}


def to_transport(parameters: Mapping[str, Any]) -> Transport:
    """Return the consumer's transport.  Raises StreamError for parameters that are not those of such a session."""
    if parameters.get("version") != VERSION:
        raise StreamError(f"a session of version {parameters.get('version')}; this is {VERSION}: install one that fits")
    return Transport(_key(parameters, "send-key"), _key(parameters, "receive-key"))


def _key(parameters: Mapping[str, Any], name: str) -> Secret:
    key = parameters.get(name)
    if not isinstance(key, Secret) or len(key) != KEY_SIZE:
        raise StreamError(f"the session's parameters have no {name} of {KEY_SIZE} bytes")
    return key
