"""A bad network between two sockets: what it does follows from a seed, so that a test that failed fails again.

::

    with BadNetwork.datagrams(Conditions(seed=7, drop=0.2, duplicate=0.1, reorder=0.3)) as network:
        outcomes = await gather(service.handshake(network.left, client), service.handshake(network.right, server))

``left`` and ``right`` are connected sockets, as a consumer hands them over; what one sends reaches the other through
the network.  On a :class:`~hsframework.testing.virtual_time.VirtualTimeLoop` delays take no real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hsframework.testing.virtual_time import VirtualTimeLoop

Tamper = Callable[[str, bytes], bytes]
"""``tamper(direction, data)`` returns what goes on instead; the directions are ``"right"`` and ``"left"``."""

_MOST = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How bad the network is.  Probabilities are from 0 to 1, for each datagram."""

    seed: int = 0
    drop: float = 0.0
    """Datagrams alone."""
    duplicate: float = 0.0
    """Datagrams alone."""
    reorder: float = 0.0
    """Datagrams alone: how many are held back until one or more later ones have passed."""
    delay: float = 0.0
    """Most seconds that anything is under way; each piece has a time of its own, and a stream keeps its order."""
    chunk: int = 0
    """Streams alone: pieces have 1 to ``chunk`` bytes; 0: they stay as they are sent."""
    coalesce: bool = False
    """Streams alone: hold everything back until both ends do nothing but wait, then deliver it at once."""
    first_losses: int = 0
    """Datagrams alone: the first so many in each direction are lost, whatever the seed."""


@dataclass(eq=False)
class _Direction:
    name: str
    source: socket.socket
    target: socket.socket
    random: random.Random
    held: deque[bytes] = field(default_factory=deque)
    seen: int = 0
    arrival: float = 0.0
    ended: bool = False
    cut: bool = False
    flowing: bool = False
    in_turn: int = 0
    """Pieces that are delivered one by one."""


