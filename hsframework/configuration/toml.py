"""Loader of the TOML file, to the dataclasses of :mod:`hsframework.configuration.settings`.

Keys are written with dashes.  A key that is unknown, missing or of the wrong type is a
:class:`~hsframework.errors.ConfigurationError` that names the file, the table and what to change.
Relative paths are relative to the file's folder.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from hsframework.configuration.checks import suggestion
from hsframework.configuration.places import located, places_in
from hsframework.configuration.runtime_dir import DEFAULT_PATH, MOST_BYTES
from hsframework.configuration.settings import NO_KEY, Configuration
from hsframework.credentials.regular import read_regular
from hsframework.errors import ConfigurationError

T = TypeVar("T")
_AT_LINE = re.compile(r"\(at line (\d+)")


def load_configuration(path: Path | str | None = None) -> Configuration:
    """Read a configuration file; None: the file at the default path if it exists, else the defaults.

    Where the service manager passes its content as a credential of the file's name, that is read: so an agent's user
    need not be able to read the file.  Raises ConfigurationError, which names the file and the key.
    """
    if path is None:
        if not _is_there(DEFAULT_PATH):
            return Configuration()
        path = DEFAULT_PATH
    path = Path(path)
    try:
        return parse_configuration(read_regular(_source(path), MOST_BYTES).decode("utf-8").replace("\r\n", "\n"), path)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such file; name another with --config") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 at byte {error.start}; TOML is written in UTF-8") from None


def parse_configuration(text: str, path: Path) -> Configuration:
    """Return the configuration that a file's text has; ``path``: for messages, and its folder for relative paths.

    Raises ConfigurationError.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        at = _AT_LINE.search(str(error))
        place = f"{path}:{at[1] if at else text.count(chr(10)) + 1}"
        raise ConfigurationError(f"{place}: not TOML: {error}") from None
    places = places_in(text, path)
    try:
        configuration = settings_from_table(Configuration, tree, "", base=path.absolute().parent)
    except ConfigurationError as error:
        said = located(places, str(error))
        raise ConfigurationError(said if said != str(error) else f"{path}: {said}") from None
    return dataclasses.replace(configuration, folder=path.absolute().parent, file=path.absolute(), places=places)


def _is_there(path: Path) -> bool:
    """True if there is a file, or something that keeps us from looking, which reading it will name."""
    try:
        return _source(path).exists()
    except OSError:
        return True


def _source(path: Path) -> Path:
    """Return the credential of a configuration file, or the file itself where there is none."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    credential = Path(folder) / path.name if folder else path
    return credential if credential.exists() else path


def settings_from_table(cls: type[T], table: Mapping[str, Any], where: str, *, base: Path | None = None) -> T:
    """Make an instance of the dataclass ``cls`` from a TOML table.

    Fields may have the types str, int, float, bool, Path, tuples of these, ``X | None``, dataclasses, tuples of
    dataclasses, and mappings from names to these.  ``where``: name of the table, for messages.  ``base``: the folder to
    which paths are relative.  Raises ConfigurationError.
    """
    if not isinstance(table, Mapping):
        raise ConfigurationError(f"{where}: a table is wanted here")
    hints = typing.get_type_hints(cls)
    taken = (item for item in dataclasses.fields(cls) if item.init and item.metadata != NO_KEY)  # type: ignore[arg-type]
    fields = {item.name.replace("_", "-"): item for item in taken}
    values: dict[str, Any] = {}
    for key, value in table.items():
        item = fields.get(key)
        if item is None:
            raise ConfigurationError(f"{_join(where, key)}: unknown key{suggestion(key, fields)}")
        values[item.name] = _convert(hints[item.name], value, _join(where, key), base)
    for key, item in fields.items():
        required = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if required and item.name not in values:
            raise ConfigurationError(f"{_join(where, key)}: missing; add it")
    try:
        return cls(**values)
    except ConfigurationError as error:
        raise ConfigurationError(f"{where}: {error}" if where else str(error)) from None


def _convert(hint: Any, value: Any, where: str, base: Path | None) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        chosen = next(item for item in arguments if item is not type(None))
        return _convert(chosen, value, where, base)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigurationError(f"{where}: a list is wanted, in [ ]")
        return tuple(_convert(arguments[0], item, f"{where}[{index}]", base) for index, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigurationError(f"{where}: a table is wanted here")
        return {name: _convert(arguments[1], item, _join(where, name), base) for name, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return settings_from_table(typing.cast("type[Any]", hint), value, where, base=base)
    return _scalar(hint, value, where, base)


def _scalar(hint: Any, value: Any, where: str, base: Path | None) -> Any:
    if hint is Any:
        return value
    if hint is Path:
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"{where}: a path is wanted, in quotes")
        return (base or Path()) / Path(value).expanduser()
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        names = {str: "a text in quotes", int: "a whole number", float: "a number", bool: "true or false"}
        raise ConfigurationError(f"{where}: {names.get(hint, str(hint))} is wanted, not {type(value).__name__}")
    return value


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key
