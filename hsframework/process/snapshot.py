"""Snapshots: what a process has loaded, in a sealed memfd that outlives it (:mod:`hsframework.process.kept`).

A process that takes the place of one that died goes on with what that one had where a file has become unusable
meanwhile.

* A snapshot comes back from the process that has kept it, which is root's, and is sealed: nobody has written to it
  since.
* Only types of the packages in :data:`TRUSTED` are made from it all the same.
* The process that keeps it pins it (:func:`pin`): where memory is locked, a snapshot in a swap that is away would keep
  the successor from serving, and so the swap from coming back.
"""

from __future__ import annotations

import enum
import fcntl
import io
import mmap
import os
import pickle
from typing import Any

from hsframework.interface import Secret

TRUSTED = frozenset({"hsframework", "pathlib", "builtins", "collections", "datetime"})
"""Top-level packages of the types in a snapshot."""
_BUILTINS = frozenset({"set", "frozenset", "bytearray"})

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def freeze(name: str, value: Any) -> int:
    """Return a sealed memfd with the value, which is the caller's.  Raises OSError, and TypeError for what cannot be
    kept."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(value)
    fd = os.memfd_create(f"hsframework-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = buffer.getbuffer()
        while view:
            view = view[os.write(fd, view) :]
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def pin(fd: int) -> mmap.mmap | None:
    """Map a snapshot: its pages stay in memory as long as the map is open, if this process locks its memory.

    A child that is forked closes it.  None: the descriptor is no snapshot, or cannot be mapped.
    """
    try:
        found = mmap.mmap(fd, 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
    except (OSError, ValueError):
        return None
    found.madvise(mmap.MADV_DONTDUMP)
    for place in range(0, len(found), mmap.PAGESIZE):
        found[place]  # a locked map is locked page by page, as it is read
    return found


def thaw(fd: int) -> Any:
    """Return the value of a snapshot, and close it.  Raises ValueError for what is none."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            raise ValueError("a snapshot is not sealed")
        data = os.pread(fd, os.fstat(fd).st_size, 0)
        return _Unpickler(io.BytesIO(data)).load()
    except (OSError, pickle.UnpicklingError, EOFError, AttributeError, ImportError, TypeError) as error:
        raise ValueError(f"a snapshot cannot be read: {error}") from None
    finally:
        os.close(fd)


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: object) -> Any:
        # By its value in every Python: some make it an attribute of its class, which is looked up by getattr.
        return (type(value), (value.value,)) if isinstance(value, enum.Enum) else NotImplemented

    def persistent_id(self, value: object) -> bytes | None:
        # A Secret refuses to be pickled; here it goes where the process had it: into memory of root's.
        return value.reveal() if isinstance(value, Secret) else None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, value: Any) -> Secret:
        return Secret(value)

    def find_class(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        if package not in TRUSTED or (package == "builtins" and name not in _BUILTINS):
            raise pickle.UnpicklingError(f"a snapshot has no {module}.{name}")
        return super().find_class(module, name)
