"""Netlink specs: a family's operations, attribute sets and multicast groups, read from YAML in the kernel's own format
(Documentation/userspace-api/netlink/specs.rst).

The whole file is checked when it is loaded, so that codecs, pyroute2 classes and documentation need not check it again.
One key is ours: with ``x-sensitive: true`` on a binary attribute the codec decodes its value to a
:class:`hsframework.interface.Secret`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from hsframework.errors import ConfigurationError
from hsframework.interface import Attribute, AttributeSet, Operation, Specification

__all__ = [
    "INTEGER_TYPES",
    "MAX_NESTING",
    "NLMSG_MIN_TYPE",
    "Attribute",
    "AttributeSet",
    "Operation",
    "Specification",
    "builtin_specification",
    "load_specification",
    "parse_specification",
]

INTEGER_TYPES: Mapping[str, str] = {
    "u8": "B",
    "s8": "b",
    "u16": "H",
    "s16": "h",
    "u32": "I",
    "s32": "i",
    "u64": "Q",
    "s64": "q",
}
"""Integer attribute types and their struct codes; all in the host's byte order."""

MAX_NESTING = 8
"""Levels of nested attributes."""
NLMSG_MIN_TYPE = 0x10
"""Lowest message type of a family; those below are netlink's own (linux/netlink.h)."""


@cache
def builtin_specification(name: str) -> Specification:
    """Return a spec that ships with the core, a file of ``specs``: ``handshake``, ``handshake-raw``, ``local`` …"""
    text = resources.files("hsframework.netlink").joinpath("specs", f"{name}.yaml").read_text("utf-8")
    return parse_specification(text, origin=f"{name}.yaml")


def load_specification(path: Path | str) -> Specification:
    """Read and check a spec in a YAML file.  Raises ConfigurationError, which names the file and the wrong entry."""
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot read the netlink spec: {error}") from None
    return parse_specification(text, origin=str(path))


def parse_specification(text: str, *, origin: str = "<text>") -> Specification:
    """Parse and check the YAML text of a spec; ``origin``: for messages.  Raises ConfigurationError."""
    try:
        tree = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date or number that Python cannot represent
        raise ConfigurationError(f"{origin}: not YAML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested too deep") from None
    try:
        return _Reader(origin).family(tree)
    except RecursionError:
        raise ConfigurationError(f"{origin}: nested too deep") from None


