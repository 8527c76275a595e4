"""The service manager of this process, spoken to as sd_notify(3) has it, and what it passes as sd_listen_fds(3) has it.

Rules:

* The environment's variables are taken out when they are read: a child must not speak for this process.
* The socket is connected once, so that later messages look nothing up in the file system.
* Without a service manager every call does nothing, and a message that cannot be sent is lost: none is worth a wait.
* A descriptor that is kept is a copy of the manager's; it lives on when this process ends, and comes back by its name
  to the process that is started in its place.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Mapping, MutableMapping, Sequence

import structlog

from hsframework.errors import ConfigurationError

FIRST_PASSED_FD = 3
_log = structlog.get_logger("hsframework.process")


class ServiceManager:
    """Connection to the service manager; where there is none, it does nothing."""

    def __init__(self, environment: MutableMapping[str, str]) -> None:
        path = environment.pop("NOTIFY_SOCKET", "")
        self.watchdog = _watchdog(environment)
        """Seconds in which a sign of life is due; None: none is wanted."""
        self._socket: socket.socket | None = None
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            try:
                self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
            except OSError as error:
                _log.warning("the service manager cannot be reached", path=path, reason=error.strerror)
                self.close()

    @property
    def there(self) -> bool:
        """True if a service manager has started this process and takes messages."""
        return self._socket is not None

    def tell(self, *states: str, fds: Sequence[int] = ()) -> None:
        """Send states, for example ``READY=1``; ``fds``: descriptors to keep."""
        if self._socket is None:
            return
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg(["\n".join(states).encode()], ancillary, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError as error:
            _log.warning("the service manager takes no message", states=states, reason=error.strerror)

    def tell_reloading(self) -> None:
        """Send that a reload has begun, as sd_notify(3) has it; READY=1 ends it."""
        self.tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def put(self, name: str, fd: int) -> None:
        """Have a copy of a descriptor kept under a name; without FDPOLL the manager drops one that reports an error."""
        self.tell("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=(fd,))

    def remove(self, name: str) -> None:
        """Have the descriptors of a name closed."""
        self.tell("FDSTOREREMOVE=1", f"FDNAME={name}")

    def leave(self) -> None:
        """Close the connection in a forked child, which must not speak for its parent."""
        self.close()
        self.watchdog = None

    def close(self) -> None:
        """Close the connection; every later call does nothing."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _watchdog(environment: MutableMapping[str, str]) -> float | None:
    """Return the seconds of sd_watchdog_enabled(3), or None."""
    microseconds, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
    if not microseconds.isdecimal() or pid not in ("", str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None


def passed_descriptors(environment: MutableMapping[str, str]) -> Mapping[str, int]:
    """Return the descriptors that the service manager passed to this process, by name.

    Of several with one name the last is returned, and the others are closed.  Descriptors for another process are left
    alone: a wrapper that starts this one without exec(2), say, which is logged.  Raises ConfigurationError if the
    variables do not fit together.
    """
    pid, number, names = (environment.pop(key, "") for key in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if not number.isdecimal() or not int(number):
        return {}
    if pid != str(os.getpid()):
        _log.warning(
            "sockets that were passed are not used: LISTEN_PID names another process",
            listen_pid=pid,
            process=os.getpid(),
            advice="start hsframework by exec in a wrapper, or leave LISTEN_PID out of its environment",
        )
        return {}
    labels = names.split(":") if names else []
    if len(labels) != int(number):
        raise ConfigurationError(
            f"LISTEN_FDNAMES={names!r} has {len(labels)} names, and LISTEN_FDS={number}: name each socket unit's "
            "FileDescriptorName"
        )
    found: dict[str, int] = {}
    for index, label in enumerate(labels):
        fd = FIRST_PASSED_FD + index
        with contextlib.suppress(OSError):
            os.set_inheritable(fd, False)
        if label in found:
            os.close(found[label])
        found[label] = fd
    return found
