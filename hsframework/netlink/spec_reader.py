"""Reader of a netlink spec's YAML tree, which it checks whole.  Each error names the file and the place in it.

The keys are those of the kernel's schemas (Documentation/netlink/genetlink.yaml and netlink-raw.yaml).  Of these, keys
that have no meaning here are passed over: names for C, the kernel's own checks and hooks.  A key that would change the
messages and is not supported (``byte-order``, ``fixed-header``, ``subset-of`` …) is refused as an unknown one is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hsframework.errors import ConfigurationError
from hsframework.interface import Attribute, AttributeSet, Operation, Specification
from hsframework.netlink.spec_sensitive import mark_sensitive, sensitive_file
from hsframework.netlink.spec_types import INTEGER_TYPES, MAX_NESTING, NLMSG_MIN_TYPE
from hsframework.netlink.spec_yaml import hint

_DEFINITION_TYPES = ("const", "enum", "flags")
_OTHER_TYPES = ("string", "binary", "flag", "nest")
_FLAGS = ("admin-perm", "uns-admin-perm")
_FAMILY = "name doc protocol uapi-header definitions attribute-sets operations mcast-groups"
_RAW_FAMILY = "protonum c-family-name c-version-name max-by-define cmd-max-name cmd-cnt-name kernel-policy"
_KEYS: Mapping[str, frozenset[str]] = {
    place: frozenset(keys.split())
    for place, keys in {
        "genetlink": f"{_FAMILY} kernel-family",
        "netlink-raw": f"{_FAMILY} {_RAW_FAMILY}",
        "definition": "name header scope type doc value value-start entries render-max name-prefix enum-name",
        "set": "name name-prefix enum-name attr-cnt-name attr-max-name header doc attributes",
        "attribute": "name name-prefix doc type value multi-attr nested-attributes enum enum-as-flags checks "
        "display-hint",
        "checks": "flags-mask min max min-len max-len exact-len unterminated-ok",
        "operations": "enum-model name-prefix enum-name async-prefix async-enum list",
        "operation": "name doc value attribute-set flags dont-validate config-cond do dump notify event mcgrp",
        "exchange": "request reply pre post",
        "message": "attributes",
        "groups": "list",
        "group": "name flags value c-define-name",
    }.items()
}
"""Keys by the place in a spec in which they may stand."""


class SpecificationReader:
    """A reader of the YAML tree; ``where`` in each message is the path to the wrong entry."""

    def __init__(self, origin: str) -> None:
        self.origin = origin

    def fail(self, where: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.origin}: {where}: {problem}")

    def mapping(self, value: object, where: str) -> dict[str, Any]:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise self.fail(where, "a mapping is wanted here")
        return value

    def table(self, value: object, where: str, place: str) -> dict[str, Any]:
        """Return a mapping with no other keys than may stand in this place, a key of ``_KEYS``."""
        tree = self.mapping(value, where)
        for key in tree:
            if key not in _KEYS[place]:
                if hint(key, ["x-sensitive"]):
                    raise self.fail(where, f"{key!r} is no key of netlink specs; {self._say_where_secrets_go(tree)}")
                known = hint(key, _KEYS[place])
                raise self.fail(where, f"the key {key!r} is unknown here, or not supported{known}")
        return tree

    def _say_where_secrets_go(self, attribute: dict[str, Any]) -> str:
        return f"put {attribute.get('name')!r} below the name of its set into {sensitive_file(self.origin)}"

    def entries(self, value: object, where: str, place: str) -> list[dict[str, Any]]:
        if not isinstance(value, list):
            raise self.fail(where, "a list is wanted here")
        return [self.table(item, f"{where}[{index}]", place) for index, item in enumerate(value)]

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

    def truth(self, tree: dict[str, Any], key: str, where: str) -> bool:
        value = tree.get(key, False)
        if not isinstance(value, bool):
            raise self.fail(where, f"{key!r} is not true or false")
        return value

    def family(self, tree: object, sensitive: str | None) -> Specification:
        """Check the tree of a spec; ``sensitive``: text of the file beside it, None if there is none."""
        protocol = self.mapping(tree, "top level").get("protocol", "genetlink")
        if protocol not in ("genetlink", "netlink-raw"):
            raise self.fail("protocol", f"{protocol!r} is not supported; use genetlink or netlink-raw")
        top = self.table(tree, "top level", protocol)
        name = self.text(top, "name", "top level")
        enums = self.enums(top.get("definitions", []))
        sets = self.sets(top.get("attribute-sets", []), enums)
        self.check_nesting(sets)
        sets = mark_sensitive(sets, sensitive, self.origin)
        groups = self.groups(top.get("mcast-groups", {}), protocol)
        operations = self.operations(top.get("operations", {}), sets, groups, protocol)
        return Specification(
            name=name,
            protocol=protocol,
            protonum=self.number(top, "protonum", 0, "protonum") or None,
            doc=str(top.get("doc", "")),
            sets=sets,
            operations=operations,
            groups=tuple(groups),
            enums=enums,
            group_numbers={group: number for group, number in groups.items() if number is not None},
        )

    def groups(self, tree: object, protocol: str) -> dict[str, int | None]:
        """Return the numbers of the multicast groups by name: the kernel's to give where it is None."""
        result: dict[str, int | None] = {}
        for entry in self.entries(self.table(tree, "mcast-groups", "groups").get("list", []), "mcast-groups", "group"):
            name = self.text(entry, "name", "mcast-groups")
            where = f"mcast-groups.{name}"
            if ("value" in entry) != (protocol == "netlink-raw"):
                raise self.fail(where, "'value' is a group's number in a raw family, and only there")
            number = self.number(entry, "value", 0, where) if "value" in entry else None
            if number == 0:
                raise self.fail(where, "a group's number is from 1 to 65535")
            if name in result or (number is not None and number in result.values()):
                raise self.fail(where, "the name or number is there twice")
            result[name] = number
        return result

    def enums(self, tree: object) -> dict[str, dict[str, int]]:
        result: dict[str, dict[str, int]] = {}
        for entry in self.entries(tree, "definitions", "definition"):
            name = self.text(entry, "name", "definitions")
            if (kind := entry.get("type")) not in _DEFINITION_TYPES:
                known = f"one of {', '.join(_DEFINITION_TYPES)}{hint(str(kind), _DEFINITION_TYPES)}"
                raise self.fail(f"definitions.{name}", f"the type is not {known}")
            if entry["type"] == "const":
                continue
            if name in result:
                raise self.fail(f"definitions.{name}", "the name is there twice")
            start = self.number(entry, "value-start", 0, f"definitions.{name}")
            names = entry.get("entries")
            if not isinstance(names, list):
                raise self.fail(f"definitions.{name}", "'entries' is not a list")
            if not all(isinstance(item, str) for item in names):
                raise self.fail(f"definitions.{name}", "'entries' is not a list of names")
            result[name] = {item: start + index for index, item in enumerate(names)}
        return result

    def sets(self, tree: object, enums: Mapping[str, object]) -> dict[str, AttributeSet]:
        result: dict[str, AttributeSet] = {}
        for entry in self.entries(tree, "attribute-sets", "set"):
            name = self.text(entry, "name", "attribute-sets")
            if name in result:
                raise self.fail("attribute-sets", f"the set {name!r} is there twice")
            attributes = self.attributes(entry.get("attributes", []), f"attribute-sets.{name}", enums)
            result[name] = AttributeSet(name, attributes)
        return result

    def attributes(self, tree: object, where: str, enums: Mapping[str, object]) -> dict[str, Attribute]:
        result: dict[str, Attribute] = {}
        taken: set[int] = set()
        number = 0
        for entry in self.entries(tree, where, "attribute"):
            attribute = self.attribute(entry, number + 1, where, enums)
            number = attribute.value
            if attribute.name in result or number in taken:
                raise self.fail(where, f"the name or number of {attribute.name!r} is there twice")
            taken.add(number)
            result[attribute.name] = attribute
        return result

    def attribute(self, entry: dict[str, Any], default: int, where: str, enums: Mapping[str, object]) -> Attribute:
        name = self.text(entry, "name", where)
        place = f"{where}.{name}"
        value = self.number(entry, "value", default, place)
        if not 1 <= value <= 0x3FFF:
            raise self.fail(place, "an attribute's number is from 1 to 16383")
        kind = self.text(entry, "type", place)
        if kind not in (known := (*INTEGER_TYPES, *_OTHER_TYPES)):
            raise self.fail(place, f"the type {kind!r} is not supported{hint(kind, known)}")
        nested = entry.get("nested-attributes")
        if (kind == "nest") != isinstance(nested, str):
            raise self.fail(place, "'nested-attributes' goes with type nest, and with nothing else")
        enum = self.text(entry, "enum", place) if "enum" in entry else None
        if enum is not None and enum not in enums:
            raise self.fail(place, f"the definition {enum!r} is named and not there{hint(enum, enums)}")
        self.table(entry.get("checks", {}), f"{place}.checks", "checks")
        multi = self.truth(entry, "multi-attr", place)
        return Attribute(name, value, kind, multi, nested, enum, doc=str(entry.get("doc", "")))

    def check_nesting(self, sets: Mapping[str, AttributeSet]) -> None:
        def depth(name: str, level: int) -> None:
            if name not in sets:
                raise self.fail("attribute-sets", f"the set {name!r} is named and not there{hint(name, sets)}")
            if level > MAX_NESTING:
                raise self.fail(f"attribute-sets.{name}", f"nests are more than {MAX_NESTING} deep")
            for attribute in sets[name].attributes.values():
                if attribute.nested is not None:
                    depth(attribute.nested, level + 1)

        for name in sets:
            depth(name, 0)

    def operations(
        self, tree: object, sets: Mapping[str, AttributeSet], groups: Mapping[str, object], protocol: str
    ) -> dict[str, Operation]:
        top = self.table(tree, "operations", "operations")
        if top.get("enum-model", "unified") != "unified":
            raise self.fail("operations", "of 'enum-model' only unified is supported")
        result: dict[str, Operation] = {}
        taken: set[int] = set()
        number = 0
        lowest, highest = (1, 255) if protocol == "genetlink" else (NLMSG_MIN_TYPE, 0xFFFF)
        entries = self.entries(top.get("list", []), "operations", "operation")
        for entry in entries:
            name = self.text(entry, "name", "operations")
            where = f"operations.{name}"
            number = self.number(entry, "value", number + 1, where)
            if name in result or number in taken:
                raise self.fail(where, "the name or number is there twice")
            if not lowest <= number <= highest:
                raise self.fail(where, f"a number from {lowest} to {highest} is wanted")
            taken.add(number)
            result[name] = self.operation(entry, name, number, sets, where)
        self.check_references(entries, result, groups)
        return result

    def check_references(
        self, entries: list[dict[str, Any]], operations: Mapping[str, object], groups: Mapping[str, object]
    ) -> None:
        """Check the names of operations and groups that an operation names."""
        for entry in entries:
            for key, known in (("notify", operations), ("mcgrp", groups)):
                if key in entry and entry[key] not in known:
                    raise self.fail(
                        f"operations.{entry['name']}",
                        f"{key!r} names {entry[key]!r}, which is not there{hint(str(entry[key]), known)}",
                    )

    def operation(
        self, entry: dict[str, Any], name: str, number: int, sets: Mapping[str, AttributeSet], where: str
    ) -> Operation:
        set_name = self.text(entry, "attribute-set", where)
        if set_name not in sets:
            raise self.fail(where, f"the set {set_name!r} is named and not there{hint(set_name, sets)}")
        used = sets[set_name]
        do = self.table(entry.get("do", {}), f"{where}.do", "exchange")
        dump = self.table(entry.get("dump", {}), f"{where}.dump", "exchange")
        flags = entry.get("flags", [])
        if not isinstance(flags, list):
            raise self.fail(where, "'flags' is not a list")
        for flag in flags:
            if flag not in _FLAGS:
                raise self.fail(where, f"the flag {flag!r} is unknown{hint(str(flag), _FLAGS)}")
        for part in ("request", "reply"):
            self.form(dump.get(part), used, f"{where}.dump.{part}")
        return Operation(
            name=name,
            value=number,
            attribute_set=set_name,
            request=self.form(do.get("request"), used, f"{where}.do.request"),
            reply=self.form(do.get("reply"), used, f"{where}.do.reply"),
            event=self.form(entry.get("event"), used, f"{where}.event"),
            admin="admin-perm" in flags,
            doc=str(entry.get("doc", "")).strip(),
        )

    def form(self, tree: object, used: AttributeSet, where: str) -> frozenset[str] | None:
        if tree is None:
            return None
        names = self.table(tree, where, "message").get("attributes", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.fail(where, "'attributes' is not a list of names")
        for name in names:
            if name not in used.attributes:
                raise self.fail(where, f"{name!r} is not in the set {used.name!r}{hint(name, used.attributes)}")
        return frozenset(names)
