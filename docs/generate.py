"""Generator of reference pages from the code: netlink specs, failures, configuration, command line.

``write_all`` is called when the documentation is built; the pages are not committed.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import os
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hsframework.cli.main import COMMANDS, build_parser
from hsframework.configuration.settings import NO_KEY, Configuration
from hsframework.errors import errno_name
from hsframework.failures import Failure
from hsframework.netlink.spec import Attribute, AttributeSet, Operation, Specification, builtin_specification
from hsframework.registry.plugins import load_plugins

SPECIFICATIONS = {
    "handshake": "The kernel's family",
    "handshake-raw": "The raw-netlink form",
    "handshake-raw-published": "The raw-netlink form as published",
    "local": "The local family",
}
"""Built-in specs that have a page, and its title."""


def write_all(folder: Path) -> None:
    """Write every page into ``folder``; unchanged pages are not written again, so that they are not built again."""
    pages = {
        f"netlink-{name}.md": specification_page(builtin_specification(name), f"{title}: `{name}`")
        for name, title in SPECIFICATIONS.items()
    }
    for name, specification in plugin_specifications().items():
        pages[f"netlink-plugin-{name}.md"] = specification_page(specification, f"The plugin's own: `{name}`")
    pages["failures.md"] = failures_table()
    pages["configuration.md"] = configuration_tables() + plugin_tables()
    pages["command-line.md"] = command_line()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Format a Markdown table; pipes in the cells are escaped, line ends become blanks."""
    lines = [list(head), ["---"] * len(list(head)), *map(list, rows)]
    cells = ((" ".join(cell.split()).replace("|", "\\|") for cell in line) for line in lines)
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


# Netlink specs


def plugin_specifications() -> dict[str, Specification]:
    """Return the specifications of the installed plugins, by protocol."""
    found = {name: entry.protocol.specification for name, entry in load_plugins().protocols.items()}
    return {name: specification for name, specification in found.items() if specification is not None}


def specification_page(specification: Specification, title: str) -> str:
    """Make the page of a spec: operations with their attributes in each form, attribute sets, enums, groups."""
    parts = [f"# {title}\n", specification.doc + "\n"]
    if specification.operations:
        parts += [_transport(specification), "## Operations\n"]
        parts += [_operation(operation) for operation in specification.operations.values()]
    parts.append("## Attribute sets\n")
    parts += [_attribute_set(used) for used in specification.sets.values() if used.attributes]
    if specification.enums:
        parts.append("## Enumerations\n")
        rows = ((f"`{name}`", _enum(values)) for name, values in specification.enums.items())
        parts.append(table(("name", "values"), rows))
    return "\n".join(parts)


def _transport(specification: Specification) -> str:
    kind = "Generic netlink" if specification.protocol == "genetlink" else "Raw netlink"
    number = f", family number {specification.protonum}" if specification.protonum else ""
    numbers = {group: f" ({number})" for group, number in specification.group_numbers.items()}
    groups = ", ".join(f"`{group}`{numbers.get(group, '')}" for group in specification.groups)
    return f"{kind}{number}. Multicast groups: {groups or 'none'}.\n"


def _operation(operation: Operation) -> str:
    admin = " Needs CAP_NET_ADMIN." if operation.admin else ""
    lines = [f"### {operation.name} ({operation.value})\n", f"{operation.doc}{admin}\n"]
    for form in ("request", "reply", "event"):
        names: frozenset[str] | None = getattr(operation, form)
        if names is not None:
            shown = ", ".join(f"`{name}`" for name in sorted(names)) or "no attributes"
            lines.append(f"{form}\n: {shown}\n")
    lines.append(f"Attribute set: `{operation.attribute_set}`.\n")
    return "\n".join(lines)


def _attribute_set(used: AttributeSet) -> str:
    rows = (
        (str(attribute.value), f"`{attribute.name}`", _type(attribute), attribute.doc)
        for attribute in used.attributes.values()
    )
    return f"### Set `{used.name}`\n\n" + table(("number", "name", "type", "meaning"), rows)


def _type(attribute: Attribute) -> str:
    text = f"nest of `{attribute.nested}`" if attribute.nested else attribute.type
    if attribute.enum:
        text += f" (`{attribute.enum}`)"
    if attribute.multi:
        text += ", may be repeated"
    return text + (", secret" if attribute.sensitive else "")


def _enum(values: Mapping[str, int]) -> str:
    return ", ".join(f"{number} `{name}`" for name, number in values.items())


# Failures


