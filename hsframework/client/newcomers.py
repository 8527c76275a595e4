"""Newcomers of a listening UDP port: admission by the protocol's gate, their datagrams, and their number.

A newcomer is a new client until its handshake has ended.  First it waits; then it is taken, by ``accept``.

* A newcomer that the gate admits gets a connected socket at once, so that the kernel sorts its further datagrams.
  Datagrams that reached the wrong socket before are sorted here by the addresses of both ends; those of an earlier
  attempt from the same address are told apart by the gate (``Gate.belongs``).
* While a socket is bound and not connected yet, the kernel prefers it to the port (Linux 6.18, once the port has
  connected sockets beside it).  A new client's first datagram can therefore wait in another newcomer's socket while its
  second one is read from the port.  Datagrams from unknown senders are re-examined after all queues are drained.
* Both queues are emptied before a newcomer is taken, so that its request carries all that it has sent so far.  Later
  datagrams stay in its socket.
* At most ``max_half_open`` newcomers, waiting or taken, are admitted.  Beyond that a first datagram gets no answer, and
  the client sends it again.
* A client that changes its address during its handshake is not supported: the kernel does not know it again.
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
"""Number and total bytes of a newcomer's datagrams that travel with its request; further ones are dropped, and the
client sends them again."""

BUSY = 0.25
"""Share of ``max_half_open`` from which on the gate is told that the port is busy."""

MAX_UNCLAIMED = 256
"""Datagrams from unknown senders that are kept for a second examination."""

_BATCH = 4096
"""Datagrams read from the port in one call at most."""


@dataclass(eq=False)
class WaitingNewcomer:
    """A newcomer that the gate has admitted and that nobody has taken yet."""

    arrival: Arrival
    admission: Admission
    socket: socket.socket
    datagrams: list[bytes] = field(default_factory=list)

    def add(self, data: bytes) -> None:
        """Keep one more of its datagrams, within the limits."""
        if len(self.datagrams) < MAX_FIRST and sum(map(len, self.datagrams)) + len(data) <= MAX_FIRST_BYTES:
            self.datagrams.append(data)


class TakenNewcomer:
    """A newcomer that was returned by ``accept``.  It counts until :meth:`done`, or until it is garbage collected."""

    def __init__(self, newcomers: Newcomers, waiting: WaitingNewcomer, attributes: Mapping[str, Any]) -> None:
        self._newcomers = newcomers
        self.path = waiting.arrival.path
        self.socket = waiting.socket
        self.address = waiting.arrival.peer
        self.attributes = attributes

    def done(self) -> None:
        """Note that the handshake has ended, with or without success."""
        self._newcomers.end(self)


class Newcomers:
    """The newcomers of one port.  Not for several threads at once; no call waits."""

    def __init__(self, port: Port, gate: Gate, max_half_open: int) -> None:
        self._port = port
        self._gate = gate
        self._max_half_open = max_half_open
        self._waiting: dict[tuple[Any, str], WaitingNewcomer] = {}
        self._undrained: list[WaitingNewcomer] = []
        """Newcomers whose sockets have not been read yet."""
        self._unclaimed: list[Arrival] = []
        """Datagrams from unknown senders in this round."""
        # Weak, so that a newcomer that was dropped without done() stops counting.  Never iterated: done() may be called
        # in other threads.
        self._taken: weakref.WeakValueDictionary[tuple[Any, str], TakenNewcomer] = weakref.WeakValueDictionary()

    @property
    def waiting(self) -> int:
        """Number of newcomers that can be taken."""
        return len(self._waiting)

    def read_port(self, now: float) -> None:
        """Read the port and sort its datagrams; ``now`` in seconds on a monotonic clock."""
        for _ in range(_BATCH):
            arrival = self._port.receive()
            if arrival is None:
                break
            self._sort(arrival, now)
        # After the port, since the datagrams there are older than those in the newcomer's own socket.
        while self._undrained:
            undrained = self._undrained.pop(0)
            self._drain(undrained, now)
            self._port.settle(undrained.socket)
        unclaimed, self._unclaimed = self._unclaimed, []
        for arrival in unclaimed:
            self._give_to_waiting(arrival)

    def take(self, now: float) -> TakenNewcomer | None:
        """Return the newcomer that has waited longest, or None; ``now`` in seconds on a monotonic clock."""
        self.read_port(now)
        if not self._waiting:
            return None
        path = next(iter(self._waiting))
        waiting = self._waiting[path]
        self._drain(waiting, now)
        del self._waiting[path]
        taken = TakenNewcomer(self, waiting, self._gate.attributes(waiting.admission, waiting.datagrams))
        self._taken[path] = taken
        return taken

    def end(self, taken: TakenNewcomer) -> None:
        """Stop counting a newcomer.  May be called in any thread."""
        if self._taken.get(taken.path) is taken:
            self._taken.pop(taken.path, None)

    def close(self) -> None:
        """Close the sockets of the newcomers that wait."""
        for waiting in self._waiting.values():
            waiting.socket.close()
        self._waiting.clear()

    def _drain(self, waiting: WaitingNewcomer, now: float) -> None:
        """Sort the datagrams in a newcomer's socket; others' may have reached it before it was connected."""
        for arrival in drain(waiting.socket, waiting.arrival):
            self._sort(arrival, now)

    def _sort(self, arrival: Arrival, now: float) -> None:
        """Give a datagram to its newcomer, or to the gate if its sender is unknown."""
        if self._give_to_waiting(arrival):
            return
        if arrival.path in self._taken:
            return  # it arrived while its newcomer was being taken: dropped, and sent again
        half_open = len(self._waiting) + len(self._taken)
        if half_open >= self._max_half_open:
            return
        busy = half_open >= BUSY * self._max_half_open
        verdict = self._gate.judge(arrival.data, arrival.peer, now=now, busy=busy)
        if isinstance(verdict, Admission):
            self._admit(arrival, verdict)
        elif verdict is not None:
            self._port.answer(arrival, verdict)
        elif len(self._unclaimed) < MAX_UNCLAIMED:
            self._unclaimed.append(arrival)

    def _give_to_waiting(self, arrival: Arrival) -> bool:
        """Give a datagram to the waiting newcomer with the same addresses; return False if there is none."""
        waiting = self._waiting.get(arrival.path)
        if waiting is None:
            return False
        if self._gate.belongs(waiting.admission, arrival.data):
            waiting.add(arrival.data)
        return True

    def _admit(self, arrival: Arrival, admission: Admission) -> None:
        try:
            sock = self._port.connect(arrival)
        except OSError:  # out of file descriptors, or the local address is gone: the client tries again
            return
        waiting = self._waiting[arrival.path] = WaitingNewcomer(arrival, admission, sock)
        waiting.add(arrival.data)
        self._undrained.append(waiting)
