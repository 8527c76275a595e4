"""Specs that are wrong say where, and what is wanted there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsframework.errors import ConfigurationError
from hsframework.netlink.spec import builtin_specification, load_specification, parse_specification

SETS = "attribute-sets:\n  - {name: a, attributes: [{name: x, type: u32}]}\n"


def with_attribute(entry: str) -> str:
    return f"name: f\nattribute-sets: [{{name: a, attributes: [{entry}]}}]\n"


def with_operation(entry: str, protocol: str = "genetlink") -> str:
    return f"name: f\nprotocol: {protocol}\n{SETS}operations: {{list: [{entry}]}}\n"


WRONG = {
    "not YAML": ("name: [", "not YAML"),
    "a date that does not exist": ("name: 2020-99-99", "not YAML"),
    "not a mapping": ("[]", "top level: a mapping is wanted"),
    "no name": ("doc: x", "'name' is missing"),
    "another protocol": ("name: f\nprotocol: genetlink-legacy", "'genetlink-legacy' is not supported"),
    "a set twice": (f"name: f\n{SETS}  - {{name: a}}", "the set 'a' is there twice"),
    "an attribute twice": (with_attribute("{name: x, type: u8}, {name: x, type: u8}"), "'x' is there twice"),
    "a number twice": (with_attribute("{name: x, type: u8}, {name: y, type: u8, value: 1}"), "'y' is there twice"),
    "attribute 0": (with_attribute("{name: x, type: u8, value: 0}"), "from 1 to 16383"),
    "attribute 16384": (with_attribute("{name: x, type: u8, value: 16384}"), "from 1 to 16383"),
    "an unknown type": (with_attribute("{name: x, type: u128}"), "the type 'u128' is not supported"),
    "a nest of nothing": (with_attribute("{name: x, type: nest}"), "'nested-attributes' goes with type nest"),
    "a nest of a set that is not there": (
        with_attribute("{name: x, type: nest, nested-attributes: b}"),
        "the set 'b' is named and not there",
    ),
    "a nest in itself": (with_attribute("{name: x, type: nest, nested-attributes: a}"), "more than 8 deep"),
    "a secret number": (with_attribute("{name: x, type: u8, x-sensitive: true}"), "goes with type binary"),
    "an enum that is a number": (with_attribute("{name: x, type: u8, enum: 5}"), "'enum' is missing or not a text"),
    "an operation of a set that is not there": (with_operation("{name: o, attribute-set: b}"), "'b' is named"),
    "an operation with an attribute that is not there": (
        with_operation("{name: o, attribute-set: a, do: {request: {attributes: [y]}}}"),
        "'y' is not in the set 'a'",
    ),
    "flags that are no list": (with_operation("{name: o, attribute-set: a, flags: 5}"), "'flags' is not a list"),
    "a command past a byte": (with_operation("{name: o, attribute-set: a, value: 256}"), "from 1 to 255 is wanted"),
    "a reserved message type": (
        with_operation("{name: o, attribute-set: a, value: 2}", "netlink-raw"),
        "from 16 to 65535 is wanted",
    ),
    "an operation twice": (
        with_operation("{name: o, attribute-set: a}, {name: o, attribute-set: a}"),
        "there twice",
    ),
    "an enum of mappings": ("name: f\ndefinitions: [{type: enum, name: e, entries: [{}]}]", "not a list of names"),
    "groups that are no list": ("name: f\nmcast-groups: {list: 5}", "mcast-groups: a list is wanted"),
}


@pytest.mark.parametrize(("text", "problem"), WRONG.values(), ids=WRONG.keys())
def test_wrong_specs(text: str, problem: str) -> None:
    """Each mistake is a ConfigurationError that begins with the file and names the place."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        parse_specification(text, origin="mine.yaml")
    assert str(caught.value).startswith("mine.yaml: ")


def test_files(tmp_path: Path) -> None:
    """A spec that a plugin brings is read from a file; one that is not there is named in the error."""
    path = tmp_path / "mine.yaml"
    with pytest.raises(ConfigurationError, match=r"mine\.yaml: cannot read the netlink spec"):
        load_specification(path)
    path.write_text(f"name: mine\n{SETS}")
    assert load_specification(path).sets["a"].attributes["x"].value == 1


def test_what_each_side_may_send() -> None:
    """Both ACCEPT and DONE need CAP_NET_ADMIN in the kernel's family, and READY carries the handler class alone."""
    operations = builtin_specification("handshake").operations
    assert [name for name, operation in operations.items() if operation.admin] == ["accept", "done"]
    assert operations["ready"].event == frozenset({"handler-class"})
    assert operations["ready"].request is None
