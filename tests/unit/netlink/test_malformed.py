"""Messages that a spec does not allow are a MessageError that names the place: never another exception or accepted."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, strategies as st

from hsframework.errors import MessageError
from hsframework.interface import Secret
from hsframework.netlink.attributes import MAX_PAYLOAD, AttributeCodec, attribute_codec
from hsframework.netlink.messages import MessageCodec, encode_error, sequence_of
from hsframework.netlink.spec import MAX_NESTING, builtin_specification, parse_specification
from tests.netlink_values import messages

TYPE = 0x21
HANDSHAKE = builtin_specification("handshake")
ACCEPT = attribute_codec(HANDSHAKE, "accept")
AGENT = MessageCodec(HANDSHAKE, message_type=TYPE)
REPLY = AGENT.encode(
    "accept",
    {"sockfd": 3, "peername": "a.example", "certificate": [{"cert": 1, "privkey": 2}], "peer-identity": [4, 5]},
    sequence=9,
)


def attribute(kind: int, payload: bytes) -> bytes:
    return struct.pack("=HH", len(payload) + 4, kind) + payload + b"\0" * (-len(payload) & 3)


def u32(number: int) -> bytes:
    return struct.pack("=I", number)


MALFORMED = {
    "an attribute that is not in the set": (attribute(77, u32(0)), r"accept: unknown attribute 77"),
    "attribute 0": (attribute(0, b""), r"accept: unknown attribute 0"),
    "an integer that is too short": (attribute(1, b"\0" * 3), r"accept\.sockfd: 3 bytes where 4 are wanted"),
    "an integer that is too long": (attribute(1, b"\0" * 8), r"accept\.sockfd: 8 bytes where 4 are wanted"),
    "an integer without bytes": (attribute(1, b""), r"accept\.sockfd: 0 bytes where 4 are wanted"),
    "a nest without NLA_F_NESTED": (attribute(7, attribute(1, u32(1))), r"accept\.certificate: the flags 0x0000"),
    "NLA_F_NESTED on an integer": (attribute(0x8001, u32(1)), r"accept\.sockfd: the flags 0x8000 are wrong"),
    "NLA_F_NET_BYTEORDER": (attribute(0x4001, u32(1)), r"accept\.sockfd: the flags 0x4000 are wrong"),
    "an attribute twice": (attribute(1, u32(1)) * 2, r"accept\.sockfd: the attribute is there twice"),
    "an attribute twice in a nest": (attribute(0x8007, attribute(1, u32(1)) * 2), r"x509\.cert: .* twice"),
    "an unknown attribute in a nest": (attribute(0x8007, attribute(3, u32(1))), r"x509: unknown attribute 3"),
    "a nest in a nest": (attribute(0x8007, attribute(0x8001, b"")), r"x509\.cert: the flags 0x8000 are wrong"),
    "an attribute shorter than its header": (b"\3\0\1\0" + bytes(8), r"an attribute of length 3"),
    "an attribute of length 0": (bytes(8), r"an attribute of length 0"),
    "an attribute that goes past the end": (b"\x0c\0\1\0" + bytes(4), r"of length 12 with 8 bytes left"),
    "an inner attribute past its nest": (attribute(0x8007, b"\x0c\0\1\0" + bytes(4)), r"x509: .* 12 with 8 bytes left"),
    "padding that is cut off": (attribute(8, b"ab")[:-1], r"accept: the last attribute's padding is missing"),
    "three bytes left over": (attribute(1, u32(1)) + bytes(3), r"accept: 3 bytes left over"),
    "a NUL within a text": (attribute(8, b"a\0b\0"), r"accept\.peername: a NUL within"),
    "a text that is not UTF-8": (attribute(8, b"\xff\0"), r"accept\.peername: not UTF-8"),
}


@pytest.mark.parametrize(("data", "problem"), MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_attributes(data: bytes, problem: str) -> None:
    """Each way to break an attribute set is refused, alone and behind a good attribute, with the place."""
    with pytest.raises(MessageError, match=problem):
        ACCEPT.decode(data)
    with pytest.raises(MessageError):
        ACCEPT.decode(attribute(4, u32(1)) + data)
    header = struct.pack("=IHHIIBBH", 20 + len(data), TYPE, 0, 0, 0, 2, 1, 0)
    with pytest.raises(MessageError):
        AGENT.decode(header + data)


def test_a_flag_has_no_bytes() -> None:
    """A flag attribute with a payload is refused."""
    codec = attribute_codec(builtin_specification("local"), "outcome")
    assert codec.decode(attribute(7, b"")) == {"in-kernel": True}
    with pytest.raises(MessageError, match=r"outcome\.in-kernel: a flag with 1 bytes"):
        codec.decode(attribute(7, b"\1"))


def test_a_text_may_lack_its_nul() -> None:
    """NLA_STRING does not demand the NUL, and neither do we."""
    assert ACCEPT.decode(attribute(8, b"ab")) == {"peername": "ab"}
    assert ACCEPT.decode(attribute(8, b"")) == {"peername": ""}


@pytest.mark.parametrize("size", range(len(REPLY)))
def test_truncation(size: int) -> None:
    """A message cut off at any byte is refused, whether or not its length field was changed to match."""
    with pytest.raises(MessageError):
        AGENT.decode(REPLY[:size])
    if size >= 20:
        shortened = struct.pack("=I", size) + REPLY[4:size]
        boundaries = {20, 28, 44, 64, 72}
        if size in boundaries:
            assert AGENT.decode(shortened).sequence == 9
        else:
            with pytest.raises(MessageError):
                AGENT.decode(shortened)


@pytest.mark.parametrize("tail", [b"\0", bytes(4), REPLY])
def test_trailing_bytes(tail: bytes) -> None:
    """One packet is one message: what follows it is refused, be it a whole second message."""
    with pytest.raises(MessageError, match="says that it has"):
        AGENT.decode(REPLY + tail)


def header(kind: int = TYPE, *, command: int = 2, reserved: int = 0) -> bytes:
    return struct.pack("=IHHIIBBH", 20, kind, 0, 0, 0, command, 1, reserved)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "a message of 0 bytes"),
        (header(TYPE + 1), "not a message of family handshake"),
        (header(3), "type 3, 20 bytes"),
        (struct.pack("=IHHII", 16, TYPE, 0, 0, 0), "16 bytes: not a message of family"),
        (header(command=0), "operation 0 is not one"),
        (header(command=3), "operation 3 is not one that is sent to this side"),
        (header(reserved=1), "the reserved half"),
    ],
)
def test_malformed_headers(data: bytes, problem: str) -> None:
    """A family, command or length that is not ours."""
    with pytest.raises(MessageError, match=problem):
        AGENT.decode(data)


def test_attributes_of_another_form() -> None:
    """An attribute of the set that the operation does not list for this direction is refused by name."""
    service = MessageCodec(HANDSHAKE, message_type=TYPE, receives=("request",))
    message = AGENT.encode("accept", {"handler-class": 1, "timeout": 5, "keyring": 7})
    with pytest.raises(MessageError, match=r"handshake\.accept: not allowed in this message: keyring, timeout"):
        service.decode(message)


UNENCODABLE: dict[str, tuple[dict[str, Any], str]] = {
    "an unknown name": ({"colour": 1}, "there is no attribute 'colour'"),
    "a number that is too large": ({"timeout": 1 << 32}, r"accept\.timeout: 4294967296 does not fit"),
    "a negative number": ({"timeout": -1}, r"accept\.timeout: -1 does not fit"),
    "a signed number that is too large": ({"sockfd": 1 << 31}, r"accept\.sockfd"),
    "a text for a number": ({"timeout": "5"}, r"a value of type str does not fit"),
    "a fraction": ({"timeout": 1.5}, r"a value of type float does not fit"),
    "bytes for a text": ({"peername": b"x"}, r"accept\.peername: not a text"),
    "a text with a NUL": ({"peername": "a\0b"}, r"accept\.peername: not a text"),
    "a lone surrogate": ({"peername": "\ud800"}, r"accept\.peername: not a text that UTF-8 can hold"),
    "one value for a list": ({"peer-identity": 5}, r"accept\.peer-identity: not a list"),
    "a mapping for a list of nests": ({"certificate": {"cert": 1}}, r"accept\.certificate: not a list"),
    "a number for a nest": ({"certificate": [1]}, r"accept\.certificate: not a mapping"),
    "an unknown name in a nest": ({"certificate": [{"colour": 1}]}, r"x509: there is no attribute 'colour'"),
}


@pytest.mark.parametrize(("values", "problem"), UNENCODABLE.values(), ids=UNENCODABLE.keys())
def test_values_that_do_not_fit(values: dict[str, Any], problem: str) -> None:
    """The encoder is as strict as the decoder: what it would get wrong, it refuses."""
    with pytest.raises(MessageError, match=problem):
        AGENT.encode("accept", values)


def test_headers_that_do_not_fit() -> None:
    """A sequence number or port outside its 32 bits, and an operation that the family does not have."""
    for sequence, port, flags in ((1 << 32, 0, 0), (-1, 0, 0), (0, 1 << 32, 0), (0, 0, 1 << 16)):
        with pytest.raises(MessageError, match="do not fit into a header"):
            AGENT.encode("done", {}, sequence=sequence, port=port, flags=flags)
    with pytest.raises(MessageError, match="there is no operation 'dome'"):
        AGENT.encode("dome", {})


def test_local_types() -> None:
    """Binary and flag attributes refuse other types; an error never shows a secret."""
    codec = attribute_codec(builtin_specification("local"), "identity")
    with pytest.raises(MessageError, match=r"identity\.private-key: not bytes"):
        codec.encode({"private-key": "text"})
    with pytest.raises(MessageError, match="a value of type Secret does not fit"):
        attribute_codec(builtin_specification("local"), "trust").encode({"trust-id": Secret(b"hunter2")})
    with pytest.raises(MessageError, match="a flag is True, or left out"):
        attribute_codec(builtin_specification("local"), "outcome").encode({"in-kernel": 1})


def test_the_largest_attribute() -> None:
    """65,531 bytes go into one attribute, and one more do not."""
    codec = attribute_codec(builtin_specification("local"), "identity")
    largest = bytes(MAX_PAYLOAD)
    assert codec.decode(codec.encode({"certificate": [largest]})) == {"certificate": [largest]}
    with pytest.raises(MessageError, match="65532 bytes are more than an attribute's 65531"):
        codec.encode({"certificate": [largest + b"\0"]})


def nested_specification(depth: int) -> str:
    sets = "".join(
        f"  - {{name: s{level}, attributes: [{{name: in, type: nest, nested-attributes: s{level + 1}}}]}}\n"
        for level in range(depth)
    )
    return f"name: deep\nattribute-sets:\n{sets}  - {{name: s{depth}, attributes: [{{name: leaf, type: u8}}]}}\n"


def test_nests_that_are_too_deep() -> None:
    """A spec bounds the depth of its messages, so a message of nests in nests ends at the first that is not listed."""
    specification = parse_specification(nested_specification(MAX_NESTING))
    codec = AttributeCodec(specification, "s0")
    values: dict[str, Any] = {"leaf": 1}
    for _ in range(MAX_NESTING):
        values = {"in": values}
    assert codec.decode(codec.encode(values)) == values
    bomb = b""
    while len(bomb) < 60_000:
        bomb = attribute(0x8001, bomb)
    with pytest.raises(MessageError, match=rf"deep\.s{MAX_NESTING}\.leaf: the flags 0x8000 are wrong"):
        codec.decode(bomb)


ERROR = encode_error(22, 7, "what was wrong")


@pytest.mark.parametrize("size", range(16, len(ERROR)))
def test_truncated_errors(size: int) -> None:
    """An error message cut off before its text is refused; cut off within the text, too."""
    shortened = struct.pack("=I", size) + ERROR[4:size]
    text_ends = len(ERROR) - 1  # the last byte is padding
    if size in (36, 37, 38, 39, text_ends):
        assert AGENT.decode(shortened).error == 22
    else:
        with pytest.raises(MessageError):
            AGENT.decode(shortened)


@pytest.mark.parametrize("number", [1, -4096, -(2**31), 2**31 - 1])
def test_errnos_out_of_range(number: int) -> None:
    """An errno is from 0 to 4095, and negative on the wire."""
    message = ERROR[:16] + struct.pack("=i", number) + ERROR[20:]
    with pytest.raises(MessageError, match="an error message with the errno"):
        AGENT.decode(message)


def test_the_request_in_an_error_is_not_believed() -> None:
    """An uncapped error whose echoed request claims to be longer than the message has no text, and does no harm."""
    body = struct.pack("=i", -22) + struct.pack("=IHHII", 0xFFFFFFFF, TYPE, 0, 7, 0)
    data = struct.pack("=IHHII", 16 + len(body), 2, 0x200, 7, 0) + body
    message = AGENT.decode(data)
    assert (message.error, message.values) == (22, {})


@pytest.mark.parametrize("family", ["handshake", "handshake-raw", "handshake-raw-published", "local"])
@given(data=st.data())
def test_round_trip(family: str, data: st.DataObject) -> None:
    """Values that a spec allows come back as they went in, in every form of every operation."""
    specification = builtin_specification(family)
    name, values = data.draw(messages(specification))
    operation = specification.operations[name]
    for form in ("request", "reply", "event"):
        allowed = getattr(operation, form)
        if allowed is None:
            continue
        codec = MessageCodec(specification, message_type=TYPE, receives=(form,))
        wanted = {key: value for key, value in values.items() if key in allowed}
        decoded = codec.decode(codec.encode(name, wanted, sequence=3, flags=4, port=5))
        assert (decoded.operation, decoded.values) == (name, wanted)
        assert (decoded.sequence, decoded.flags, decoded.port, decoded.error) == (3, 4, 5, None)


@given(number=st.integers(0, 4095), sequence=st.integers(0, 0xFFFFFFFF), text=st.text(max_size=400))
def test_error_round_trip(number: int, sequence: int, text: str) -> None:
    """An error's errno, sequence number and text arrive; what UTF-8 cannot hold is replaced, NULs at the end go."""
    message = AGENT.decode(encode_error(number, sequence, text))
    assert (message.error, message.sequence) == (number, sequence)
    assert message.values.get("message", "") == text.encode(errors="replace").rstrip(b"\0").decode()


