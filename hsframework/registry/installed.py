"""Entry points of the installed plugins, by their metadata alone: nothing is imported.

Of the distributions on the path most are strangers', and one of them may be broken: an empty ``.dist-info`` that an
interrupted installation left, an ``entry_points.txt`` that is not one.  Each is read by itself: what cannot be read is
named, and the others are not affected.
"""

from __future__ import annotations

import configparser
import dataclasses
import functools
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib import metadata

from hsframework.errors import ConfigurationError

ENTRY_POINT_GROUP = "hsframework"
"""Entry point group in which distributions name their plugins."""


@dataclass(frozen=True, slots=True)
class Found:
    """An entry point of ours, and the distribution that names it.

    ``rivals``: the other distributions that name a plugin so.
    """

    entry_point: metadata.EntryPoint
    metadata: metadata.Distribution
    distribution: str
    version: str
    rivals: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the plugin's name."""
        return self.entry_point.name


@dataclass(frozen=True, slots=True)
class Broken:
    """A distribution whose metadata cannot be used.  ``where``: its folder."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class Installed:
    """Findings: ``plugins`` in the order of their names, and those of one name by precedence."""

    plugins: tuple[Found, ...]
    broken: tuple[Broken, ...]


def installed() -> Installed:
    """Return what is on the path, by one look for each process: what is installed later counts at the next start."""
    return _look(tuple(sys.path))


@functools.cache
def _look(_path: tuple[str, ...]) -> Installed:
    broken: list[Broken] = []
    found: dict[str, list[Found]] = {}
    seen: set[str] = set()
    for distribution in metadata.distributions():
        try:
            name, version = _identity(distribution)
            key = re.sub(r"[-_.]+", "-", name).lower()
            entries = () if key in seen else tuple(_entries(distribution))
        except Exception as error:
            broken.append(Broken(_where(distribution), f"{type(error).__name__}: {error}"))
            continue
        if entries:
            # A first one without entry points of ours, left over from another version, hides nothing.
            seen.add(key)
        for entry in entries:
            found.setdefault(entry.name, []).append(Found(entry, distribution, name, version))
    return Installed(tuple(each for name in sorted(found) for each in _ranked(found[name])), tuple(broken))


def plugin_names() -> list[str]:
    """Return the installed plugins' names."""
    return sorted({each.name for each in installed().plugins})


def check_required(names: Iterable[str]) -> None:
    """Raise ConfigurationError for a required plugin that is not installed.  Agents report one that is broken."""
    missing = [name for name in names if name not in plugin_names()]
    if missing:
        raise ConfigurationError(
            f"required-plugins: no plugin {missing[0]!r} is installed; install it, or take it out of the list"
        )


def _identity(distribution: metadata.Distribution) -> tuple[str, str]:
    """Return name and version.  Raises ValueError if the metadata has none."""
    texts = (distribution.read_text(name) for name in ("METADATA", "PKG-INFO", ""))
    # Without the description, which most of a file is, and most of the time that parsing it takes.
    head, _, _ = next(filter(None, texts), "").partition("\n\n")
    information = HeaderParser().parsestr(head)
    if "Name" not in information or "Version" not in information:
        raise ValueError("it has no metadata with Name and Version")
    return information["Name"], information["Version"]


def _entries(distribution: metadata.Distribution) -> Iterator[metadata.EntryPoint]:
    """Yield the entry points of our group.  Raises what its file deserves."""
    text = distribution.read_text("entry_points.txt")
    if not text:
        return
    parser = configparser.ConfigParser(delimiters="=", interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    if not parser.has_section(ENTRY_POINT_GROUP):
        return
    for name, value in parser.items(ENTRY_POINT_GROUP):
        entry = metadata.EntryPoint(name, value, ENTRY_POINT_GROUP)
        if entry.pattern.match(value) is None:
            raise ValueError(f"entry_points.txt: {name} = {value!r:.80} names no object")
        yield entry


def _ranked(claims: list[Found]) -> Iterator[Found]:
    """Yield those that claim one name: the distribution that bears it first, then by the distributions' names."""
    own = f"hsframework-{claims[0].name}"
    for claim in sorted(claims, key=lambda each: (each.distribution != own, each.distribution)):
        rivals = tuple(f"{each.distribution} {each.version}" for each in claims if each is not claim)
        yield dataclasses.replace(claim, rivals=rivals)


def _where(distribution: metadata.Distribution) -> str:
    return str(getattr(distribution, "_path", None) or "a distribution without a folder")
