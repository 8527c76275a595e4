"""Files that a configuration names, and their state when they were read.

By the states of :func:`stamps` doctor sees which files have changed since; by those of :func:`prints` the service sees
when to read them again.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from hsframework.configuration.runtime_dir import DEFAULT_PATH
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
    """Yield the files and folders of credentials that a configuration names, and the files that it was made of."""
    if configuration.file is not None:
        yield configuration.file
    yield from configuration.further_files
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


Print = tuple[object, ...]
"""State of a file that no change leaves as it is, also one by which its date goes back; empty: it is not there."""


def prints(configuration: Configuration) -> Mapping[str, Print]:
    """Return the present print of each file that a configuration names, and of its default path if it has no file."""
    paths = {*named_files(configuration), *(() if configuration.file is not None else (DEFAULT_PATH,))}
    return {str(path): _print(path) for path in paths}


def _print(path: Path) -> Print:
    try:
        if not path.is_dir():
            return _of(path.stat())
        return tuple((entry.name, *_of(entry.stat())) for entry in sorted(os.scandir(path), key=lambda each: each.name))
    except OSError:
        return ()


def _of(status: os.stat_result) -> Print:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def is_being_written(path: Path) -> bool:
    """Return True if a process has a file open for writing, or one of a folder: it may not be whole.

    By a lease (fcntl(2), F_SETLEASE), which file systems of the network, and files of other users, do not have: False.
    For a process that ignores SIGIO, since a writer that opens the file at this moment breaks the lease.
    """
    try:
        paths = list(path.iterdir()) if path.is_dir() else [path]
        return any(map(_has_writer, paths))
    except OSError:
        return False


def _has_writer(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return error.errno == errno.EAGAIN
    else:
        return False
    finally:
        os.close(fd)
