"""Reader of tlshd's session tags (``/etc/tlshd/tags.d``, tls-session-tags(7) of ktls-utils).

Each file ``*.yml`` or ``*.yaml`` has filters, by name, and tags, each with a list of filters.  Unlike with tlshd, a
filter may stand in another file than the tag that names it, whatever their order, and one file that is wrong is an
error of the whole configuration, with file and line, instead of a missing tag.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from hsframework.credentials.regular import read_regular
from hsframework.credentials.tags import KEY_USAGES, KINDS, Filter, SessionTags, Tag
from hsframework.errors import ConfigurationError

MOST_WILDCARDS = 16
MOST_BYTES = 1 << 18
"""Of a file: YAML takes seconds for each megabyte, and the reader is watched."""
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,255}")
_TIME = "%Y-%m-%d %H:%M:%S"
_NOT = "not "
_NOT_YET = "x509.extension.extendedKeyUsage"
_WITHOUT_PATTERN = frozenset({"x509.extension.keyUsage", "x509.derived.selfSigned"})


@dataclass(frozen=True, slots=True)
class _Text:
    """A text of a file.  ``where``: ``FILE:LINE``."""

    text: str
    where: str


def load_session_tags(folder: Path) -> SessionTags | None:
    """Read the files of a folder; None if there is no such folder.  Raises ConfigurationError, with file and line."""
    if not folder.is_dir():
        return None
    filters: dict[str, Filter] = {}
    tags: dict[str, tuple[_Text, list[_Text]]] = {}
    for path in sorted(each for each in folder.iterdir() if each.suffix in (".yml", ".yaml")):
        for section, name, value in _entries(path):
            if not _NAME.fullmatch(name.text):
                raise ConfigurationError(f"{name.where}: a name has 1 to 255 of the characters a-z, A-Z, 0-9, _ and -")
            if name.text in (filters if section == "filters" else tags):
                raise ConfigurationError(f"{name.where}: {section}: {name.text!r} is there already; rename one")
            if section == "filters":
                filters[name.text] = _filter(path, name, value)
            else:
                tags[name.text] = name, _list(path, _only(path, name, value, "filter")["filter"])
    return SessionTags(tuple(_tag(name, listed, filters) for name, listed in tags.values()))


def _tag(name: _Text, listed: list[_Text], filters: dict[str, Filter]) -> Tag:
    wanted: list[Filter] = []
    unwanted: list[Filter] = []
    for each in listed:
        plain = each.text.removeprefix(_NOT)
        if plain not in filters:
            raise ConfigurationError(f"{each.where}: tags: {name.text}: there is no filter {plain!r}")
        (unwanted if each.text.startswith(_NOT) else wanted).append(filters[plain])
    return Tag(name.text, tuple(wanted), tuple(unwanted))


def _filter(path: Path, name: _Text, value: yaml.Node) -> Filter:
    found = _only(path, name, value, "type", "pattern", "purpose")
    where = f"{name.where}: filters: {name.text}"
    kind = _scalar(path, found["type"]).text if "type" in found else ""
    if kind not in KINDS:
        detail = "tlshd has none of this type yet" if kind == _NOT_YET else f"write one of {', '.join(KINDS)}"
        raise ConfigurationError(f"{where}: type {kind!r}: {detail}")
    if kind == "x509.extension.keyUsage":
        usages = _list(path, found["purpose"]) if "purpose" in found else []
        for usage in usages:
            if usage.text not in KEY_USAGES:
                raise ConfigurationError(f"{usage.where}: {usage.text!r} is none of {', '.join(KEY_USAGES)}")
        if not usages:
            raise ConfigurationError(f"{where}: purpose: a list of key usages is wanted")
        return Filter(kind, usages=frozenset(usage.text for usage in usages))
    if kind in _WITHOUT_PATTERN:
        return Filter(kind)
    pattern = _scalar(path, found["pattern"]).text if "pattern" in found else ""
    if not pattern:
        raise ConfigurationError(f"{where}: pattern: a text is wanted")
    if kind.startswith("x509.tbs.validity."):
        return Filter(kind, moment=_moment(pattern, where))
    if pattern.count("*") + pattern.count("?") > MOST_WILDCARDS:
        raise ConfigurationError(f"{where}: pattern: more than {MOST_WILDCARDS} wildcards")
    return Filter(kind, pattern)


def _moment(text: str, where: str) -> float:
    try:
        return time.mktime(time.strptime(text, _TIME))
    except (ValueError, OverflowError):
        raise ConfigurationError(f"{where}: pattern: write a local time as 2026-01-31 00:00:00") from None


def _entries(path: Path) -> Iterator[tuple[str, _Text, yaml.Node]]:
    """Yield the entries of a file: ``filters`` or ``tags``, name, value."""
    try:
        documents = list(yaml.compose_all(read_regular(path, MOST_BYTES), Loader=yaml.SafeLoader))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeError, RecursionError) as error:
        mark: Any = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise ConfigurationError(
            f"{path}{line}: it is not YAML: {getattr(error, 'problem', None) or 'damaged'}"
        ) from None
    for document in documents:
        for section, value in _mapping(path, document):
            if section.text not in ("filters", "tags"):
                raise ConfigurationError(f"{section.where}: {section.text!r} is neither 'filters' nor 'tags'")
            yield from ((section.text, name, entry) for name, entry in _mapping(path, value))


def _only(path: Path, name: _Text, value: yaml.Node, *known: str) -> dict[str, yaml.Node]:
    """Return the members of an entry, of which the first must be there."""
    found = {}
    for key, member in _mapping(path, value):
        if key.text not in known:
            raise ConfigurationError(f"{key.where}: {name.text}: {key.text!r} is none of {', '.join(known)}")
        found[key.text] = member
    if known[0] not in found:
        raise ConfigurationError(f"{name.where}: {name.text}: there is no {known[0]!r}")
    return found


def _mapping(path: Path, node: yaml.Node) -> Iterator[tuple[_Text, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise ConfigurationError(f"{_where(path, node)}: names with values are wanted")
    return ((_scalar(path, key), value) for key, value in node.value)


def _list(path: Path, node: yaml.Node) -> list[_Text]:
    if not isinstance(node, yaml.SequenceNode):
        raise ConfigurationError(f"{_where(path, node)}: a list is wanted")
    return [_scalar(path, each) for each in node.value]


def _scalar(path: Path, node: yaml.Node) -> _Text:
    if not isinstance(node, yaml.ScalarNode):
        raise ConfigurationError(f"{_where(path, node)}: a text is wanted")
    return _Text(str(node.value), _where(path, node))


def _where(path: Path, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"
