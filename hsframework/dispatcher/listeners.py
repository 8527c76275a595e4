"""Listening sockets of the dispatcher: made in the runtime directory, or handed over by the service manager.

* ``consumer.sock``: any user may connect; policy decides what each may ask for.  Mode 0666.
* ``agent.sock``: any user may connect; policy decides which groups each may join.  Mode 0666.

Both are AF_UNIX SOCK_SEQPACKET.  Those that were passed have the names ``consumer`` and ``agent``, whether a socket
unit passes them (sd_listen_fds(3)) or the keeper of a predecessor's descriptors (:mod:`hsframework.process.kept`).
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Mapping
from pathlib import Path

from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.local.places import AGENT_SOCKET, CONSUMER_SOCKET
from hsframework.local.trusted import check_path
from hsframework.process.kept import AGENT, CONSUMER, Kept, is_known

NAMES = {CONSUMER: CONSUMER_SOCKET, AGENT: AGENT_SOCKET}
"""The socket's file by the listener's name."""

BACKLOG = 512


def open_listeners(runtime_dir: Path, passed: Kept | None = None) -> dict[str, socket.socket]:
    """Return both listeners by name; those that were not passed are made, and kept for a successor.

    Raises ConfigurationError.
    """
    listeners: dict[str, socket.socket] = {}
    kept = passed or Kept()
    unknown = sorted(name for name in kept.names() if not is_known(name))
    if unknown:
        raise ConfigurationError(
            f"sockets were passed with the names {', '.join(unknown)}: name each socket unit's FileDescriptorName "
            "'consumer' or 'agent'"
        )
    try:
        for name, file in NAMES.items():
            fd = kept.take(name)
            if fd is not None:
                listeners[name] = adopt(fd, name)
            else:
                listeners[name] = _listen(runtime_dir, file)
                kept.put(name, listeners[name].fileno())
    except BaseException:
        for listener in listeners.values():
            listener.close()
        raise
    return listeners


def adopt(fd: int, name: str) -> socket.socket:
    """Return the listener of a descriptor that was passed.  Raises ConfigurationError if it is none."""
    try:
        listener = socket.socket(fileno=fd)
    except OSError as error:
        raise ConfigurationError(f"the socket passed as {name!r} (fd {fd}) is unusable: {error.strerror}") from None
    if listener.family != socket.AF_UNIX or listener.type != socket.SOCK_SEQPACKET:
        raise ConfigurationError(f"the socket passed as {name!r} must be a ListenSequentialPacket= unix socket")
    os.set_inheritable(fd, False)
    return listener


def _listen(runtime_dir: Path, name: str) -> socket.socket:
    path = runtime_dir / name
    try:
        runtime_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        _check_owner(runtime_dir)
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(BACKLOG)
    except OSError as error:
        raise ConfigurationError(
            f"{path}: cannot listen: {error.strerror or error}; choose another folder with --runtime-dir"
        ) from None
    return listener


def _check_owner(runtime_dir: Path) -> None:
    status = runtime_dir.stat()
    if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o022:
        raise ConfigurationError(
            f"{runtime_dir}: must belong to root or to this user and be writable by its owner alone"
        )
    try:
        check_path(runtime_dir, frozenset({0, os.geteuid()}))
    except HsframeworkError as error:
        raise ConfigurationError(f"{error}; or choose another folder with --runtime-dir") from None


def _remove_stale(path: Path) -> None:
    """Remove the file of a socket without a listener.  Raises ConfigurationError if it has one."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # somebody listens who is too busy to accept
    raise ConfigurationError(f"{path}: another dispatcher listens here; stop it or choose another --runtime-dir")


def close_listeners(listeners: Mapping[str, socket.socket]) -> None:
    """Close our copies.  The paths stay: they may be the service manager's."""
    for listener in listeners.values():
        listener.close()
