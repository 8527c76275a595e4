"""Files that a configuration names, and their state when they were read: by it doctor sees which have changed since."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hsframework.configuration.settings import Configuration

_FILES = ("certificate", "private-key", "file", "bundle", "crl")
"""Keys of tables of credentials that name files."""


@dataclass(frozen=True, slots=True)
class Stamp:
    """State of a file.  ``modified``: time of its last change in nanoseconds; of a folder, the latest of its files.

    ``size``: in bytes; of a folder, the number of its files.  Both are -1 for what is not there.
    """

    modified: int
    size: int


def named_files(configuration: Configuration) -> Iterator[Path]:
    """Yield the files and folders of credentials that a configuration names, and its own file."""
    if configuration.file is not None:
        yield configuration.file
    for identity in configuration.identities.values():
        yield from (identity.certificate, identity.private_key)
    for psk in configuration.psks.values():
        yield psk.file
    for trust in configuration.trust.values():
        yield from (*trust.bundle, *trust.crl)


def key_of_file(configuration: Configuration, table: str, message: str) -> str:
    """Return the key of a table by which the file is named that a message is about; the table where it names none.

    ``table``: for example ``identities.web``.
    """
    kind, _, name = table.partition(".")
    settings = getattr(configuration, kind).get(name)
    found = {f"{table}.{key}": getattr(settings, key.replace("-", "_"), None) for key in _FILES}
    for key in ("bundle", "crl"):
        paths = found.pop(f"{table}.{key}") or ()
        found |= {f"{table}.{key}[{index}]": path for index, path in enumerate(paths)}
    named = {key: str(path) for key, path in found.items() if path is not None and str(path) in message}
    return min(named, key=lambda key: (message.index(named[key]), -len(named[key])), default=table)


def stamps(configuration: Configuration) -> Mapping[str, Stamp]:
    """Return the present state of each file that a configuration names, by path."""
    return {str(path): stamp(path) for path in named_files(configuration)}


def stamp(path: Path) -> Stamp:
    """Return the present state of a file or a folder."""
    try:
        status = path.stat()
        if not path.is_dir():
            return Stamp(status.st_mtime_ns, status.st_size)
        found = [entry.stat() for entry in os.scandir(path) if entry.is_file()]
    except OSError:
        return Stamp(-1, -1)
    return Stamp(max((status.st_mtime_ns, *(each.st_mtime_ns for each in found))), len(found))
