"""The dialects of the raw-netlink form, byte by byte.  Their numbers are the module's and the published text's."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from hypothesis import given

from hsframework.dispatcher.sources.kernel import raw_dialects
from hsframework.dispatcher.sources.kernel.raw_dialects import OWN, PUBLISHED, UNKNOWN, dialect_named, dialect_of
from hsframework.dispatcher.sources.kernel.wire import Ending
from hsframework.errors import MessageError
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.spec import builtin_specification
from tests.netlink_values import attribute_values

RAW = builtin_specification("handshake-raw")


def put(kind: int, payload: bytes) -> bytes:
    """Make an attribute."""
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def number(kind: int, value: int) -> bytes:
    """Make an attribute that is a number."""
    return put(kind, struct.pack("=I", value))


def test_names() -> None:
    """A dialect has the name of its spec; every other name is that of none."""
    assert [dialect.name for dialect in (OWN, PUBLISHED, UNKNOWN)] == ["handshake-raw", "handshake-raw-published", ""]
    assert [dialect_named(name) for name in (OWN.name, PUBLISHED.name, "", "other")] == [
        OWN,
        PUBLISHED,
        UNKNOWN,
        UNKNOWN,
    ]


@pytest.mark.parametrize(
    ("nest", "dialect"),
    [
        (number(1, 6) + number(3, 2) + number(5, 3), OWN),
        (number(3, 2), OWN),
        (number(5, 2), OWN),
        (number(20, 1) + number(21, 2) + put(22, b"NORMAL\0"), PUBLISHED),
        (number(20, 2), PUBLISHED),
        (number(21, 2), PUBLISHED),
        (number(3, 2) + number(20, 2), OWN),
        (number(1, 6) + put(64, b"a mechanism's own"), UNKNOWN),
        (b"", UNKNOWN),
    ],
)
def test_a_dialect_is_known_by_its_role_and_its_authentication(nest: bytes, dialect: raw_dialects.Dialect) -> None:
    """By 3 and 5, or else by 20 and 21."""
    assert dialect_of(nest) is dialect


def test_a_nest_that_is_cut_off() -> None:
    """A nest that is cut off is refused, and so is its request."""
    with pytest.raises(MessageError):
        dialect_of(number(20, 1)[:-1])


@given(attribute_values(RAW, "accept"))
def test_our_own_values_are_those_of_the_spec(values: dict[str, Any]) -> None:
    """Values that the module encodes by the spec are decoded unchanged."""
    assert OWN.accepted(attribute_codec(RAW, "accept").encode(values)) == values


@pytest.mark.parametrize(
    ("nest", "told"),
    [
        (number(20, 1) + number(21, 1), {"message-type": 1, "auth-mode": 1}),
        (
            number(20, 1) + number(21, 2) + number(23, 77) + number(24, 78),
            {"message-type": 1, "auth-mode": 3, "certificate": [{"cert": 77, "privkey": 78}]},
        ),
        (
            number(20, 2) + number(21, 3) + number(25, 79),
            {"message-type": 2, "auth-mode": 2, "peer-identity": [79]},
        ),
        (number(20, 1) + number(21, 4), {"message-type": 1, "auth-mode": 0}),
        (number(20, 2), {"message-type": 2, "auth-mode": 3}),
        (number(20, 1), {"message-type": 1, "auth-mode": 0}),
        (number(21, 1), {"message-type": 0, "auth-mode": 1}),
        (
            number(20, 1) + number(21, 1) + number(28, 4),
            {"message-type": 1, "auth-mode": 1, "timeout": 4000},
        ),
        (
            number(20, 1) + number(21, 1) + put(22, b"NORMAL\0") + put(29, b"server.test\0") + number(30, 5),
            {
                "message-type": 1,
                "auth-mode": 1,
                "tls-priorities": "NORMAL",
                "peername": "server.test",
                "keyring": 5,
            },
        ),
        (
            number(20, 1) + number(21, 1) + put(22, b"NORMAL"),
            {"message-type": 1, "auth-mode": 1, "tls-priorities": "NORMAL"},
        ),
        (number(20, 1) + number(21, 1) + number(63, 1), {"message-type": 1, "auth-mode": 1}),
    ],
    ids=[
        "unauthenticated",
        "x509",
        "psk",
        "an unknown authentication",
        "a published server",
        "a client without",
        "no role",
        "seconds",
        "texts",
        "a text without NUL",
        "what we do not know",
    ],
)
def test_the_published_values_in_our_terms(nest: bytes, told: dict[str, Any]) -> None:
    """Serials are 0 and the timeout is 0 where the nest has none, as in our own dialect."""
    nothing = {"timeout": 0, "certificate": [{"cert": 0, "privkey": 0}], "peer-identity": [0]}
    assert PUBLISHED.accepted(nest) == nothing | told


@pytest.mark.parametrize(
    ("ending", "own", "published"),
    [
        (Ending(0), number(1, 0), number(26, 0) + number(27, 0)),
        (Ending(0, (7,)), number(1, 0) + number(3, 7), number(26, 0) + number(27, 7)),
        (Ending(0, (7, 8)), number(1, 0) + number(3, 7) + number(3, 8), number(26, 0) + number(27, 7)),
        (Ending(errno.EACCES), number(1, 13), number(26, 2) + number(27, 0)),
        (Ending(errno.EIO), number(1, 5), number(26, 1) + number(27, 0)),
        (Ending(errno.ETIMEDOUT), number(1, 110), number(26, 1) + number(27, 0)),
        (Ending(errno.EPERM), number(1, 1), number(26, 1) + number(27, 0)),
    ],
    ids=["success", "a peer", "two peers", "rejected", "a fault", "a timeout", "another errno"],
)
def test_done(ending: Ending, own: bytes, published: bytes) -> None:
    """A status or a session status, and who the peer is.  A DONE of no dialect is empty, which is EIO in both."""
    assert (OWN.done(ending), PUBLISHED.done(ending), UNKNOWN.done(ending)) == (own, published, b"")
