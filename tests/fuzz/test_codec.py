"""Any bytes, and any damage to good messages: the codec gives values or MessageError."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, strategies as st

from hsframework.errors import ConfigurationError, MessageError
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.netlink.messages import Form, MessageCodec, encode_error, sequence_of
from hsframework.netlink.spec import Specification, builtin_specification, parse_specification
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutation import damaged
from tests.netlink_values import attribute_values

FAMILIES = ["handshake", "handshake-raw", "local"]
FORMS: tuple[Form, ...] = ("request", "reply", "event")


def decode(specification: Specification, form: Form, data: bytes) -> None:
    """Decode; what is accepted is encoded again and decoded to the same."""
    codec = MessageCodec(specification, message_type=LOCAL_MESSAGE_TYPE, receives=(form,))
    try:
        message = codec.decode(data)
    except MessageError:
        answer = codec.decode(encode_error(74, sequence_of(data), "refused"))
        assert answer.error == 74
        return
    if message.error is None:
        again = codec.encode(message.operation, message.values, sequence=message.sequence, flags=message.flags)
        assert codec.decode(again).values == message.values


@pytest.mark.fuzz
@pytest.mark.parametrize("family", FAMILIES)
def test_bytes(fuzz: Fuzz, family: str) -> None:
    """Random bytes behind a header that fits."""
    specification = builtin_specification(family)
    numbers = [operation.value for operation in specification.operations.values()]
    generic = specification.protocol == "genetlink"

    @given(st.sampled_from(FORMS), st.sampled_from([*numbers, 2, 0]), st.binary(max_size=200), st.booleans())
    def target(form: Form, number: int, body: bytes, fits: bool) -> None:
        kind = LOCAL_MESSAGE_TYPE if generic else number
        rest = kind.to_bytes(2, "little") + bytes(10) + (bytes([number, 1, 0, 0]) if generic else b"") + body
        length = len(rest) + 4 if fits else 0
        decode(specification, form, length.to_bytes(4, "little") + rest)

    fuzz(target)


@pytest.mark.fuzz
@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_messages(fuzz: Fuzz, family: str) -> None:
    """Good messages with bytes changed, cut out, put in, repeated."""
    specification = builtin_specification(family)
    codec = MessageCodec(specification, message_type=LOCAL_MESSAGE_TYPE)

    @given(st.data())
    def target(data: st.DataObject) -> None:
        operation = specification.operations[data.draw(st.sampled_from(sorted(specification.operations)))]
        values = data.draw(attribute_values(specification, operation.attribute_set))
        for form in FORMS:
            allowed = getattr(operation, form)
            if allowed is not None:
                good = codec.encode(operation.name, {name: values[name] for name in values if name in allowed})
                decode(specification, form, data.draw(damaged(good)))

    fuzz(target)


@pytest.mark.fuzz
def test_damaged_errors(fuzz: Fuzz) -> None:
    """Damaged error messages and extended acknowledgements."""

    @given(st.integers(0, 4095), st.text(max_size=50), st.data())
    def target(number: int, text: str, data: st.DataObject) -> None:
        decode(builtin_specification("local"), "reply", data.draw(damaged(encode_error(number, 5, text))))

    fuzz(target)


TOKENS = ["null", "[]", "{}", "1", "-1", "9" * 20, "x:", "2020-99-99", '""', "true", "&a", "*a", "nest", "0xFFFFF",
          "!!python/none x", "{name: a}", "1e400", "!!int x", "!!binary x", "|", "- name: a", "\t"]  # fmt: skip


@pytest.mark.fuzz
def test_damaged_specs(fuzz: Fuzz) -> None:
    """A spec with words replaced is a spec, or a ConfigurationError."""
    words = SPEC.split(" ")

    @given(st.lists(st.tuples(st.integers(0, len(words) - 1), st.sampled_from(TOKENS)), min_size=1, max_size=4))
    def target(changes: list[tuple[int, str]]) -> None:
        changed = list(words)
        for index, token in changes:
            changed[index] = token
        with contextlib.suppress(ConfigurationError):
            parse_specification(" ".join(changed), sensitive="outer: [secret]")

    fuzz(target)


@pytest.mark.fuzz
def test_damaged_names_of_secrets(fuzz: Fuzz) -> None:
    """A spec's secret is one or there is a ConfigurationError, with any file beside it."""
    words = "{ outer : [ secret ] }".split(" ")

    @given(st.lists(st.tuples(st.integers(0, len(words) - 1), st.sampled_from(TOKENS)), max_size=3))
    def target(changes: list[tuple[int, str]]) -> None:
        changed = list(words)
        for index, token in changes:
            changed[index] = token
        try:
            specification = parse_specification(SPEC, sensitive=" ".join(changed))
        except ConfigurationError:
            return
        assert specification.sets["outer"].attributes["secret"].sensitive == ("secret" in changed)

    fuzz(target)


SPEC = """
name: f
protocol: netlink-raw
protonum: 23
definitions:
  - type: enum
    name: e
    value-start: 1
    entries: [ a , b ]
attribute-sets:
  - name: inner
    attributes:
      - name: number
        type: u32
        enum: e
  - name: outer
    attributes:
      - name: nested
        value: 7
        type: nest
        nested-attributes: inner
        multi-attr: true
      - name: secret
        type: binary
operations:
  list:
    - name: op
      value: 17
      attribute-set: outer
      flags: [ admin-perm ]
      do:
        request:
          attributes: [ nested , secret ]
      event:
        attributes: [ nested ]
mcast-groups:
  list:
    - name: g
      value: 1
"""
