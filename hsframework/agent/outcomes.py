"""Outcomes, as DONE tells them to the dispatcher: a plugin's result, which is checked whole, or an error."""

from __future__ import annotations

import errno
from functools import lru_cache

from hsframework.agent.conversation import codec
from hsframework.agent.served import Served
from hsframework.errors import HsframeworkError, MessageError, PluginError
from hsframework.failures import HandshakeFailed
from hsframework.interface import PeerIdentity, Result
from hsframework.local.packets import MAX_PACKET
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.spec import builtin_specification

MAX_MESSAGE = 1000
"""Characters of the explanation that goes with a failure."""

_outcome = attribute_codec(builtin_specification("local"), "outcome")


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
    values = {"request-id": request_id, "status": status, "message": text, "protocol": protocol}
    return codec.encode("done", values, encoded=_tags(_cause(error)))


def _cause(error: HsframeworkError) -> tuple[tuple[str, str], ...]:
    """Return the tags of an error: the row of the table of failures, and the peer's alert, where there are any."""
    if not isinstance(error, HandshakeFailed):
        return ()
    named = ("failure", error.failure.name)
    return (named,) if error.peer_alert is None else (named, ("peer-alert", str(error.peer_alert)))


def _text(error: HsframeworkError) -> str:
    try:
        return str(error)
    except Exception:
        return f"a {type(error).__name__} that has no text"


@lru_cache(maxsize=64)
def _tags(items: tuple[tuple[str, str], ...]) -> bytes:
    """Return the attributes ``tag``, encoded; they are often the same.

    Raises MessageError, and TypeError for what cannot be hashed.
    """
    return _outcome.encode({"tag": [{"name": name, "value": value} for name, value in items]})


def _session(result: Result, served: Served) -> bytes | None:
    if not result.session:
        return None
    if served.session_codec is None:
        raise MessageError(f"{served.name} describes no session parameters in its specification")
    return served.session_codec.encode(result.session)
