"""New clients at a listening port: who is let in, which datagrams are whose, and how many there may be.

* What the gate lets in gets a connected socket at once, so that the kernel sorts from then on.  What fell into the
  wrong queue before is sorted here, by the addresses at both ends; what belongs to an earlier attempt from the same
  address, by the gate's look at the connection.
* While a socket is bound and not connected yet, the kernel prefers it to the port (Linux 6.18, once the port has
  connected sockets beside it): a stranger's first datagram can lie there while its second one is read from the port.
  So what nobody is known for is looked at again when all queues have been.
* A newcomer is handed out with all that it has sent so far: both queues are emptied first.  What it sends later stays
  in its socket.
* At most ``max_half_open`` are let in whose handshake has not ended, counting those that nobody took yet.  Beyond that
  a first datagram is answered by silence: the client sends it again.
* A client that changes its address during its handshake is not supported: for the kernel it is somebody else.
"""

from __future__ import annotations

import socket
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.client.udp import Arrival, Port, drain
from hsframework.interface import Admission, Gate

MAX_FIRST = 16
MAX_FIRST_BYTES = 32 * 1024
"""Datagrams of one client that travel with its request, and their size; those beyond are lost, and sent again by it."""

BUSY = 0.25
"""The part of ``max_half_open`` from which on the port is busy."""

MAX_EARLY = 256
"""Datagrams of strangers that are looked at again."""

_BATCH = 4096
"""Datagrams sorted before anything else is done."""


@dataclass(eq=False)
class Waiting:
    """A client that was let in and that nobody took yet."""

    arrival: Arrival
    admission: Admission
    socket: socket.socket
    datagrams: list[bytes] = field(default_factory=list)

    def add(self, data: bytes) -> None:
        """One more datagram of its, unless that is too much."""
        if len(self.datagrams) < MAX_FIRST and sum(map(len, self.datagrams)) + len(data) <= MAX_FIRST_BYTES:
            self.datagrams.append(data)


class HalfOpen:
    """A client that was handed out.  It counts as half open until :meth:`done`, or until it is forgotten."""

    def __init__(self, newcomers: Newcomers, waiting: Waiting, attributes: Mapping[str, Any]) -> None:
        self._newcomers = newcomers
        self.path = waiting.arrival.path
        self.socket = waiting.socket
        self.address = waiting.arrival.peer
        self.attributes = attributes

    def done(self) -> None:
        """The handshake has ended, well or not."""
        self._newcomers.end(self)


class Newcomers:
    """Sorts what arrives at a port.  Not for several threads at once; never waits."""

    def __init__(self, port: Port, gate: Gate, max_half_open: int) -> None:
        self._port = port
        self._gate = gate
        self._max_half_open = max_half_open
        self._waiting: dict[tuple[Any, str], Waiting] = {}
        self._fresh: list[Waiting] = []
        """Whose sockets were not looked into yet."""
        self._early: list[Arrival] = []
        """What nobody was known for, in this round."""
        # Weak: one that was dropped without a word counts no more.  Never iterated: other threads end theirs.
        self._half_open: weakref.WeakValueDictionary[tuple[Any, str], HalfOpen] = weakref.WeakValueDictionary()

    @property
    def half_open(self) -> int:
        """Clients that were handed out and whose handshake has not ended."""
        return len(self._half_open)

    @property
    def waiting(self) -> int:
        """Clients that can be taken."""
        return len(self._waiting)

    def take_in(self, now: float) -> None:
        """Sort what waits at the port; ``now`` in seconds on a monotonic clock."""
        for _ in range(_BATCH):
            arrival = self._port.receive()
            if arrival is None:
                break
            self._sort(arrival, now)
        # After the port, since what a client sent before it had its socket is older.
        while self._fresh:
            fresh = self._fresh.pop(0)
            self._drain(fresh, now)
            self._port.settle(fresh.socket)
        early, self._early = self._early, []
        for arrival in early:
            self._give(arrival)

    def take(self, now: float) -> HalfOpen | None:
        """The client that waits longest; None: none does."""
        self.take_in(now)
        if not self._waiting:
            return None
        path = next(iter(self._waiting))
        waiting = self._waiting[path]
        self._drain(waiting, now)
        del self._waiting[path]
        half_open = HalfOpen(self, waiting, self._gate.attributes(waiting.admission, waiting.datagrams))
        self._half_open[path] = half_open
        return half_open

    def end(self, half_open: HalfOpen) -> None:
        """It counts no more.  From any thread."""
        if self._half_open.get(half_open.path) is half_open:
            self._half_open.pop(half_open.path, None)

    def close(self) -> None:
        """Forget those that nobody took."""
        for waiting in self._waiting.values():
            waiting.socket.close()
        self._waiting.clear()

    def _drain(self, waiting: Waiting, now: float) -> None:
        """What is in a client's socket, its own and what fell into it before it was connected."""
        for arrival in drain(waiting.socket, waiting.arrival):
            self._sort(arrival, now)

    def _sort(self, arrival: Arrival, now: float) -> None:
        """Put it where it belongs."""
        if self._give(arrival):
            return
        if arrival.path in self._half_open:
            return  # it crossed with the hand-over: lost, and sent again
        half_open = len(self._waiting) + len(self._half_open)
        if half_open >= self._max_half_open:
            return
        busy = half_open >= BUSY * self._max_half_open
        verdict = self._gate.judge(arrival.data, arrival.peer, now=now, busy=busy)
        if isinstance(verdict, Admission):
            self._let_in(arrival, verdict)
        elif verdict is not None:
            self._port.answer(arrival, verdict)
        elif len(self._early) < MAX_EARLY:
            self._early.append(arrival)

    def _give(self, arrival: Arrival) -> bool:
        """To the client that waits at the same address, if one does."""
        waiting = self._waiting.get(arrival.path)
        if waiting is None:
            return False
        if self._gate.belongs(waiting.admission, arrival.data):
            waiting.add(arrival.data)
        return True

    def _let_in(self, arrival: Arrival, admission: Admission) -> None:
        try:
            sock = self._port.connect(arrival)
        except OSError:  # out of descriptors, or an address that is gone: the client tries again
            return
        waiting = self._waiting[arrival.path] = Waiting(arrival, admission, sock)
        waiting.add(arrival.data)
        self._fresh.append(waiting)
