"""A configuration as text: TOML that could be read again, or JSON; defaults included, secrets not."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from hsframework.cli.options.installed import try_plugins
from hsframework.configuration.settings import NO_KEY, Configuration
from hsframework.configuration.toml import settings_from_table
from hsframework.errors import ConfigurationError
from hsframework.interface import Secret

NOT_SHOWN = "(not shown)"
_SECRET = re.compile(r"(pass(word|phrase)?|secret|token|credential|psk|key|pin)s?$", re.IGNORECASE)
"""Keys of plugins' settings whose values are not shown: the configuration itself names files, and has no secrets."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def as_json(settings: Configuration) -> str:
    """Return the configuration as a JSON object; keys are those of the file."""
    return json.dumps(_plain(settings), indent=2, default=str) + "\n"


def as_toml(settings: Configuration) -> str:
    """Return the configuration as TOML; keys that are not set stand in comments, and defaults are marked."""
    lines = list(_table(_values(settings), _default_values(settings), ()))
    return "\n".join(lines).strip() + "\n"


def _plain(value: Any, key: str = "") -> Any:
    if dataclasses.is_dataclass(value):
        return {name: _plain(item, name) for name, item in _values(value).items()}
    if isinstance(value, Mapping):
        return {name: _plain(item, name) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _values(settings: Any) -> dict[str, Any]:
    """Return the values of a dataclass by key; the plugins' with the defaults of their types."""
    found = {
        item.name.replace("_", "-"): getattr(settings, item.name)
        for item in dataclasses.fields(settings)
        if item.init and item.metadata != NO_KEY
    }
    if isinstance(settings, Configuration):
        protocols = try_plugins(settings.blocked_plugins).protocols
        types = {name: entry.protocol.settings_type for name, entry in protocols.items()}
        found["plugins"] = {
            name: _of_plugin(name, settings, types.get(name)) for name in _plugin_names(settings, types)
        }
    return found


def _plugin_names(settings: Configuration, protocols: Iterable[str]) -> list[str]:
    return sorted({*settings.plugins, *protocols})


def _of_plugin(name: str, settings: Configuration, kind: type[Any] | None) -> dict[str, Any]:
    table = settings.plugins.get(name, {})
    values = dict(table)
    if kind is not None:
        with contextlib.suppress(ConfigurationError):  # `config check` reports it
            values = _values(settings_from_table(kind, table, f"plugins.{name}", base=settings.folder))
    return {key: _without_secrets(key, value) for key, value in values.items()}


def _without_secrets(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_secrets(name, item) for name, item in value.items()}
    if isinstance(value, Secret) or (isinstance(value, (str, bytes)) and _SECRET.search(key)):
        return NOT_SHOWN
    return value


def _default_values(settings: Any) -> dict[str, Any]:
    """Return the defaults of a dataclass by key, where it has some."""
    found = {}
    for item in dataclasses.fields(settings):
        if item.default is not dataclasses.MISSING:
            found[item.name.replace("_", "-")] = item.default
        elif item.default_factory is not dataclasses.MISSING:
            found[item.name.replace("_", "-")] = item.default_factory()
    return found


def _table(values: Mapping[str, Any], defaults: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a table: its own keys first, then the tables within it."""
    for key, value in values.items():
        if not _is_table(value):
            mark = "  # default" if key in defaults and defaults[key] == value else ""
            yield f"# {_key(key)} is not set" if value is None else f"{_key(key)} = {_scalar(value)}{mark}"
    for key, value in values.items():
        if _is_table(value):
            yield from _inner(value, (*path, key))


def _inner(value: Any, path: tuple[str, ...]) -> Iterator[str]:
    name = ".".join(map(_key, path))
    if isinstance(value, tuple):
        for item in value:
            yield from ("", f"[[{name}]]", *_table(_values(item), _default_values(item), path))
    elif dataclasses.is_dataclass(value):
        yield from ("", f"[{name}]", *_table(_values(value), _default_values(value), path))
    elif value and all(_is_table(item) for item in value.values()):
        for key, item in value.items():
            yield from _inner(item, (*path, key))
    elif value:
        yield from ("", f"[{name}]", *_table(value, {}, path))


def _is_table(value: Any) -> bool:
    if isinstance(value, tuple):
        return bool(value) and dataclasses.is_dataclass(value[0])
    return isinstance(value, Mapping) or dataclasses.is_dataclass(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_scalar, value))}]"
    # A JSON text is a basic string of TOML, but for DEL.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
