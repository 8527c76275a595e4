"""The codec against messages and numbers that did not come from it (data/, with their origin)."""

from __future__ import annotations

import re
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import yaml

from hsframework.interface import Secret
from hsframework.netlink.attributes import Values
from hsframework.netlink.messages import Form, MessageCodec, encode_error, sequence_numbers
from hsframework.netlink.spec import builtin_specification

DATA = Path(__file__).parent / "data"
TYPE = 0x21

little_endian = pytest.mark.skipif(sys.byteorder != "little", reason="the vectors are from a little-endian machine")


def load(name: str) -> Any:
    return yaml.safe_load((DATA / name).read_text("utf-8"))


def wire(vector: dict[str, Any]) -> bytes:
    return bytes.fromhex(re.sub(r"#.*", "", vector["hex"]))


def plain(values: Values) -> Values:
    """Reveal secrets, for comparison."""

    def reveal(value: Any) -> Any:
        if isinstance(value, Secret):
            return value.reveal()
        if isinstance(value, list):
            return [reveal(item) for item in value]
        return {name: reveal(item) for name, item in value.items()} if isinstance(value, dict) else value

    return {name: reveal(value) for name, value in values.items()}


def codec(vector: dict[str, Any]) -> MessageCodec:
    forms: tuple[Form, ...] = (vector["direction"],)
    return MessageCodec(builtin_specification(vector["family"]), message_type=TYPE, receives=forms)


MESSAGES = load("messages.yaml")
ERRORS = load("errors.yaml")


@little_endian
@pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: vector["name"])
def test_encode(vector: dict[str, Any]) -> None:
    """Each message is encoded to the bytes written down for it."""
    numbers = {name: vector.get(name, 0) for name in ("sequence", "flags", "port")}
    assert codec(vector).encode(vector["operation"], vector["values"], **numbers).hex() == wire(vector).hex()


@little_endian
@pytest.mark.parametrize("vector", MESSAGES, ids=lambda vector: vector["name"])
def test_decode(vector: dict[str, Any]) -> None:
    """Each message is decoded to the values written down for it, header included."""
    message = codec(vector).decode(wire(vector))
    assert message.operation == vector["operation"]
    assert plain(message.values) == vector["values"]
    assert message.error is None
    assert [message.sequence, message.flags, message.port] == [
        vector.get(name, 0) for name in ("sequence", "flags", "port")
    ]


@little_endian
@pytest.mark.parametrize("vector", ERRORS, ids=lambda vector: vector["name"])
def test_decode_error(vector: dict[str, Any]) -> None:
    """Errors and acknowledgements, with the text of an extended acknowledgement where there is one."""
    message = MessageCodec(builtin_specification("handshake"), message_type=TYPE).decode(wire(vector))
    assert message.error == vector["error"]
    assert message.sequence == vector["sequence"]
    assert message.port == vector.get("port", 0)
    assert message.values.get("message") == vector.get("message")


@little_endian
@pytest.mark.parametrize("index", [1, 3])
def test_encode_error(index: int) -> None:
    """The service's answer, byte by byte.

    It is always capped, of the request's header it echoes the length 16 and the sequence number alone, and
    NLMSGERR_ATTR_OFFS is not in it.
    """
    vector = ERRORS[index]
    theirs = bytearray(wire(vector))
    theirs[20:28] = bytes.fromhex("10000000 0000 0000")
    if vector.get("message"):
        del theirs[-8:]
        theirs[:4] = len(theirs).to_bytes(4, "little")
    assert encode_error(vector["error"], vector["sequence"], vector.get("message", "")).hex() == theirs.hex()


@pytest.mark.parametrize("family", ["handshake", "handshake-raw", "handshake-raw-published"])
def test_numbers(family: str) -> None:
    """Every number that was published for the kernel's families is the one in our specs, and ours have no more."""
    published = load("numbers.yaml")[family]
    specification = builtin_specification(family)
    assert specification.protonum == published["protonum"]
    assert list(specification.groups) == published["groups"]
    assert {name: item.value for name, item in specification.operations.items()} == published["operations"]
    for name, numbers in published["sets"].items():
        ours = specification.sets[name].attributes
        assert {attribute.name: attribute.value for attribute in ours.values()} == numbers
    assert {name: dict(entries) for name, entries in specification.enums.items()} == published["enums"]


def test_sequence_numbers_begin_again_without_0() -> None:
    """After the largest number comes 1, without an end; the largest is what fits into the header."""
    assert list(islice(sequence_numbers(3), 8)) == [1, 2, 3, 1, 2, 3, 1, 2]
    message = MessageCodec(builtin_specification("local")).encode("leave", {}, sequence=0xFFFFFFFF)
    assert message[8:12] == b"\xff" * 4
    assert next(sequence_numbers()) == 1
