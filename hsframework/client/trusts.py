"""Large and unusual trusts of a consumer, which travel in a sealed memfd before the submit that names them.

A client makes one file for each trust, and sends it once over each link.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import OrderedDict
from typing import NamedTuple

from hsframework.client.wire import codec
from hsframework.interface import ClientUsage, Trust
from hsframework.local.trustfile import create_trust_file

LARGE = 1 << 16
"""Bytes of certificates and lists from which on a trust travels in a file; one attribute of a message has as many."""

TRUST_ID = 1
"""Number of the trust; a link has one at a time."""


def travels_alone(trust: Trust) -> bool:
    """Return True if a trust travels in a file: a submit has no room for it, or no attribute for what it says."""
    unusual = trust.client_usage is not ClientUsage.CLIENT_AUTH or trust.admit is not None
    return unusual or sum(map(len, (*trust.anchors, *trust.crls))) >= LARGE


class TrustFile(NamedTuple):
    """A trust in a file, for sending.  The fd stays the client's."""

    digest: bytes
    fd: int
    size: int

    def message(self, sequence: int) -> bytes:
        """Return the ``trust`` message, with the number of the submit that follows: an error is the submit's answer."""
        return codec().encode("trust", {"trust-id": TRUST_ID, "size": self.size}, sequence=sequence)


class TrustFiles:
    """The files of one client.  It may be shared between threads."""

    MOST = 4
    """Files that are kept; the oldest goes first."""

    def __init__(self) -> None:
        self._files: OrderedDict[bytes, TrustFile] = OrderedDict()
        self._lock = threading.Lock()
        # For clients that are dropped and not closed.
        weakref.finalize(self, _close_all, self._files)

    def file(self, trust: Trust) -> TrustFile:
        """Return a trust's file, with an fd of the caller's own.  Raises OSError."""
        with self._lock:
            found = self._files.get(trust.digest)
            if found is None:
                fd, size = create_trust_file(trust)
                found = self._files[trust.digest] = TrustFile(trust.digest, fd, size)
                if len(self._files) > self.MOST:
                    os.close(self._files.popitem(last=False)[1].fd)
            return found._replace(fd=os.dup(found.fd))

    def renew(self) -> None:
        """Make a lock of its own, in a process that was forked: another thread may have held the old one."""
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close every file."""
        with self._lock:
            _close_all(self._files)


def _close_all(files: OrderedDict[bytes, TrustFile]) -> None:
    while files:
        os.close(files.popitem()[1].fd)
