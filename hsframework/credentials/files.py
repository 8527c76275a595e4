"""Credential files and the PEM blocks in them.

Files are read at start-up or reload, never in a handshake.  Every error is a ``ConfigurationError`` that names the
file, the line if there is one, and what to change; none shows the file's contents.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from hsframework.errors import ConfigurationError

MAX_SECRET_FILE = 1 << 20
"""Bytes."""
MAX_PUBLIC_FILE = 1 << 26
"""Bytes."""

_PEM = re.compile(rb"^-----BEGIN ([A-Z0-9 ]{1,40})-----[ \t]*\r?\n(.*?)^-----END \1-----", re.MULTILINE | re.DOTALL)
_PEM_BEGIN = re.compile(rb"^-----BEGIN ", re.MULTILINE)
_PEM_HEADER = re.compile(rb"^[A-Za-z-]+:.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, repr=False)
class PemBlock:
    """One block of a PEM file (RFC 7468)."""

    label: str
    """For example ``CERTIFICATE``."""
    der: bytes
    where: str
    """File and line, for messages."""
    encrypted: bool
    """True if its label or headers say that it is encrypted."""


def read_public(path: str | os.PathLike[str]) -> bytes:
    """Read a file of certificates or revocation lists, up to 64 MiB.  Raises ``ConfigurationError``."""
    return _read(Path(path), MAX_PUBLIC_FILE, secret=False)


def read_secret(path: str | os.PathLike[str], groups: Collection[int] = ()) -> bytes:
    """Read a file of keys, up to 1 MiB.  ``groups``: numbers of the groups that may read it beside its owner.

    Raises ``ConfigurationError``, also for a file that belongs neither to root nor to this user, or that other users
    may access.
    """
    return _read(Path(path), MAX_SECRET_FILE, secret=True, groups=groups)


def _read(path: Path, limit: int, *, secret: bool, groups: Collection[int] = ()) -> bytes:
    try:
        # Without O_NONBLOCK opening a FIFO would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path} is not a regular file: name a file in PEM or DER form")
        if status.st_size > limit:
            raise ConfigurationError(f"{path} has {status.st_size} bytes, more than the {limit} that are read")
        if secret:
            _check_private(path, status, groups)
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(limit)
    finally:
        os.close(descriptor)


def _check_private(path: Path, status: os.stat_result, groups: Collection[int]) -> None:
    if status.st_uid not in (0, os.geteuid()):
        raise ConfigurationError(
            f"{path} belongs to user {status.st_uid}, who can read and replace the key: run 'chown root {path}'"
        )
    if status.st_mode & (0o037 if status.st_gid in groups else 0o077):
        mode = stat.S_IMODE(status.st_mode)
        raise ConfigurationError(
            f"{path} has mode {mode:04o}, and others than its owner can get at the key: run 'chmod 600 {path}', or "
            f"name the group that may read it (mode 0640, group {status.st_gid}) in key-groups"
        )


def pem_blocks(data: bytes, name: str) -> Iterator[PemBlock]:
    """Yield the PEM blocks in ``data`` in order, without the text around them.

    ``name``: for messages.  Raises ``ConfigurationError`` for a damaged block.
    """
    found = 0
    line, scanned = 1, 0
    for match in _PEM.finditer(data):
        found += 1
        line += data.count(b"\n", scanned, match.start())
        scanned = match.start()
        where = f"{name}, line {line}"
        label, body = match.group(1).decode("ascii"), match.group(2)
        encrypted = b"ENCRYPTED" in match.group(1) or b"Proc-Type: 4,ENCRYPTED" in body
        try:
            der = base64.b64decode(b"".join(_PEM_HEADER.sub(b"", body).split()), validate=True)
        except binascii.Error:
            raise ConfigurationError(f"{where}: the {label} block is not base64: copy the file again") from None
        yield PemBlock(label, der, where, encrypted)
    if found != len(_PEM_BEGIN.findall(data)):
        raise ConfigurationError(f"{name}: a PEM block has no matching END line: copy the file again")
