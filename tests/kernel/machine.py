"""For tests in the test kernel: programs of its Debian root, keys, children with less than root's rights."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import traceback
from collections.abc import Callable
from pathlib import Path

DEBIAN = Path("/run/debian")
NOBODY = 65534
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
KEY_SPEC_PROCESS_KEYRING, KEY_SPEC_USER_KEYRING = -2, -4
KEYCTL_SETPERM, KEYCTL_DESCRIBE, KEYCTL_UNLINK, KEYCTL_READ = 5, 6, 9, 11
_ADD_KEY, _KEYCTL = 248, 250
_libc = ctypes.CDLL(None, use_errno=True)


def debian(*command: str, check: bool = True, timeout: float = 60) -> str:
    """Run a program of the Debian root; what it said.  Raises CalledProcessError, whose text has what it said."""
    done = subprocess.run(
        ["chroot", str(DEBIAN), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=timeout,
    )
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


def load(*modules: str) -> None:
    """Load modules with modprobe."""
    debian("modprobe", "--all", *modules)


def loaded() -> set[str]:
    """Return the names of the kernel's modules, with underscores."""
    return {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}


def _system_call(number: int, *arguments: int | bytes | None) -> int:
    passed = [ctypes.c_long(value) if isinstance(value, int) else value for value in arguments]
    result = int(_libc.syscall(number, *passed))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def add_key(kind: str, description: str, payload: bytes, keyring: int = KEY_SPEC_PROCESS_KEYRING) -> int:
    """Add a key and return its serial."""
    return _system_call(_ADD_KEY, kind.encode(), description.encode(), payload, len(payload), keyring)


def read_key(serial: int) -> bytes:
    """Return the key's payload."""
    buffer = ctypes.create_string_buffer(1 << 16)
    size = _system_call(_KEYCTL, KEYCTL_READ, serial, ctypes.addressof(buffer), len(buffer))
    return buffer.raw[:size]


def describe_key(serial: int) -> list[str]:
    """Return the key's type, uid, gid, permissions and description."""
    buffer = ctypes.create_string_buffer(4096)
    size = _system_call(_KEYCTL, KEYCTL_DESCRIBE, serial, ctypes.addressof(buffer), len(buffer))
    return buffer.raw[: size - 1].decode().split(";", 4)


def open_key(serial: int) -> None:
    """Allow everybody everything with the key."""
    _system_call(_KEYCTL, KEYCTL_SETPERM, serial, 0x3F3F3F3F)


def unlink_key(serial: int, keyring: int = KEY_SPEC_PROCESS_KEYRING) -> None:
    """Take a key out of a keyring."""
    _system_call(_KEYCTL, KEYCTL_UNLINK, serial, keyring)


def in_a_child(action: Callable[[], None], uid: int = 0) -> None:
    """Do ``action`` in a forked process, as that user.  What it raises fails the test, with its traceback."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            if uid:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            action()
            code = 0
        except BaseException:
            os.write(writing, traceback.format_exc().encode()[-4000:])
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, f"in the child:\n{said}"


def unshare(flags: int) -> None:
    """Take namespaces of one's own: unshare(2).  Raises OSError."""
    if _libc.unshare(flags):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def members(keyring: int) -> list[int]:
    """Return the serials in a keyring."""
    buffer = ctypes.create_string_buffer(1 << 16)
    size = _system_call(_KEYCTL, KEYCTL_READ, keyring, ctypes.addressof(buffer), len(buffer))
    return [serial for (serial,) in struct.iter_unpack("=i", buffer.raw[:size])]


def nvme_keyring() -> int:
    """Return the serial of ``.nvme``, linked where we may read it."""
    lines = (line.split(None, 8) for line in Path("/proc/keys").read_text().splitlines())
    serial = next(int(fields[0], 16) for fields in lines if fields[7] == "keyring" and fields[8].startswith(".nvme:"))
    _system_call(_KEYCTL, 8, serial, KEY_SPEC_PROCESS_KEYRING)
    return serial