class _Reader:
    """A reader of the YAML tree; ``where`` in each message is the path to the wrong entry."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def fail(self, where: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.origin}: {where}: {problem}")

    def mapping(self, value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.fail(where, "a mapping is wanted here")
        return value

    def entries(self, value: object, where: str) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise self.fail(where, "a list is wanted here")
        return [self.mapping(item, f"{where}[{index}]") for index, item in enumerate(value)]

    def text(self, tree: dict[str, Any], key: str, where: str) -> str:
        value = tree.get(key)
        if not isinstance(value, str) or not value:
            raise self.fail(where, f"{key!r} is missing or not a text")
        return value

    def number(self, tree: dict[str, Any], key: str, default: int, where: str) -> int:
        value = tree.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= 0xFFFF:
            raise self.fail(where, f"{key!r} is not a number from 0 to 65535")
        return value

    def family(self, tree: object) -> Specification:
        top = self.mapping(tree, "top level")
        name = self.text(top, "name", "top level")
        protocol = top.get("protocol", "genetlink")
        if protocol not in ("genetlink", "netlink-raw"):
            raise self.fail("protocol", f"{protocol!r} is not supported; use genetlink or netlink-raw")
        sets = self.sets(top.get("attribute-sets", []))
        self.check_nesting(sets)
        operations = self.operations(self.mapping(top.get("operations", {}), "operations").get("list", []), sets)
        lowest, highest = (1, 255) if protocol == "genetlink" else (NLMSG_MIN_TYPE, 0xFFFF)
        for operation in operations.values():
            if not lowest <= operation.value <= highest:
                raise self.fail(f"operations.{operation.name}", f"a number from {lowest} to {highest} is wanted")
        groups = self.entries(self.mapping(top.get("mcast-groups", {}), "mcast-groups").get("list", []), "mcast-groups")
        return Specification(
            name=name,
            protocol=protocol,
            protonum=self.number(top, "protonum", 0, "protonum") or None,
            doc=str(top.get("doc", "")),
            sets=sets,
            operations=operations,
            groups=tuple(self.text(group, "name", "mcast-groups") for group in groups),
            enums=self.enums(top.get("definitions", [])),
        )

    def enums(self, tree: object) -> dict[str, dict[str, int]]:
        result: dict[str, dict[str, int]] = {}
        for entry in self.entries(tree, "definitions"):
            if entry.get("type") not in ("enum", "flags"):
                continue
            name = self.text(entry, "name", "definitions")
            start = self.number(entry, "value-start", 0, f"definitions.{name}")
            names = entry.get("entries")
            if not isinstance(names, list):
                raise self.fail(f"definitions.{name}", "'entries' is not a list")
            if not all(isinstance(item, str) for item in names):
                raise self.fail(f"definitions.{name}", "'entries' is not a list of names")
            result[name] = {item: start + index for index, item in enumerate(names)}
        return result

    def sets(self, tree: object) -> dict[str, AttributeSet]:
        result: dict[str, AttributeSet] = {}
        for entry in self.entries(tree, "attribute-sets"):
            name = self.text(entry, "name", "attribute-sets")
            if name in result:
                raise self.fail("attribute-sets", f"the set {name!r} is there twice")
            result[name] = AttributeSet(name, self.attributes(entry.get("attributes", []), f"attribute-sets.{name}"))
        return result

    def attributes(self, tree: object, where: str) -> dict[str, Attribute]:
        result: dict[str, Attribute] = {}
        taken: set[int] = set()
        number = 0
        for entry in self.entries(tree, where):
            attribute = self.attribute(entry, number + 1, where)
            number = attribute.value
            if attribute.name in result or number in taken:
                raise self.fail(where, f"the name or number of {attribute.name!r} is there twice")
            taken.add(number)
            result[attribute.name] = attribute
        return result

    def attribute(self, entry: dict[str, Any], default: int, where: str) -> Attribute:
        name = self.text(entry, "name", where)
        place = f"{where}.{name}"
        value = self.number(entry, "value", default, place)
        if not 1 <= value <= 0x3FFF:
            raise self.fail(place, "an attribute's number is from 1 to 16383")
        kind = self.text(entry, "type", place)
        if kind not in INTEGER_TYPES and kind not in ("string", "binary", "flag", "nest"):
            raise self.fail(place, f"the type {kind!r} is not supported")
        nested = entry.get("nested-attributes")
        if (kind == "nest") != isinstance(nested, str):
            raise self.fail(place, "'nested-attributes' goes with type nest, and with nothing else")
        sensitive = bool(entry.get("x-sensitive", False))
        if sensitive and kind != "binary":
            raise self.fail(place, "'x-sensitive' goes with type binary")
        enum = self.text(entry, "enum", place) if "enum" in entry else None
        return Attribute(
            name, value, kind, bool(entry.get("multi-attr", False)), nested, enum, sensitive, str(entry.get("doc", ""))
        )

    def check_nesting(self, sets: Mapping[str, AttributeSet]) -> None:
        def depth(name: str, level: int) -> None:
            if name not in sets:
                raise self.fail("attribute-sets", f"the set {name!r} is named and not there")
            if level > MAX_NESTING:
                raise self.fail(f"attribute-sets.{name}", f"nests are more than {MAX_NESTING} deep")
            for attribute in sets[name].attributes.values():
                if attribute.nested is not None:
                    depth(attribute.nested, level + 1)

        for name in sets:
            depth(name, 0)

    def operations(self, tree: object, sets: Mapping[str, AttributeSet]) -> dict[str, Operation]:
        result: dict[str, Operation] = {}
        taken: set[int] = set()
        number = 0
        for entry in self.entries(tree, "operations"):
            name = self.text(entry, "name", "operations")
            where = f"operations.{name}"
            number = self.number(entry, "value", number + 1, where)
            if name in result or number in taken:
                raise self.fail(where, "the name or number is there twice")
            taken.add(number)
            result[name] = self.operation(entry, name, number, sets, where)
        return result

    def operation(
        self, entry: dict[str, Any], name: str, number: int, sets: Mapping[str, AttributeSet], where: str
    ) -> Operation:
        used = self.text(entry, "attribute-set", where)
        if used not in sets:
            raise self.fail(where, f"the set {used!r} is named and not there")
        do = self.mapping(entry.get("do", {}), f"{where}.do")
        flags = entry.get("flags", [])
        if not isinstance(flags, list):
            raise self.fail(where, "'flags' is not a list")
        return Operation(
            name=name,
            value=number,
            attribute_set=used,
            request=self.form(do.get("request"), sets[used], f"{where}.do.request"),
            reply=self.form(do.get("reply"), sets[used], f"{where}.do.reply"),
            event=self.form(entry.get("event"), sets[used], f"{where}.event"),
            admin="admin-perm" in flags,
            doc=str(entry.get("doc", "")).strip(),
        )

    def form(self, tree: object, used: AttributeSet, where: str) -> frozenset[str] | None:
        if tree is None:
            return None
        names = self.mapping(tree, where).get("attributes", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.fail(where, "'attributes' is not a list of names")
        for name in names:
            if name not in used.attributes:
                raise self.fail(where, f"{name!r} is not in the set {used.name!r}")
        return frozenset(names)
