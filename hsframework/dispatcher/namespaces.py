"""Network namespaces, and sockets that are opened in them: a socket belongs to its namespace for good.

Entering one takes CAP_SYS_ADMIN, and concerns the calling thread alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
from collections.abc import Iterable, Iterator

from hsframework.errors import ConfigurationError, RequestRefused
from hsframework.netlink.socket import open_netlink

CLONE_NEWNET = 0x40000000
SIOCGSKNS = 0x894C
SO_NETNS_COOKIE = 71


@contextlib.contextmanager
def network_namespace(namespace: str) -> Iterator[None]:
    """Move the calling thread into a namespace for the length of the block: a name of ``ip netns``, or a path.

    Raises ConfigurationError.
    """
    path = path_of(namespace)
    try:
        target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"network namespace {namespace!r}: {path}: {error.strerror}") from None
    try:
        with _within(target, namespace):
            yield
    finally:
        os.close(target)


def netlink_beside(fd: int, family: int, served: Iterable[str] | None = None) -> socket.socket:
    """Open a netlink socket in the network namespace of the socket ``fd``: ours, or one of those in ``served``.

    ``served`` is None: any, for a question of our own; an agent gets a socket in a served namespace only.  Another
    namespace than ours takes CAP_NET_ADMIN and CAP_SYS_ADMIN.  Raises RequestRefused, ConfigurationError, NetlinkError.
    """
    if _is_ours(fd):
        return open_netlink(family)
    try:
        target = fcntl.ioctl(fd, SIOCGSKNS)
    except OSError as error:
        raise RequestRefused(f"the namespace of the socket is not told ({error.strerror})", errno=errno.EPERM) from None
    try:
        status, own = os.fstat(target), os.stat("/proc/thread-self/ns/net")
        if (status.st_dev, status.st_ino) == (own.st_dev, own.st_ino):
            return open_netlink(family)
        if served is not None and (status.st_dev, status.st_ino) not in map(which, served):
            raise RequestRefused(
                "the socket is in a network namespace that the dispatcher does not serve: name it with --netns",
                errno=errno.EPERM,
            )
        with _within(target, "of a request's socket"):
            return open_netlink(family)
    except OSError as error:
        number = error.errno or errno.EIO
        raise RequestRefused(
            f"the socket's network namespace is out of reach ({error.strerror})", errno=number
        ) from None
    finally:
        os.close(target)


def _is_ours(fd: int) -> bool:
    """True if the socket is in our namespace, by the cookies (Linux 5.14), which take no right to read."""
    try:
        with socket.socket(fileno=os.dup(fd)) as theirs, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            one, other = (sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8) for sock in (theirs, own))
    except OSError:
        return False
    return one == other


@contextlib.contextmanager
def _within(target: int, name: str) -> Iterator[None]:
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(target, name)
        try:
            yield
        finally:
            _enter(before, "the one before")
    finally:
        os.close(before)


def path_of(namespace: str) -> str:
    """Return the path of a name of ``ip netns``; a path is returned as it is."""
    return namespace if "/" in namespace else f"/run/netns/{namespace}"


def which(namespace: str) -> tuple[int, int] | None:
    """Return device and inode of the namespace of this name, or None if there is none.

    They tell it from another namespace that gets the same name later.
    """
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