class BadNetwork:
    """Made by :meth:`streams` or :meth:`datagrams`, in a ``with`` block on a :class:`VirtualTimeLoop`.

    ``left``, ``right``: the sockets to hand over.  ``passed``: what was delivered, by direction.
    ``tamper``: change what passes.  ``stalled``: while True nothing is delivered; :meth:`flush` delivers it.
    """

    def __init__(self, conditions: Conditions, kind: socket.SocketKind) -> None:
        self.conditions = conditions
        self.kind = kind
        self.tamper: Tamper | None = None
        self.stalled = False
        self.passed: dict[str, list[bytes]] = {"right": [], "left": []}
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualTimeLoop):
            raise RuntimeError("a bad network runs on hsframework.testing.virtual_time: run(...)")
        self._loop = loop
        make = tcp_pair if kind is socket.SOCK_STREAM else udp_pair
        self.left, first = make()
        second, self.right = make()
        self._first, self._second = first, second
        self._directions = {
            "right": _Direction("right", first, second, random.Random(f"{conditions.seed}/right")),
            "left": _Direction("left", second, first, random.Random(f"{conditions.seed}/left")),
        }
        for direction in self._directions.values():
            direction.source.setblocking(False)
            loop.add_reader(direction.source.fileno(), self._readable, direction)

    @classmethod
    @contextlib.contextmanager
    def streams(cls, conditions: Conditions | None = None) -> Iterator[BadNetwork]:
        """Between two TCP sockets over loopback."""
        with contextlib.closing(cls(conditions or Conditions(), socket.SOCK_STREAM)) as network:
            yield network

    @classmethod
    @contextlib.contextmanager
    def datagrams(cls, conditions: Conditions | None = None) -> Iterator[BadNetwork]:
        """Between two connected UDP sockets over loopback."""
        with contextlib.closing(cls(conditions or Conditions(), socket.SOCK_DGRAM)) as network:
            yield network

    def close(self) -> None:
        """Close all four sockets."""
        for direction in self._directions.values():
            self._loop.remove_reader(direction.source.fileno())
        for sock in (self.left, self._first, self._second, self.right):
            sock.close()

    def hang_up(self, direction: str) -> None:
        """End one direction of a stream behind what has passed; what comes later is lost."""
        way = self._directions[direction]
        way.cut = way.ended = True
        way.held.clear()
        with contextlib.suppress(OSError):
            way.target.shutdown(socket.SHUT_WR)

    def inject(self, direction: str, data: bytes) -> None:
        """Deliver this, as if it had been sent in that direction, ahead of what is under way."""
        self._deliver(self._directions[direction], data)

    def flush(self, direction: str, *sizes: int) -> None:
        """Deliver what is held back in that direction: the first so many bytes, then so many, each when nothing else
        can happen, then the rest.  Without sizes all at once."""
        way = self._directions[direction]
        data = b"".join(way.held)
        way.held.clear()
        pieces = []
        for size in sizes:
            pieces.append(data[:size])
            data = data[size:]
        rest = deque(piece for piece in (*pieces, data) if piece)
        way.in_turn += len(rest)
        self._deliver_in_turn(way, rest)

    def delivering(self, direction: str) -> bool:
        """Is something of a :meth:`flush` still to come?"""
        return self._directions[direction].in_turn > 0

    def held(self, direction: str) -> int:
        """Bytes that are held back in that direction."""
        return sum(map(len, self._directions[direction].held))

    # From here: what comes in

    def _readable(self, way: _Direction) -> None:
        while True:
            try:
                data = way.source.recv(_MOST)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data and self.kind is socket.SOCK_STREAM:
                self._end(way)
                return
            if way.cut:
                continue
            if self.tamper is not None:
                data = self.tamper(way.name, data)
            self._take(way, data)

    def _end(self, way: _Direction) -> None:
        self._loop.remove_reader(way.source.fileno())
        way.ended = True
        if not way.held:
            self._after(way, 0.0, lambda: self._shut(way))

    def _shut(self, way: _Direction) -> None:
        if way.target.fileno() >= 0:
            with contextlib.suppress(OSError):
                way.target.shutdown(socket.SHUT_WR)

    def _take(self, way: _Direction, data: bytes) -> None:
        if self.stalled:
            way.held.append(data)
        elif self.kind is socket.SOCK_DGRAM:
            self._take_datagram(way, data)
        elif self.conditions.coalesce:
            way.held.append(data)
            if not way.flowing:
                way.flowing = True
                self._loop.call_when_idle(lambda: self._flow(way))
        else:
            self._take_stream(way, data)

    def _flow(self, way: _Direction) -> None:
        way.flowing = False
        self.flush(way.name)
        if way.ended:
            self._shut(way)

    def _take_stream(self, way: _Direction, data: bytes) -> None:
        chunk = self.conditions.chunk
        while data:
            size = way.random.randint(1, chunk) if chunk else len(data)
            piece, data = data[:size], data[size:]
            if chunk and not self.conditions.delay:
                way.held.append(piece)
                self._trickle(way)
            else:
                self._after(way, self._delay(way), lambda piece=piece: self._deliver(way, piece))  # type: ignore[misc]

    def _trickle(self, way: _Direction) -> None:
        if not way.flowing:
            way.flowing = True
            self._loop.call_when_idle(lambda: self._next_piece(way))

    def _next_piece(self, way: _Direction) -> None:
        way.flowing = False
        if way.held:
            self._deliver(way, way.held.popleft())
        if way.held:
            self._trickle(way)
        elif way.ended:
            self._shut(way)

    def _take_datagram(self, way: _Direction, data: bytes) -> None:
        conditions, chance = self.conditions, way.random
        way.seen += 1
        # Always so many draws for a datagram: the fate of one does not depend on the fate of another.
        lost, twice, late = (
            chance.random() < limit for limit in (conditions.drop, conditions.duplicate, conditions.reorder)
        )
        delay, extra = self._delay(way), chance.uniform(0.001, 0.05)
        if lost or way.seen <= conditions.first_losses:
            return
        if late:
            delay += extra
        for number in range(2 if twice else 1):
            self._loop.call_later(delay + number * extra, self._deliver, way, data)

    def _delay(self, way: _Direction) -> float:
        return way.random.uniform(0.0, self.conditions.delay)

    def _after(self, way: _Direction, delay: float, then: Callable[[], object]) -> None:
        """In order: never before what came earlier in the same direction."""
        way.arrival = max(way.arrival + 1e-6, self._loop.time() + delay)
        self._loop.call_at(way.arrival, then)

    def _deliver_in_turn(self, way: _Direction, pieces: deque[bytes]) -> None:
        if pieces:
            way.in_turn -= 1
            self._deliver(way, pieces.popleft())
            self._loop.call_when_idle(lambda: self._deliver_in_turn(way, pieces))

    def _deliver(self, way: _Direction, data: bytes) -> None:
        if way.target.fileno() < 0 or way.cut:
            return
        self.passed[way.name].append(data)
        # Its other end is gone, or has not read a megabyte: what a network does then is to lose it.
        with contextlib.suppress(OSError):
            way.target.send(data, socket.MSG_NOSIGNAL)


def tcp_pair(timeout: float | None = None) -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback, each sending what it is given at once.

    ``timeout``: seconds that a call on one of them waits at most; None: for ever.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout)
    return near, far


def udp_pair() -> tuple[socket.socket, socket.socket]:
    """Two UDP sockets over loopback, connected to each other."""
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (near, far):
        sock.bind(("127.0.0.1", 0))
    near.connect(far.getsockname())
    far.connect(near.getsockname())
    return near, far
