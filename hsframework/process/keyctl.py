"""Calls of keyctl(2) on the kernel's keys, as the dispatcher and the agents need them.

A serial is a positive number.  Every call raises OSError with the kernel's errno, whose text names
the call.  libc has no wrappers for these, and
their numbers differ between machines.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import struct
import weakref
from dataclasses import dataclass
from functools import cache

SPEC_PROCESS_KEYRING = -2

_GET_KEYRING_ID, _JOIN_SESSION_KEYRING, _DESCRIBE, _LINK, _UNLINK, _READ = 0, 1, 6, 8, 9, 11
# (add_key, keyctl)
_NUMBERS = {
    "x86_64": (248, 250),
    "aarch64": (217, 219),
    "riscv64": (217, 219),
    "loongarch64": (217, 219),
    "s390x": (278, 280),
    "ppc64le": (269, 271),
}
_CALLS = ("keyctl", "add_key")
_FIRST_SIZE = 4096
_GONE = frozenset("RDNi")
"""Flags in /proc/keys: revoked, dead, negative, invalidated."""


@dataclass(frozen=True, slots=True)
class KeyDescription:
    """Answer of KEYCTL_DESCRIBE.  ``description`` may contain semicolons."""

    type: str
    uid: int
    gid: int
    permissions: int
    description: str


def process_keyring() -> int:
    """Return the calling process's keyring, and make it if there is none, which running threads do not see."""
    return _keyctl(_GET_KEYRING_ID, SPEC_PROCESS_KEYRING, 1)


def join_session_keyring() -> int:
    """Replace the session keyring by a new one of this process alone, and return it."""
    return _call(_numbers()[1], ctypes.c_int(_JOIN_SESSION_KEYRING), None)


def describe(serial: int) -> KeyDescription:
    """Return a key's type, owner, permissions and name.  ENOKEY: there is none, or it may not be seen."""
    kind, uid, gid, permissions, description = _fetch(_DESCRIBE, serial).rstrip(b"\0").split(b";", 4)
    text = description.decode("utf-8", "surrogateescape")
    return KeyDescription(kind.decode("ascii", "replace"), int(uid), int(gid), int(permissions, 16), text)


def read(serial: int) -> bytes:
    """Return a key's payload.  EACCES: it is not possessed and not readable."""
    return _fetch(_READ, serial)


def members(keyring: int) -> tuple[int, ...]:
    """Return the serials in a keyring."""
    data = read(keyring)
    return struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4])


def add(kind: str, description: str, payload: bytes, keyring: int) -> int:
    """Add a key to a keyring, and return its serial."""
    arguments = (kind.encode(), description.encode(), payload, ctypes.c_size_t(len(payload)), ctypes.c_int(keyring))
    return _call(_numbers()[0], *arguments)


def link(key: int, keyring: int) -> None:
    """Put a key into a keyring."""
    _keyctl(_LINK, key, keyring)


def unlink(key: int, keyring: int) -> None:
    """Take a key out of a keyring."""
    _keyctl(_UNLINK, key, keyring)


class KeyTable:
    """Table of the keys in /proc/keys, which is opened once: later reads open nothing."""

    def __init__(self) -> None:
        self._fd: int | None = None
        with contextlib.suppress(OSError):
            self._fd = os.open("/proc/keys", os.O_RDONLY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._fd)

    def find_keyrings(self, name: str) -> list[int]:
        """Return the serials of root's keyrings, and of this user's, with this description, that are not revoked.

        There may be several: a module that is loaded anew makes another one, and who has linked the first keeps it.
        """
        owners = {"0", str(os.geteuid())}
        found = []
        for line in self._text().splitlines():
            fields = line.split(None, 8)
            if len(fields) < 9 or fields[7] != "keyring" or fields[5] not in owners:
                continue
            if fields[8].rpartition(":")[0] == name and _GONE.isdisjoint(fields[1]):
                found.append(int(fields[0], 16))
        return found

    def _text(self) -> str:
        data = b""
        if self._fd is not None:
            with contextlib.suppress(OSError):
                os.lseek(self._fd, 0, os.SEEK_SET)
                while piece := os.read(self._fd, 1 << 16):
                    data += piece
        return data.decode("utf-8", "surrogateescape")


def _fetch(operation: int, serial: int) -> bytes:
    size = _FIRST_SIZE
    while True:
        buffer = ctypes.create_string_buffer(size)
        length = _call(_numbers()[1], ctypes.c_int(operation), ctypes.c_int(serial), buffer, ctypes.c_size_t(size))
        if length <= size:
            data = buffer.raw[:length]
            ctypes.memset(buffer, 0, size)
            return data
        size = length


def _keyctl(operation: int, *arguments: int) -> int:
    return _call(_numbers()[1], ctypes.c_int(operation), *(ctypes.c_long(item) for item in arguments))


def _call(number: int, *arguments: object) -> int:
    result: int = _libc().syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{_CALLS[number == _numbers()[0]]}: {os.strerror(code)}")
    return result


def _numbers() -> tuple[int, int]:
    machine = os.uname().machine
    if machine not in _NUMBERS:
        raise OSError(errno.ENOSYS, f"keyctl's system call numbers are not known for {machine}")
    return _NUMBERS[machine]


@cache
def _libc() -> ctypes.CDLL:
    library = ctypes.CDLL(None, use_errno=True)
    library.syscall.restype = ctypes.c_long
    return library
