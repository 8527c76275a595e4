"""Checks of who answers at a local socket, for those who hand over sockets and keys there.

Trusted are root, the own user, and a dispatcher's user that is named.  Both are checked: that nobody else can have made
the path, and that nobody else listens, since a descriptor may have been passed on.

Rules of a path, as its folders are walked through from ``/``:

* Each folder, symbolic link and socket on it belongs to a trusted user.
* Each folder is writable by its owner alone, or has the sticky bit: nobody else can replace what a trusted user has
  made in it.
* A symbolic link is followed by the same rules.

So what was found cannot change between the check and the connection, but by a trusted user.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
import struct
from functools import cache
from pathlib import Path

from hsframework.errors import ConfigurationError, HsframeworkError

VARIABLE = "HSFRAMEWORK_DISPATCHER_USER"
"""Environment variable that names the user of a dispatcher that neither root nor the own user runs."""

_UCRED = struct.Struct("=iII")
_MOST_LINKS = 40
"""Symbolic links on one path, as in Linux."""


def trusted_users(named: str | int | None = None) -> frozenset[int]:
    """Return the users whose dispatcher may be handed sockets and keys: root, the own user, and a named one.

    ``named``: name or number; None: the environment's, if it names one.  Raises ConfigurationError for a user that does
    not exist.
    """
    user = os.environ.get(VARIABLE) or None if named is None else named
    return frozenset({0, os.geteuid()} if user is None else {0, os.geteuid(), _number(user)})


def check_path(path: Path, trusted: frozenset[int]) -> None:
    """Check that only trusted users can have made a socket's path, as far as it exists.

    Raises HsframeworkError (EPERM) that names the folder and the user.
    """
    place = Path("/")
    parts = list(reversed(path.absolute().parts[1:]))
    _check(place, os.lstat(place), trusted, path)
    links = 0
    while parts:
        part = parts.pop()
        if part == "..":
            place = place.parent
            continue
        entry = place / part
        try:
            status = os.lstat(entry)
        except OSError:
            return  # connecting fails too, and says why
        _check(entry, status, trusted, path)
        if not stat.S_ISLNK(status.st_mode):
            place = entry
            continue
        links += 1
        if links > _MOST_LINKS:
            return
        target = Path(os.readlink(entry))
        if target.is_absolute():
            place = Path("/")
        parts += [each for each in reversed(target.parts) if each != "/"]


def check_listener(sock: socket.socket, path: Path, trusted: frozenset[int]) -> None:
    """Check the user that listens, by SO_PEERCRED of a connected socket.  Raises HsframeworkError (EPERM)."""
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    if uid not in trusted:
        raise _refused(f"{path}: user {uid} listens there (process {pid})", uid)


def _check(entry: Path, status: os.stat_result, trusted: frozenset[int], path: Path) -> None:
    if status.st_uid not in trusted:
        raise _refused(f"{path}: {entry} belongs to user {status.st_uid}", status.st_uid)
    mode = status.st_mode
    if stat.S_ISDIR(mode) and mode & 0o022 and not mode & stat.S_ISVTX:
        raise HsframeworkError(
            f"{path}: other users may write into {entry} and put a socket of theirs there; chmod go-w it, or use "
            "another runtime directory",
            errno=errno.EPERM,
        )


def _refused(fact: str, uid: int) -> HsframeworkError:
    return HsframeworkError(
        f"{fact}, who is neither root nor user {os.geteuid()} and might answer in the dispatcher's place; if it is the "
        f"dispatcher's user, set {VARIABLE}={uid}",
        errno=errno.EPERM,
    )


@cache
def _number(user: str | int) -> int:
    if isinstance(user, int) or user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ConfigurationError(f"{VARIABLE}: there is no user {user!r}; name the dispatcher's") from None
