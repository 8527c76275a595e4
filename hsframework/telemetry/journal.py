"""The journal as the reader of stderr: events with their fields, or lines with their priorities (sd-daemon(3)).

* An event goes to the journal's own socket, where each of its values is a field: ``journalctl HSFRAMEWORK_PEER=…``.
* The socket is connected once, at the start, and inherited: nothing is opened later, and no path has to be reachable.
* What the socket does not take at once goes to stderr as a line.  It imports little.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Mapping
from typing import Any

SOCKET = "/run/systemd/journal/socket"
PREFIX = "HSFRAMEWORK_"
"""Prefix of the fields' names: the event is ``HSFRAMEWORK_EVENT``."""
IDENTIFIER = "hsframework"

PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "exception": 3, "critical": 2}
"""Priorities of syslog(3) by level."""


def is_journal(fd: int, environment: Mapping[str, str]) -> bool:
    """True if a descriptor is the stream to the journal that the service manager has set up (JOURNAL_STREAM)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    status = os.fstat(fd)
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def with_priority(text: str, level: str) -> str:
    """Return a text with the priority of a level before each line: ``<6>...``."""
    priority = f"<{PRIORITIES.get(level, 6)}>"
    return "\n".join(priority + line for line in text.split("\n"))


class JournalSocket:
    """The journal's own socket.  Where nobody listens at :data:`SOCKET`, every :meth:`send` fails."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._inode = 0
        try:
            self._socket.connect(SOCKET)
            self._inode = os.fstat(self._socket.fileno()).st_ino
        except OSError:
            self._socket.close()

    def send(self, text: str, level: str, fields: Mapping[str, Any]) -> bool:
        """Send an event, without waiting.  Return False if the journal has not taken it.  Raises nothing."""
        data = encoded(
            {"MESSAGE": text, "PRIORITY": PRIORITIES.get(level, 6), "SYSLOG_IDENTIFIER": IDENTIFIER}
            | {PREFIX + name: value for name, value in fields.items() if value is not None}
        )
        # A child may have closed what it inherited, and another file have the number since.
        with contextlib.suppress(OSError):
            if self._inode and os.fstat(self._socket.fileno()).st_ino == self._inode:
                return self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) == len(data)
        return False

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")
_LONGEST_NAME = 64


def encoded(fields: Mapping[str, Any]) -> bytes:
    """Encode fields by the journal's native protocol; a value that has a line break goes with its length before it."""
    found = []
    for name, value in fields.items():
        key = _NOT_IN_NAMES.sub("_", name.upper())[:_LONGEST_NAME].encode()
        data = str(value).encode(errors="backslashreplace")
        found.append(key + (b"\n" + struct.pack("<Q", len(data)) if b"\n" in data else b"=") + data + b"\n")
    return b"".join(found)
