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

from hsframework.credentials.regular import read_regular
from hsframework.errors import ConfigurationError

MAX_SECRET_FILE = 1 << 20
"""Bytes."""
MAX_PUBLIC_FILE = 1 << 26
"""Bytes."""

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----(.*?)-----END \1-----", re.DOTALL)
_BOUNDARY = re.compile(rb"--+ ?(?:BEGIN|END)\b[^\r\n]{0,64}", re.IGNORECASE)
"""A line that begins or ends a block, or was meant to."""
_PEM_HEADER = re.compile(rb"^[ \t]*[A-Za-z-]+:.*$", re.MULTILINE)
KEY_LABELS = frozenset({"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"})
"""Labels of private keys."""
_UTF_8_MARK = b"\xef\xbb\xbf"
_UTF_16_MARKS = (b"\xff\xfe", b"\xfe\xff")


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
    def check(status: os.stat_result) -> None:
        if secret:
            _check_private(path, status, groups)

    try:
        return read_regular(path, limit, check)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be opened: {error.strerror}") from None


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
    """Yield the PEM blocks in ``data`` in order, without the text around them (RFC 7468).

    A byte-order mark, indentation, and blocks that follow each other without a newline make no difference.  ``name``:
    for messages.  Raises ``ConfigurationError`` for a damaged block and for a line that only looks like the begin or
    end of one, with its line number.
    """
    if data.startswith(_UTF_16_MARKS):
        raise ConfigurationError(f"{name} is in UTF-16: save it as plain ASCII text")
    data = data.removeprefix(_UTF_8_MARK)
    end = 0
    for match in _PEM.finditer(data):
        _refuse_boundary(data, name, end, match.start())
        end = match.end()
        yield _block(match, f"{name}, line {_line(data, match.start())}")
    _refuse_boundary(data, name, end, len(data))


def _block(match: re.Match[bytes], where: str) -> PemBlock:
    label, body = match.group(1).decode("ascii"), match.group(2)
    if _BOUNDARY.search(body):
        raise ConfigurationError(f"{where}: the {label} block has no matching END line: copy the file again")
    encrypted = "ENCRYPTED" in label or b"Proc-Type: 4,ENCRYPTED" in body
    try:
        der = base64.b64decode(b"".join(_PEM_HEADER.sub(b"", body).split()), validate=True)
    except binascii.Error:
        raise ConfigurationError(f"{where}: the {label} block is not base64: copy the file again") from None
    return PemBlock(label, der, where, encrypted)


def _refuse_boundary(data: bytes, name: str, start: int, end: int) -> None:
    """Raise ``ConfigurationError`` if the text between two blocks has the begin or the end of another."""
    found = _BOUNDARY.search(data, start, end)
    if found is not None:
        shown = ascii(found.group().decode("latin-1"))
        raise ConfigurationError(
            f"{name}, line {_line(data, found.start())}: {shown} has no matching END line or BEGIN line: "
            "copy the file again"
        )


def _line(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1
