"""pyroute2's encoder and decoder as a second opinion on ours, through classes built from the same specs."""

from __future__ import annotations

import struct
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, strategies as st
from pyroute2.netlink import genlmsg, nlmsg

from hsframework.errors import MessageError
from hsframework.interface import Secret
from hsframework.netlink.kernel_codec import KernelCodec
from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.pyroute2_classes import message, message_class, values
from hsframework.netlink.spec import builtin_specification, parse_specification
from tests.netlink_values import messages

TYPE = 0x21
FAMILIES = ["handshake", "handshake-raw", "handshake-raw-published", "local"]


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data(), sequence=st.integers(0, 0xFFFFFFFF), port=st.integers(0, 0xFFFFFFFF))
def test_encoders_agree(family: str, data: st.DataObject, sequence: int, port: int) -> None:
    """For any values that a spec allows, both encoders give the same bytes."""
    specification = builtin_specification(family)
    operation, content = data.draw(messages(specification))
    theirs = message(specification, operation, content)
    theirs["header"].update(flags=1, sequence_number=sequence, pid=port)
    if specification.protocol == "genetlink":
        theirs["header"]["type"] = TYPE
    theirs.encode()
    codec = MessageCodec(specification, message_type=TYPE)
    ours = codec.encode(operation, content, sequence=sequence, port=port, flags=1)
    assert ours.hex() == bytes(theirs.data).hex()


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data())
def test_decoders_agree(family: str, data: st.DataObject) -> None:
    """Messages that ours has encoded, pyroute2 decodes to the same values."""
    specification = builtin_specification(family)
    operation, content = data.draw(messages(specification))
    used = specification.operations[operation].attribute_set
    encoded = MessageCodec(specification, message_type=TYPE).encode(operation, content)
    decoded = message_class(specification, used)(encoded)
    decoded.decode()
    assert values(specification, used, decoded) == content


def test_classes_are_pyroute2s() -> None:
    """A generic family's classes are genlmsg, a raw family's nlmsg, and each is built once."""
    generic, raw = builtin_specification("handshake"), builtin_specification("handshake-raw")
    assert issubclass(message_class(generic, "done"), genlmsg)
    assert issubclass(message_class(raw, "message"), nlmsg)
    assert not issubclass(message_class(raw, "message"), genlmsg)
    assert message_class(generic, "done") is message_class(generic, "done")


def test_unknown_attributes() -> None:
    """An attribute that is not in the spec is refused in both directions; pyroute2 itself would pass it over."""
    specification = builtin_specification("handshake")
    with pytest.raises(MessageError, match="there is no attribute 'colour'"):
        message(specification, "done", {"colour": 1})
    encoded = MessageCodec(specification, message_type=TYPE).encode("accept", {"keyring": 1})
    decoded = message_class(specification, "done")(encoded)
    decoded.decode()
    with pytest.raises(MessageError, match=r"handshake\.done: unknown attribute"):
        values(specification, "done", decoded)


@pytest.mark.parametrize("family", FAMILIES)
@given(data=st.data(), sequence=st.integers(0, 0xFFFFFFFF))
def test_the_kernels_codec(family: str, data: st.DataObject, sequence: int) -> None:
    """Encodes what ours encodes, and decodes it again."""
    specification = builtin_specification(family)
    operation, content = data.draw(messages(specification))
    codec = KernelCodec(specification, message_type=TYPE)
    encoded = codec.encode(operation, content, sequence=sequence, flags=5)
    assert encoded == MessageCodec(specification, message_type=TYPE).encode(
        operation, content, sequence=sequence, flags=5
    )
    decoded = codec.decode(encoded)
    assert (decoded.operation, decoded.values, decoded.sequence, decoded.flags) == (operation, content, sequence, 5)


def test_what_a_kernel_may_say() -> None:
    """Attributes that are newer than the spec, a nest without its flag, a text that is not UTF-8."""
    specification = builtin_specification("handshake")
    encoded = MessageCodec(specification, message_type=TYPE).encode("accept", {"sockfd": 3})
    more = attribute(99, b"new") + attribute(7, attribute(1, b"\1\0\0\0")) + attribute(8, b"caf\xe9\0")
    data = struct.pack("=I", len(encoded + more)) + encoded[4:] + more
    codec = KernelCodec(specification, message_type=TYPE)
    assert codec.decode(data).values == {"sockfd": 3, "certificate": [{"cert": 1}], "peername": "caf\udce9"}


@pytest.mark.parametrize(
    "data",
    [
        struct.pack("=IHHIIBBH", 20, TYPE, 0, 1, 0, 99, 1, 0),
        struct.pack("=IHHIIBBH", 20, TYPE + 1, 0, 1, 0, 2, 1, 0),
        struct.pack("=IHHII", 16, TYPE, 0, 1, 0),
        struct.pack("=IHHIIBBHHHH", 26, TYPE, 0, 1, 0, 2, 1, 0, 8, 1, 0),
        struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1),
    ],
    ids=["unknown operation", "another family's", "no generic header", "cut off", "half an error"],
)
def test_what_no_kernel_says(data: bytes) -> None:
    """A message that no kernel sends is a MessageError."""
    with pytest.raises(MessageError):
        KernelCodec(builtin_specification("handshake"), message_type=TYPE).decode(data)


def test_what_does_not_fit() -> None:
    """A value that does not fit is a MessageError before it is sent."""
    codec = KernelCodec(builtin_specification("handshake"), message_type=TYPE)
    for operation, content in (("done", {"status": 2**32}), ("ready", {"colour": 1}), ("paint", {})):
        with pytest.raises(MessageError):
            codec.encode(operation, content)


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) & 3)


def test_every_type() -> None:
    """Each attribute type that a spec can have maps to a pyroute2 type of the same size and sign."""
    specification = parse_specification(EVERY_TYPE, sensitive="all: [secret]")
    content: dict[str, Any] = {
        "u8": 255, "s8": -128, "u16": 65535, "s16": -32768, "u32": 2**32 - 1, "s32": -(2**31), "u64": 2**64 - 1,
        "s64": -(2**63), "string": "text", "binary": b"\0\1", "flag": True, "nest": {"u8": 1}, "secret": Secret(b"k"),
    }  # fmt: skip
    theirs = message(specification, "op", content)
    theirs["header"]["type"] = TYPE
    theirs.encode()
    codec = MessageCodec(specification, message_type=TYPE, receives=("request",))
    assert codec.encode("op", content) == bytes(theirs.data)
    assert codec.decode(bytes(theirs.data)).values == content


def test_the_codec_does_not_import_pyroute2() -> None:
    """The local path must not pay for an import that it has no use for."""
    program = (
        "import sys, hsframework.netlink.messages, hsframework.local.channel; "
        "sys.exit(any(name.split('.')[0] == 'pyroute2' for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


EVERY_TYPE = """
name: every
attribute-sets:
  - name: all
    attributes:
      - {name: u8, type: u8}
      - {name: s8, type: s8}
      - {name: u16, type: u16}
      - {name: s16, type: s16}
      - {name: u32, type: u32}
      - {name: s32, type: s32}
      - {name: u64, type: u64}
      - {name: s64, type: s64}
      - {name: string, type: string}
      - {name: binary, type: binary}
      - {name: flag, type: flag}
      - {name: nest, type: nest, nested-attributes: inner}
      - {name: secret, type: binary}
  - name: inner
    attributes: [{name: u8, type: u8}]
operations:
  list:
    - name: op
      attribute-set: all
      do: {request: {attributes: [u8, s8, u16, s16, u32, s32, u64, s64, string, binary, flag, nest, secret]}}
"""
