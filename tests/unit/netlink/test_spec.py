"""Specs that are wrong say where, and what is wanted there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsframework.configuration.settings import published_protocols
from hsframework.errors import ConfigurationError
from hsframework.netlink.spec import (
    builtin_specification,
    load_specification,
    package_specification,
    parse_specification,
)

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
    "another protocol": (
        "name: f\nprotocol: genetlink-legacy",
        "^mine.yaml: protocol: 'genetlink-legacy' is not supported; use genetlink or netlink-raw$",
    ),
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
    "a secret in the spec": (
        with_attribute("{name: key, type: binary, x-sensitive: true}"),
        r"put 'key' below the name of its set into mine\.sensitive\.yaml",
    ),
    "a secret in the spec, misspelt": (
        with_attribute("{name: key, type: binary, x-sensitve: true}"),
        r"'x-sensitve' is no key of netlink specs; put 'key' below the name of its set into mine\.sensitive\.yaml",
    ),
    "a misspelt type": (with_attribute("{name: x, type: sting}"), "'sting' is not supported; did you mean 'string'"),
    "a definition of a misspelt type": ("name: f\ndefinitions: [{type: emum, name: e}]", "did you mean 'enum'"),
    "a binary attribute, and no file that names secrets": (
        with_attribute("{name: key, type: binary}"),
        r"a\.key is binary, perhaps a secret: .* mine\.sensitive\.yaml, as `a: \[key\]`; `{}` if none is",
    ),
    "a key of the top level": (
        "name: f\ndock: x",
        "the key 'dock' is unknown here, or not supported; did you mean 'doc'",
    ),
    "a torn text": (with_attribute("{name: x, type: u8, doc: one, or more}"), "the key 'or more' is unknown"),
    "a key of a definition": ("name: f\ndefinitions: [{name: e, type: enum, entires: []}]", "did you mean 'entries'"),
    "a key of a set": ("name: f\nattribute-sets: [{name: a, attribute: []}]", "did you mean 'attributes'"),
    "a set that is part of another": ("name: f\nattribute-sets: [{name: a, subset-of: b}]", "'subset-of' is unknown"),
    "a key of an attribute": (
        with_attribute("{name: x, type: u8, multi-attribute: true}"),
        "did you mean 'multi-attr'",
    ),
    "another byte order": (with_attribute("{name: x, type: u32, byte-order: big-endian}"), "or not supported"),
    "a key of a check": (with_attribute("{name: x, type: u8, checks: {maximum: 3}}"), "did you mean 'max'"),
    "a key of the operations": (f"name: f\n{SETS}operations: {{lists: []}}", "did you mean 'list'"),
    "a key of an operation": (with_operation("{name: o, attribute-set: a, docs: x}"), "did you mean 'doc'"),
    "a key of do": (with_operation("{name: o, attribute-set: a, do: {requests: {}}}"), "did you mean 'request'"),
    "a key of a message": (with_operation("{name: o, attribute-set: a, event: {attribute: []}}"), "'attributes'"),
    "a key of the groups": ("name: f\nmcast-groups: {lst: []}", "did you mean 'list'"),
    "a key of a group": ("name: f\nmcast-groups: {list: [{name: g, flag: []}]}", "did you mean 'flags'"),
    "a key twice": ("name: f\ndoc: one\ndoc: two", "line 3: the key 'doc' is there twice"),
    "a flag of an operation": (with_operation("{name: o, attribute-set: a, flags: [admin-prem]}"), "'admin-perm'"),
    "a number for true": (with_attribute("{name: x, type: u8, multi-attr: 1}"), "'multi-attr' is not true or false"),
    "another enum model": (f"name: f\n{SETS}operations: {{enum-model: directional}}", "only unified is supported"),
    "an enum that is not there": (
        with_attribute("{name: x, type: u8, enum: role}"),
        "the definition 'role' is named and not there",
    ),
    "a definition twice": (
        "name: f\ndefinitions: [{type: enum, name: e, entries: []}, {type: flags, name: e, entries: []}]",
        "definitions.e: the name is there twice",
    ),
    "a struct": ("name: f\ndefinitions: [{type: struct, name: s}]", "not one of const, enum, flags"),
    "a notification of an operation that is not there": (
        with_operation("{name: o, attribute-set: a, notify: oo}"),
        "'notify' names 'oo', which is not there; did you mean 'o'",
    ),
    "an event of a group that is not there": (
        with_operation("{name: o, attribute-set: a, mcgrp: g}"),
        "'mcgrp' names 'g', which is not there",
    ),
    "a dump with an attribute that is not there": (
        with_operation("{name: o, attribute-set: a, dump: {reply: {attributes: [y]}}}"),
        "'y' is not in the set 'a'",
    ),
    "a family number of generic netlink": ("name: f\nprotonum: 23", "the key 'protonum' is unknown"),
    "a raw family's group without a number": (
        "name: f\nprotocol: netlink-raw\nmcast-groups: {list: [{name: g}]}",
        "mcast-groups.g: 'value' is a group's number in a raw family, and only there",
    ),
    "a generic family's group with a number": (
        "name: f\nmcast-groups: {list: [{name: g, value: 1}]}",
        "mcast-groups.g: 'value' is a group's number in a raw family, and only there",
    ),
    "group 0": ("name: f\nprotocol: netlink-raw\nmcast-groups: {list: [{name: g, value: 0}]}", "from 1 to 65535"),
    "a group's number twice": (
        "name: f\nprotocol: netlink-raw\nmcast-groups: {list: [{name: g, value: 1}, {name: h, value: 1}]}",
        "mcast-groups.h: the name or number is there twice",
    ),
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
    "a key twice in a list": (f"name: f\n{SETS}  - {{name: b, name: c}}", "the key 'name' is there twice"),
    "a key twice behind an alias": (
        "name: f\nmcast-groups: {list: [], list: []}\ndefinitions: [&e {type: enum, name: e, entries: []}, *e]",
        "the key 'list' is there twice",
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


SECRETS = f"name: f\n{SETS}  - {{name: b, attributes: [{{name: key, type: binary}}, {{name: salt, type: binary}}]}}"

WRONG_SECRETS = {
    "not YAML": ("b: [", "not YAML"),
    "nothing": ("# none", "a mapping of attribute sets to lists of names is wanted, or {}"),
    "a list": ("[key]", "a mapping of attribute sets to lists of names is wanted"),
    "a set that is not there": ("bb: [key]", "there is no attribute set 'bb'; did you mean 'b'"),
    "a set without a name": ("5: [key]", "there is no attribute set 5"),
    "a set twice": ("b: [key]\nb: [salt]", "line 2: the key 'b' is there twice"),
    "no list of names": ("b: key", "b: a list of names is wanted here"),
    "an attribute that is not there": ("b: [kye]", "b: there is no attribute 'kye'; did you mean 'key'"),
    "an attribute of another set": ("a: [key]", "a: there is no attribute 'key'"),
    "no name": ("b: [[key]]", r"b: there is no attribute \['key'\]"),
    "a number": ("a: [x]", "a.x: only an attribute of type binary can be secret"),
}


@pytest.mark.parametrize(("text", "problem"), WRONG_SECRETS.values(), ids=WRONG_SECRETS.keys())
def test_wrong_names_of_secrets(text: str, problem: str) -> None:
    """A mistake beside the spec, by which a secret would be shown, is an error that begins with that file."""
    with pytest.raises(ConfigurationError, match=problem) as caught:
        parse_specification(SECRETS, origin="mine.yaml", sensitive=text)
    assert str(caught.value).startswith("mine.sensitive.yaml: ")


def test_secrets_are_named_beside_the_spec() -> None:
    """A named attribute is secret and nothing else, also in a set of the same attribute; `{}` says that nothing is."""
    attributes = parse_specification(SECRETS, sensitive="b: [key]").sets["b"].attributes
    assert {name: attribute.sensitive for name, attribute in attributes.items()} == {"key": True, "salt": False}
    attributes = parse_specification(SECRETS, sensitive="{}").sets["b"].attributes
    assert not any(attribute.sensitive for attribute in attributes.values())
    with pytest.raises(ConfigurationError, match="into the argument 'sensitive'"):
        parse_specification(SECRETS)


def test_files(tmp_path: Path) -> None:
    """A spec that a plugin brings is read from a file; one that is not there is named in the error."""
    path = tmp_path / "mine.yaml"
    with pytest.raises(ConfigurationError, match=r"mine\.yaml: cannot read the netlink spec"):
        load_specification(path)
    path.write_text(f"name: mine\n{SETS}")
    assert load_specification(path).sets["a"].attributes["x"].value == 1
    path.write_text(SECRETS)
    with pytest.raises(ConfigurationError, match=r"/mine\.sensitive\.yaml, as `b: \[key\]`"):
        load_specification(path)
    beside = tmp_path / "mine.sensitive.yaml"
    beside.write_text("b: [salt]")
    assert load_specification(str(path)).sets["b"].attributes["salt"].sensitive
    beside.write_bytes(b"\xff")
    with pytest.raises(ConfigurationError, match=r"/mine\.sensitive\.yaml: cannot read the netlink spec"):
        load_specification(path)


def test_specs_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin names its package and the spec; the file that names the secrets is found beside it."""
    specs = tmp_path / "a_plugin_of_this_test" / "specs"
    specs.mkdir(parents=True)
    (specs.parent / "__init__.py").write_text("")
    (specs / "mine.yaml").write_text(SECRETS)
    (specs / "mine.sensitive.yaml").write_text("b: [key]")
    monkeypatch.syspath_prepend(tmp_path)
    assert package_specification("a_plugin_of_this_test", "mine").sets["b"].attributes["key"].sensitive
    with pytest.raises(ConfigurationError, match=r"^other\.yaml: cannot read the netlink spec"):
        package_specification("a_plugin_of_this_test", "other")


