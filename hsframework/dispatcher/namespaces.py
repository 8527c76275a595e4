"""Network namespaces: sockets that are opened within the block belong to the namespace for good.

Entering one takes CAP_SYS_ADMIN, and concerns the calling thread alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

from hsframework.errors import ConfigurationError

CLONE_NEWNET = 0x40000000


@contextlib.contextmanager
def network_namespace(namespace: str) -> Iterator[None]:
    """Within the block the calling thread is in ``namespace``: a name of ``ip netns``, or a path.

    Raises ConfigurationError.
    """
    path = path_of(namespace)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigurationError(f"network namespace {namespace!r}: {path}: {error.strerror}") from None
        try:
            _enter(target, namespace)
        finally:
            os.close(target)
        try:
            yield
        finally:
            _enter(before, "the one before")
    finally:
        os.close(before)


def path_of(namespace: str) -> str:
    """Where a name of ``ip netns`` is; a path stays one."""
    return namespace if "/" in namespace else f"/run/netns/{namespace}"


def which(namespace: str) -> tuple[int, int] | None:
    """What tells the namespace of this name from another that gets the name later; None: there is none."""
    try:
        status = os.stat(path_of(namespace))
    except OSError:
        return None
    # Between its making and its mounting a name of `ip netns` is an empty file, with no rights at all.
    return (status.st_dev, status.st_ino) if status.st_mode & 0o400 else None


def _enter(fd: int, name: str) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise ConfigurationError(f"network namespace {name!r}: {os.strerror(code)}; it takes root and CAP_SYS_ADMIN")
