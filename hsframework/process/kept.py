"""Descriptors that outlive a process: a copy of each is kept by another one, and comes back to its successor.

::

    dispatcher ── put, remove ──▶ keeper of copies: the service manager, or the supervisor of `hsframework run`
         ▲                            │
         └───── passed, by name ──────┘  when it is started anew

Rules:

* A descriptor that was passed belongs to :class:`Kept` until it is taken; what nobody has taken is closed, here and
  where it is kept, by :meth:`Kept.drop_rest`.
* Under a name there is one descriptor: a new one replaces the old.
* A process that ends keeps what it has: :meth:`Kept.freeze` comes before it closes its own copies.
* The supervisor's copies: messages in the form of sd_notify(3), over a socket pair that only the dispatcher inherits.
"""

from __future__ import annotations

import array
import contextlib
import os
import socket
from collections.abc import Mapping
from typing import NewType, Protocol

import structlog

from hsframework.process.snapshot import freeze, pin

KeptName = NewType("KeptName", str)
"""Name under which a descriptor is kept.  All are made here, so that a successor knows each that it is passed."""
CONSUMER, AGENT = KeptName("consumer"), KeptName("agent")
"""Names of the listeners; socket units have them too."""
CONFIGURATION = KeptName("configuration")
"""Name of the snapshot of the configuration."""
VAULT = KeptName("vault")
"""Name of the snapshot of the credentials."""
SESSIONS = KeptName("sessions")
"""Name of the snapshot of the sessions that were made."""
_MEMBER = "kernel"
"""Beginning of the names of sources that are members of the kernel's groups."""
_FIXED = (CONSUMER, AGENT, CONFIGURATION, VAULT, SESSIONS)
_MOST_TEXT = 4096
_log = structlog.get_logger("hsframework.process")


def member_name(source: str) -> KeptName:
    """Return the name of a source's socket that has joined groups: without a colon, which such names must not have."""
    return KeptName(source.replace(":", "@"))


def is_known(name: str) -> bool:
    """Return True for a name under which a predecessor may have kept something."""
    return name in _FIXED or name.startswith(_MEMBER)


class Copies(Protocol):
    """The process that keeps copies."""

    def put(self, name: str, fd: int) -> None:
        """Keep a copy of a descriptor."""

    def remove(self, name: str) -> None:
        """Close the copies of a name."""


class Kept:
    """Descriptors of this process of which another has copies.

    ``passed``: those of its predecessor, by name.  ``copies``: None: nothing is kept.
    """

    def __init__(self, passed: Mapping[str, int] | None = None, copies: Copies | None = None) -> None:
        self._passed = dict(passed or {})
        self._copies = copies
        self._taken: dict[str, int] = {}
        """Inodes of the descriptors that were taken: copies of them are kept already."""
        self.again = bool(self._passed)
        """True if this process has a predecessor, which left descriptors."""

    def names(self) -> frozenset[str]:
        """Return the names of the descriptors that were passed and not taken yet."""
        return frozenset(self._passed)

    def take(self, name: str) -> int | None:
        """Return a descriptor that was passed, which is the caller's from then on; None: there is none."""
        fd = self._passed.pop(name, None)
        if fd is not None:
            self._taken[name] = os.fstat(fd).st_ino
        return fd

    def take_all(self) -> dict[str, int]:
        """Return all that was passed and not taken yet, which is the caller's from then on."""
        passed, self._passed = self._passed, {}
        return passed

    def put(self, name: KeptName, fd: int) -> None:
        """Have a copy kept, in place of one with this name.  The descriptor stays the caller's."""
        if self._copies is not None and self._taken.pop(name, None) != os.fstat(fd).st_ino:
            self._copies.remove(name)
            self._copies.put(name, fd)

    def put_snapshot(self, name: KeptName, value: object) -> None:
        """Have a snapshot of a value kept.  Where there is no room for it, that is logged, and nothing is kept."""
        try:
            fd = freeze(name, value)
        except OSError as error:
            _log.warning("nothing is kept for the case of a crash", name=name, reason=error.strerror)
            self.remove(name)
            return
        self.put(name, fd)
        os.close(fd)

    def remove(self, name: str) -> None:
        """Have the copy closed, because it is not needed any longer."""
        self._taken.pop(name, None)
        if self._copies is not None:
            self._copies.remove(name)

    def drop_rest(self) -> None:
        """Close what was passed and nobody has taken, and the copies of it."""
        for name in list(self._passed):
            os.close(self._passed.pop(name))
            self.remove(name)

    def freeze(self) -> None:
        """Change nothing in what is kept from now on: this process ends."""
        self._copies = None


class SupervisorCopies:
    """The dispatcher's way to the supervisor's copies."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock

    def put(self, name: str, fd: int) -> None:
        self._send(f"FDSTORE=1\nFDNAME={name}", [fd])

    def remove(self, name: str) -> None:
        self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", [])

    def _send(self, text: str, fds: list[int]) -> None:
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._socket.sendmsg([text.encode()], ancillary, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
        except OSError as error:
            _log.error("the supervisor takes no descriptor", state=text, reason=error.strerror)


class Shelf:
    """The supervisor's copies.  ``further``: a keeper of copies of the supervisor's own, which gets all of them too.

    ``passed``: descriptors of an earlier supervisor, by name.
    """

    def __init__(self, passed: Mapping[str, int] | None = None, further: Copies | None = None) -> None:
        self._fds = dict(passed or {})
        self._pinned = {name: pin(fd) for name, fd in self._fds.items()}
        self._further = further
        self._ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)

    def fileno(self) -> int:
        """Return the fd that is readable when the dispatcher has sent something."""
        return self._ours.fileno()

    def receive(self) -> None:
        """Do all that the dispatcher has asked for."""
        with contextlib.suppress(BlockingIOError):
            while True:
                data, fds, _, _ = socket.recv_fds(self._ours, _MOST_TEXT, 1, socket.MSG_CMSG_CLOEXEC)
                self._act(dict(line.partition("=")[::2] for line in data.decode(errors="replace").split("\n")), fds)

    def kept(self) -> Kept:
        """Return the descriptors for a dispatcher that was just forked; this process's own copies become the
        child's."""
        self._ours.close()
        self._unpin()
        return Kept(self._fds, SupervisorCopies(self._theirs))

    def close(self) -> None:
        """Close every copy, in the supervisor at its end, or in a child that has no use for them."""
        self._unpin()
        for fd in self._fds.values():
            os.close(fd)
        self._fds.clear()
        self._ours.close()
        self._theirs.close()

    def put(self, name: str, fd: int) -> None:
        """Keep a descriptor of this process's own, which is the shelf's from then on."""
        self._act({"FDNAME": name}, [fd])

    def copy(self, name: str) -> int | None:
        """Return a duplicate of a descriptor, which is the caller's; None: there is none."""
        fd = self._fds.get(name)
        return None if fd is None else os.dup(fd)

    def _act(self, values: Mapping[str, str], fds: list[int]) -> None:
        name = values.get("FDNAME", "")
        old = self._fds.pop(name, None)
        if old is not None:
            os.close(old)
            self._unpin(name)
        if self._further is not None:
            self._further.remove(name)
        for fd in fds:
            self._fds[name] = fd
            self._pinned[name] = pin(fd)
            if self._further is not None:
                self._further.put(name, fd)

    def _unpin(self, *names: str) -> None:
        """Close the maps of these names; without one, all."""
        for name in names or list(self._pinned):
            pinned = self._pinned.pop(name)
            if pinned is not None:
                pinned.close()
