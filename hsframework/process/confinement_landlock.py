"""Files that a process allows itself: a ruleset of Landlock (Linux 5.13), for this process and its children, for good.

What is open stays open.  Everything that the running kernel knows is handled, and nothing granted but reading in the
named folders: no file is made, written, cut off or executed elsewhere.  From Linux 6.7 on no TCP port is bound or
connected to, and from 6.12 on no signal goes to a process outside, and no abstract unix socket of one is reached.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterable

from hsframework.process.capabilities import libc

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_PATH_BENEATH = 1

EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FILES_BY_VERSION = (13, 14, 15, 15, 16)
"""Number of the rights on files, by version from 1 on; that of the last holds for later ones."""
_READ = READ_FILE | READ_DIR | EXECUTE
_TCP = 0b11
"""Bind and connect, from version 4 on."""
_SCOPES = 0b11
"""Abstract unix sockets and signals, from version 6 on."""


_NONE = "the kernel has no Landlock, or its parameter lsm= leaves it out"
_DENIED = (
    "nobody may ask for Landlock here; allow the system calls landlock_create_ruleset, landlock_add_rule and "
    "landlock_restrict_self (SystemCallFilter= of the unit, or the container's profile)"
)


def version() -> int:
    """Return the version of Landlock that this kernel has; 0: it has none, or does not use it.

    Raises OSError if the question is refused, as by a filter of system calls.
    """
    found: int = libc().syscall(ctypes.c_long(_CREATE), None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if found >= 0:
        return found
    number = ctypes.get_errno()
    if number in (errno.ENOSYS, errno.EOPNOTSUPP):
        return 0
    raise OSError(number, os.strerror(number))


def missing() -> str | None:
    """Return the reason for which files cannot be restricted, or None."""
    try:
        return None if version() else _NONE
    except OSError:
        return _DENIED


class Ruleset:
    """A ruleset that allows reading below these paths alone; making it opens files, using it does not.

    ``tcp``: ports may be bound and connected to.
    """

    def __init__(self, readable: Iterable[str], *, tcp: bool = False) -> None:
        self._problem = missing()
        self._fd = -1
        if self._problem is not None:
            return
        known = version()
        files = (1 << _FILES_BY_VERSION[min(known, len(_FILES_BY_VERSION)) - 1]) - 1
        parts = [files, 0 if tcp else _TCP, _SCOPES][: 1 if known < 4 else 2 if known < 6 else 3]
        attributes = struct.pack(f"={len(parts)}Q", *parts)
        self._fd = libc().syscall(
            ctypes.c_long(_CREATE), attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0)
        )
        if self._fd < 0:
            self._problem = f"Landlock: {os.strerror(ctypes.get_errno())}"
            return
        os.set_inheritable(self._fd, False)
        for path in readable:
            _allow(self._fd, path)

    def restrict(self) -> str | None:
        """Restrict this process, and close.  Return the reason why it is not restricted, or None."""
        if self._fd < 0:
            return self._problem
        failed = libc().syscall(ctypes.c_long(_RESTRICT), ctypes.c_int(self._fd), ctypes.c_uint32(0))
        problem = f"Landlock: {os.strerror(ctypes.get_errno())}" if failed else None
        os.close(self._fd)
        self._fd = -1
        return problem


def _allow(ruleset: int, path: str) -> None:
    """Add a path; one that is not there is passed over."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = _READ if os.path.isdir(path) else READ_FILE
        rule = struct.pack("=Qi", rights, fd)
        libc().syscall(
            ctypes.c_long(_ADD), ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0)
        )
    finally:
        os.close(fd)
