"""The option ``--attribute NAME=VALUE``: a protocol's own request attributes, typed by its specification.

Text is taken as it is, a number is decimal (or hexadecimal with 0x), binary is hexadecimal or the content of a file
(``@FILE``), a flag has no value.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hsframework.errors import ConfigurationError
from hsframework.interface import Secret
from hsframework.netlink.spec import INTEGER_TYPES, Attribute


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--attribute``."""
    parser.add_argument(
        "--attribute",
        metavar="NAME[=VALUE]",
        action="append",
        help="an attribute of the protocol's own; binary in hexadecimal, or @FILE; may be repeated",
    )


def attributes(arguments: argparse.Namespace) -> Mapping[str, Any]:
    """Return the attributes that the command line names, by name.  Raises ConfigurationError."""
    words: Iterable[str] = arguments.attribute or ()
    known = _known(arguments.protocol) if words else {}
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        attribute = known.get(name)
        if attribute is None:
            choice = f"{', '.join(known)}; take one of these" if known else "none; leave it out"
            raise _wrong(name, f"{arguments.protocol} knows {choice}")
        value = _value(attribute, text if equals else None)
        if attribute.multi:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise _wrong(name, "give it once")
        else:
            values[name] = value
    return values


def _known(group: str) -> Mapping[str, Attribute]:
    from hsframework.client.session import installed_plugins

    for entry in installed_plugins().protocols.values():
        specification = entry.protocol.specification
        if group in entry.protocol.groups:
            described = specification is not None and "request" in specification.sets
            return specification.sets["request"].attributes if specification is not None and described else {}
    raise ConfigurationError(f"--attribute: no plugin that is installed here serves {group!r}, so none is known")


def _value(attribute: Attribute, text: str | None) -> Any:
    if attribute.type == "flag":
        if text is not None:
            raise _wrong(attribute.name, "it is a flag: give it without a value, or leave it out")
        return True
    if text is None:
        raise _wrong(attribute.name, f"give a value: {attribute.name}=...")
    if attribute.type == "string":
        return text
    if attribute.type in INTEGER_TYPES:
        return _number(attribute.name, text)
    if attribute.type == "binary":
        data = _binary(attribute, text)
        return Secret(data) if attribute.sensitive else data
    raise _wrong(attribute.name, f"one of type {attribute.type} cannot be given on the command line")


def _number(name: str, text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        raise _wrong(name, f"{text!r} is not a whole number") from None


def _binary(attribute: Attribute, text: str) -> bytes:
    if text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise _wrong(attribute.name, f"cannot read {text[1:]}: {error.strerror}") from None
    if attribute.sensitive:
        print(
            f"hsframework: warning: every user of this machine can see {attribute.name} in the process list; use @FILE",
            file=sys.stderr,
        )
    try:
        return bytes.fromhex(text)
    except ValueError:
        shown = "the value" if attribute.sensitive else f"{text!r:.40}"
        raise _wrong(attribute.name, f"{shown} is not hexadecimal; bytes of a file are @FILE") from None


def _wrong(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"--attribute {name}: {problem}")
