"""pyroute2 message classes from a netlink spec: for messages to and from the kernel, and as an oracle in tests.

pyroute2 is several times slower than the compiled codec of :mod:`hsframework.netlink.messages`, so the service's own
messages do not use it (docs/design/codec.md).

The names in ``attrs`` are those of the spec, for example ``"peer-identity"``.  pyroute2's decoder is lenient: it names
an unknown attribute ``UNKNOWN``, and a text that is not UTF-8 stays bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from hsframework.errors import MessageError
from hsframework.interface import Secret
from hsframework.netlink.pyroute2_codec import NLA_F_NESTED, genlmsg, nla, nlmsg
from hsframework.netlink.spec import INTEGER_TYPES, Attribute, AttributeSet, Specification

_TYPES = {
    "u8": "uint8",
    "s8": "int8",
    "u16": "uint16",
    "s16": "int16",
    "u32": "uint32",
    "s32": "int32",
    "u64": "uint64",
    "s64": "int64",
    "string": "asciiz",
    "binary": "cdata",
    "flag": "flag",
}


@cache
def message_class(specification: Specification, set_name: str) -> type[Any]:
    """Return a subclass of ``genlmsg`` (generic netlink) or ``nlmsg`` (a raw family) with the attributes of the set."""
    base = genlmsg if specification.protocol == "genetlink" else nlmsg
    return _class(base, specification, specification.sets[set_name])


def message(specification: Specification, operation: str, values: Mapping[str, Any]) -> Any:
    """Make a message of ``operation``, not encoded yet; the socket fills in type, sequence number and port.

    ``values``: in the form of :mod:`hsframework.netlink.attributes`.  Raises MessageError for an unknown attribute.
    """
    described = specification.operations[operation]
    result = message_class(specification, described.attribute_set)()
    if specification.protocol == "genetlink":
        result["cmd"] = described.value
        result["version"] = 1
    else:
        result["header"]["type"] = described.value
    result["attrs"] = _cells(specification, specification.sets[described.attribute_set], values)
    return result


def values(
    specification: Specification, set_name: str, decoded: Any, *, pass_over_unknown: bool = False
) -> dict[str, Any]:
    """Return the attributes of a decoded message in the form of :mod:`hsframework.netlink.attributes`.

    Raises MessageError for an integer that is cut off, and for an unknown attribute unless ``pass_over_unknown``.
    """
    used = specification.sets[set_name]
    result: dict[str, Any] = {}
    for cell in decoded["attrs"] if used.attributes else ():
        name, value = cell[0], cell[1]
        attribute = used.attributes.get(name)
        if attribute is None:
            if pass_over_unknown:
                continue
            raise MessageError(f"{specification.name}.{set_name}: unknown attribute")
        if attribute.nested is not None:
            value = values(specification, attribute.nested, value, pass_over_unknown=pass_over_unknown)
        elif attribute.type in INTEGER_TYPES and not isinstance(value, int):
            raise MessageError(f"{specification.name}.{set_name}.{name}: cut off")
        elif attribute.type == "string" and isinstance(value, bytes):
            value = value.rstrip(b"\0").decode(errors="surrogateescape")
        elif attribute.sensitive:
            value = Secret(value)
        if attribute.multi:
            result.setdefault(name, []).append(value)
        else:
            result[name] = value
    return result


def _class(base: type[Any], specification: Specification, used: AttributeSet) -> type[Any]:
    table = []
    body: dict[str, Any] = {}
    for attribute in used.attributes.values():
        if attribute.nested is not None:
            kind = "nest_" + attribute.nested.replace("-", "_")
            body[kind] = _class(nla, specification, specification.sets[attribute.nested])
            table.append((attribute.value, attribute.name, kind, NLA_F_NESTED))
        else:
            table.append((attribute.value, attribute.name, _TYPES[attribute.type], 0))
    return type(used.name.replace("-", "_"), (base,), {"nla_map": tuple(table), **body})


def _cells(specification: Specification, used: AttributeSet, values: Mapping[str, Any]) -> list[tuple[str, Any]]:
    cells: list[tuple[str, Any]] = []
    for name, value in values.items():
        if value is None or value is False:
            continue
        attribute = used.attributes.get(name)
        if attribute is None:
            raise MessageError(f"{specification.name}.{used.name}: there is no attribute {name!r}")
        for item in value if attribute.multi else (value,):
            cells.append((name, _cell(specification, attribute, item)))
    return cells


def _cell(specification: Specification, attribute: Attribute, value: Any) -> Any:
    if attribute.nested is not None:
        return {"attrs": _cells(specification, specification.sets[attribute.nested], value)}
    return value.reveal() if isinstance(value, Secret) else value
