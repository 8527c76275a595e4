"""``--attribute NAME=VALUE``: what a protocol's own specification lets a request say (attribute set ``request``)."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from hsframework.errors import ConfigurationError
from hsframework.netlink.spec import INTEGER_TYPES, Attribute


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--attribute",
        metavar="NAME=VALUE",
        action="append",
        help="what the protocol itself can be told, for example device=kernel for psp; may be repeated",
    )


def attributes(arguments: argparse.Namespace) -> dict[str, Any]:
    """By name, of the types that the specification gives them.  Raises ConfigurationError."""
    if not arguments.attribute:
        return {}
    known = _known(arguments.protocol)
    found: dict[str, Any] = {}
    for text in arguments.attribute:
        name, equals, value = text.partition("=")
        if not equals or name in found:
            raise ConfigurationError(f"--attribute {text}: each is NAME=VALUE, and no name comes twice")
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ConfigurationError(f"--attribute {text}: {arguments.protocol!r} does not know it; it knows: {names}")
        found[name] = _value(known[name], text, value)
    return found


def _known(protocol: str) -> Mapping[str, Attribute]:
    """Those that can be said on a command line."""
    from hsframework.client.session import installed_plugins

    for entry in installed_plugins().protocols.values():
        specification = entry.protocol.specification
        if protocol in entry.protocol.groups and specification is not None and "request" in specification.sets:
            listed = specification.sets["request"].attributes
            return {name: item for name, item in listed.items() if item.type == "string" or item.type in INTEGER_TYPES}
    return {}


def _value(attribute: Attribute, text: str, value: str) -> Any:
    if attribute.type == "string":
        return value
    try:
        return int(value, 0)
    except ValueError:
        raise ConfigurationError(f"--attribute {text}: the value is a whole number") from None