def failures_table() -> str:
    """Make the table of failures: meaning, alert to the peer, errno for the consumer, the side to blame."""
    rows = (
        (
            f"`{failure.name}`",
            failure.meaning,
            "none" if failure.alert is None else str(failure.alert),
            f"{errno_name(failure.errno)} ({failure.errno})",
            failure.blame.value,
        )
        for failure in Failure
    )
    return table(("failure", "meaning", "alert", "errno", "blame"), rows)


# Configuration


def configuration_tables() -> str:
    """Make the tables of all configuration keys, from the dataclasses that check them."""
    return "".join(_settings(Configuration, "", set()))


def plugin_tables() -> str:
    """Make the tables of the settings of the installed plugins."""
    found = {name: entry.protocol.settings_type for name, entry in sorted(load_plugins().protocols.items())}
    return "".join(_plugin_table(f"[plugins.{name}]", kind) for name, kind in found.items() if kind is not None)


def _plugin_table(where: str, kind: type[Any]) -> str:
    """Make the table of one plugin; the text about it names fields, which are keys to its readers."""
    text = "".join(_settings(kind, where, set()))
    for item in dataclasses.fields(kind):
        text = text.replace(f"`{item.name}`", f"`{item.name.replace('_', '-')}`")
    return text


def _settings(kind: type[Any], where: str, seen: set[str]) -> Iterable[str]:
    hints = typing.get_type_hints(kind)
    notes = _field_notes(kind)
    rows, below = [], []
    for item in (item for item in dataclasses.fields(kind) if item.metadata != NO_KEY):
        hint, key = hints[item.name], item.name.replace("_", "-")
        path = f"{where.strip('[]')}.{key}" if where else key
        inner = _table_of(hint)
        if inner is None and (kind, item.name) != (Configuration, "plugins"):
            rows.append((f"`{key}`", _hint(hint), _default(item), notes.get(item.name, "")))
        elif inner is not None:
            below.append((inner, _header(path, hint)))
    if where and where not in seen:
        seen.add(where)
        yield f"\n### `{where}`\n\n{_about(kind)}\n"
    if rows:
        yield "\n" + table(("key", "type", "default", "meaning"), rows)
    for inner, path in below:
        yield from _settings(inner, path, seen)


def _table_of(hint: Any) -> type[Any] | None:
    for candidate in (hint, *typing.get_args(hint)):
        if isinstance(candidate, type) and dataclasses.is_dataclass(candidate):
            return candidate
    return None


def _header(path: str, hint: Any) -> str:
    origin = typing.get_origin(hint)
    if origin is tuple:
        return f"[[{path}]]"
    if origin is not None and issubclass(origin, Mapping):
        return f"[{path}.NAME]"
    return f"[{path}]"


def _hint(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _hint(next(item for item in arguments if item is not type(None)))
    if origin is tuple:
        return f"list of {_hint(arguments[0])}s"
    if origin is not None and issubclass(origin, Mapping):
        return f"table of {_hint(arguments[1])}s"
    return {"str": "text", "int": "whole number", "float": "number", "bool": "true or false", "Path": "path"}.get(
        getattr(hint, "__name__", str(hint)), str(hint)
    )


def _default(item: dataclasses.Field[Any]) -> str:
    if item.default is dataclasses.MISSING:
        if item.default_factory is dataclasses.MISSING:
            return "must be given"
        return _about(item.default_factory).removeprefix("Return ").rstrip(".")
    match item.default:
        case None:
            return ""
        case bool():
            return f"`{str(item.default).lower()}`"
        case tuple():
            return f"`{list(item.default)}`"
        case str():
            return f'`"{item.default}"`'
    return f"`{item.default}`"


def _about(kind: object) -> str:
    return " ".join(inspect.cleandoc(getattr(kind, "__doc__", "") or "").replace("``", "`").split())


def _field_notes(kind: type[Any]) -> dict[str, str]:
    """Return the text below each field of a dataclass in its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
    assert isinstance(body, ast.ClassDef)
    notes: dict[str, str] = {}
    for field, following in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(following, ast.Expr)
            and isinstance(following.value, ast.Constant)
        ):
            notes[field.target.id] = str(following.value.value).replace("``", "`")
    return notes


# Command line


def command_line() -> str:
    """Make the page with ``--help`` of every command."""
    os.environ["COLUMNS"] = "100"
    parts = ["# Command line\n", _help(build_parser(()).format_help())]
    for command in COMMANDS:
        parser = build_parser((command,))
        for action in parser._subparsers._group_actions if parser._subparsers else ():
            assert isinstance(action.choices, dict)
            parts += [f"## hsframework {command}\n", _help(action.choices[command].format_help())]
    return "\n".join(parts)


def _help(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```\n"


if __name__ == "__main__":
    write_all(Path(__file__).parent / "reference" / "generated")
