"""DONE: everything in a handshaker's result, and an errno and a text for every error."""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import Any

import pytest

from hsframework.agent.outcomes import MAX_MESSAGE, encode_failure, encode_success
from hsframework.agent.served import Served
from hsframework.errors import HandshakeError, PluginError
from hsframework.interface import PeerIdentity, Result
from hsframework.netlink.attributes import attribute_codec
from tests.unit.agent.fakes import TOY_SPECIFICATION, ToyProtocol, codec, greet

PROTOCOL = ToyProtocol()
SERVED = Served(PROTOCOL, PROTOCOL.prepare(None), "toy", session_codec=attribute_codec(TOY_SPECIFICATION, "session"))
RESULT = Result(
    peer=PeerIdentity(certificates=(b"leaf", b"issuer"), psk_identity=b"alice", public_key=b"raw"),
    alpn="sunrpc",
    in_kernel=True,
    session={"key": b"k" * 16},
    tags={"cipher": "one", "group": "two"},
)


def decoded(data: bytes) -> dict[str, Any]:
    """Return the values of a DONE."""
    message = codec.decode(data)
    assert message.operation == "done"
    values = dict(message.values)
    if "session" in values:
        values["session"] = values["session"].reveal()
    return values


def test_everything_in_a_result_is_told() -> None:
    """Each field of it in its attribute."""
    assert decoded(encode_success(7, SERVED, RESULT)) == {
        "request-id": 7,
        "status": 0,
        "remote-certificate": [b"leaf", b"issuer"],
        "remote-psk-identity": b"alice",
        "remote-public-key": b"raw",
        "alpn": "sunrpc",
        "in-kernel": True,
        "session": attribute_codec(TOY_SPECIFICATION, "session").encode({"key": b"k" * 16}),
        "protocol": "toy",
        "tag": [{"name": "cipher", "value": "one"}, {"name": "group", "value": "two"}],
    }
    assert decoded(encode_success(7, SERVED, Result(session={"key": b"k"}))).keys() == {
        "request-id", "status", "session", "protocol"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"peer": "a peer"}, "peer is a str, not a PeerIdentity"),
        ({"alpn": 7}, "cannot be told"),
        ({"tags": {"x": 5}}, "cannot be told"),
        ({"tags": None}, "cannot be told"),
        ({"session": {"colour": b"red"}}, "cannot be told"),
        ({"peer": PeerIdentity(certificates=(bytes(60_000),) * 4)}, "at most 204800 go into a message"),
    ],
)
def test_a_result_that_cannot_be_told(changed: dict[str, Any], text: str) -> None:
    """The plugin's fault, which says what is wrong with it."""
    with pytest.raises(PluginError, match=text):
        encode_success(7, SERVED, replace(RESULT, **changed))
    with pytest.raises(PluginError, match="returned a NoneType, not a Result"):
        encode_success(7, SERVED, None)


class Speechless(HandshakeError):
    """An error without a text."""

    def __str__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EACCES, errno.EACCES), (1, 1), (4095, 4095), (0, errno.EIO), (4096, errno.EIO), (-1, errno.EIO)],
)
def test_a_failure_has_an_errno(number: int, status: int) -> None:
    """From 1 to 4095; anything else is EIO."""
    error = HandshakeError("why")
    error.errno = number
    told = decoded(encode_failure(7, error, "toy"))
    assert told == {"request-id": 7, "status": status, "message": "why", "protocol": "toy"}


def test_the_text_of_a_failure() -> None:
    """Of limited length, without what a text cannot have; an error that has none is named."""
    assert decoded(encode_failure(7, HandshakeError("x" * 5000)))["message"] == "x" * MAX_MESSAGE == "x" * 1000
    assert decoded(encode_failure(7, HandshakeError("a\0b\udcffc")))["message"] == "ab?c"
    assert decoded(encode_failure(7, Speechless("x")))["message"] == "a Speechless that has no text"
    assert "protocol" not in decoded(encode_failure(7, HandshakeError("x")))
    assert greet is PROTOCOL.handshaker.behaviour