@given(st.binary(max_size=40))
def test_sequence_of_anything(data: bytes) -> None:
    """The sequence number of a message that cannot be decoded is always one that an error can be sent under."""
    assert AGENT.decode(encode_error(71, sequence_of(data))).sequence == sequence_of(data)


def test_what_is_remembered_is_nobodys() -> None:
    """Nests that were decoded before are decoded alike, and to change one value changes no other."""
    codec = attribute_codec(builtin_specification("local"), "outcome")
    tags = {"tag": [{"name": "cipher", "value": "x"}, {"name": "group", "value": "y" * 200}]}
    encoded = codec.encode(tags)
    first = codec.decode(encoded)
    for tag in first["tag"]:
        tag["value"] = "changed"
    assert codec.decode(encoded) == tags


def test_a_bad_nest_is_bad_each_time() -> None:
    """An error is not remembered as anything else."""
    codec = attribute_codec(builtin_specification("local"), "outcome")
    bad = codec.encode({"tag": [{"name": "cipher"}]}).replace(b"cipher", b"ci\0her")
    for _ in range(2):
        with pytest.raises(MessageError, match="a NUL within the text"):
            codec.decode(bad)


def test_a_list_that_is_remembered_is_nobodys() -> None:
    """A nest with a list in it is decoded anew each time."""
    text = """
name: toy
protocol: genetlink
attribute-sets:
  - name: inner
    attributes:
      - {name: number, type: u32, multi-attr: true}
  - name: outer
    attributes:
      - {name: nest, type: nest, nested-attributes: inner}
operations:
  list: []
"""
    codec = attribute_codec(parse_specification(text), "outer")
    encoded = codec.encode({"nest": {"number": [1, 2]}})
    codec.decode(encoded)["nest"]["number"].append(99)
    assert codec.decode(encoded) == {"nest": {"number": [1, 2]}}