def test_numbers_of_groups() -> None:
    """A raw family's groups have numbers, which are those of its protocols; a generic family's have none."""
    raw = builtin_specification("handshake-raw")
    assert raw.group_numbers == raw.enums["protocol"] == published_protocols()
    assert raw.groups == ("tlshd", "quic", "psp")
    assert builtin_specification("handshake").group_numbers == {}


@pytest.mark.parametrize("name", ["handshake", "handshake-raw", "local", "nlctrl", "psp"])
def test_operations_are_in_the_order_of_their_numbers(name: str) -> None:
    """The highest comes last: C bindings take the maximum from the last one."""
    numbers = [operation.value for operation in builtin_specification(name).operations.values()]
    assert numbers == sorted(numbers)


def test_operations_are_numbered_from_one() -> None:
    """Without a value an operation has the number after that of the one in front of it."""
    listed = ", ".join(f"{{name: {name}, attribute-set: a}}" for name in ("first", "second"))
    listed += ", {name: far, attribute-set: a, value: 9}, {name: behind, attribute-set: a}"
    operations = parse_specification(with_operation(listed)).operations
    assert {name: it.value for name, it in operations.items()} == {"first": 1, "second": 2, "far": 9, "behind": 10}


def test_yaml_that_is_nested_too_deep(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the file's, whatever the reader of YAML does with its depth."""

    def deep(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("hsframework.netlink.spec_yaml._refuse_repeated_keys", deep)
    with pytest.raises(ConfigurationError, match=r"^mine.yaml: nested too deep$"):
        parse_specification("name: f", origin="mine.yaml")


def test_what_each_side_may_send() -> None:
    """Both ACCEPT and DONE need CAP_NET_ADMIN in the kernel's family, and READY carries the handler class alone."""
    operations = builtin_specification("handshake").operations
    assert [name for name, operation in operations.items() if operation.admin] == ["accept", "done"]
    assert operations["ready"].event == frozenset({"handler-class"})
    assert operations["ready"].request is None
