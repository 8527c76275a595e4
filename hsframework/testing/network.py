"""A bad network between two sockets, controlled by a seed, so that a test that failed fails again.

::

    with BadNetwork.datagrams(Conditions(seed=7, drop=0.2, duplicate=0.1, reorder=0.3)) as network:
        outcomes = await gather(service.handshake(network.left, client), service.handshake(network.right, server))

``left`` and ``right`` are connected sockets, as a consumer submits them; data of one reaches the other through the
network.  It runs on a :class:`~hsframework.testing.virtual_time.VirtualTimeLoop`, so delays take no real time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from hsframework.testing.virtual_time import VirtualTimeLoop

Tamper = Callable[[str, bytes], bytes]
"""``tamper(direction, data)`` returns the data to deliver instead; the directions are ``"right"`` and ``"left"``."""

_MOST = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """The faults of a network.  Probabilities are from 0 to 1."""

    seed: int = 0
    drop: float = 0.0
    """For datagrams: the probability that one is lost."""
    duplicate: float = 0.0
    """For datagrams: the probability that one arrives twice."""
    reorder: float = 0.0
    """For datagrams: the probability that one arrives behind later ones."""
    delay: float = 0.0
    """Longest delay in seconds; each piece has a random one, and a stream keeps its order."""
    chunk: int = 0
    """For streams: pieces have 1 to ``chunk`` bytes; 0: they are delivered as they are sent."""
    coalesce: bool = False
    """For streams: hold all data back until both ends are waiting, then deliver it at once."""
    first_losses: int = 0
    """For datagrams: number of the first ones in each direction that are lost, whatever the seed."""


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
    """Pieces of a flush that are still to be delivered."""


class BadNetwork:
    """A network with faults.  Make it with :meth:`streams` or :meth:`datagrams`, on a :class:`VirtualTimeLoop`.

    ``left``, ``right``: the sockets to submit.  ``passed``: delivered data, by direction.  ``tamper``: function that
    changes data.  ``stalled``: while True all data is held back, and :meth:`flush` delivers it.
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
        """Make a network between two TCP sockets over loopback."""
        with contextlib.closing(cls(conditions or Conditions(), socket.SOCK_STREAM)) as network:
            yield network

    @classmethod
    @contextlib.contextmanager
    def datagrams(cls, conditions: Conditions | None = None) -> Iterator[BadNetwork]:
        """Make a network between two connected UDP sockets over loopback."""
        with contextlib.closing(cls(conditions or Conditions(), socket.SOCK_DGRAM)) as network:
            yield network

    def close(self) -> None:
        """Close all four sockets."""
        for direction in self._directions.values():
            if direction.source.fileno() >= 0:
                self._loop.remove_reader(direction.source.fileno())
        for sock in (self.left, self._first, self._second, self.right):
            sock.close()

    def hang_up(self, direction: str) -> None:
        """End one direction of a stream behind the data that was delivered; later data is lost."""
        way = self._directions[direction]
        way.cut = way.ended = True
        way.held.clear()
        with contextlib.suppress(OSError):
            way.target.shutdown(socket.SHUT_WR)

    def reset(self, direction: str) -> None:
        """Reset a stream: the end that receives in this direction gets RST, behind the data that was delivered."""
        for way in self._directions.values():
            way.cut = way.ended = True
            way.held.clear()
        target = self._directions[direction].target
        self._loop.remove_reader(target.fileno())
        target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        target.close()

    def inject(self, direction: str, data: bytes) -> None:
        """Deliver data as if it had been sent in this direction, ahead of data that is under way."""
        self._deliver(self._directions[direction], data)

    def flush(self, direction: str, *sizes: int) -> None:
        """Deliver the data that is held back in this direction.

        ``sizes``: bytes of the first pieces; each is delivered when the loop is idle, and the rest after them.  Without
        sizes all is delivered at once.
        """
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
        """Return True while pieces of a :meth:`flush` are still to be delivered."""
        return self._directions[direction].in_turn > 0

    def held(self, direction: str) -> int:
        """Return the number of bytes that are held back in this direction."""
        return sum(map(len, self._directions[direction].held))

    # Data from the sockets

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
        # The same number of draws for each datagram, so that the fate of one does not depend on that of another.
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
        """Call ``then`` after a delay, but not before earlier calls for the same direction."""
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
        # If the other end has closed, or has not read a megabyte, the data is lost, as on a real network.
        with contextlib.suppress(OSError):
            way.target.send(data, socket.MSG_NOSIGNAL)


def tcp_pair(timeout: float | None = None) -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection over loopback, with TCP_NODELAY.

    ``timeout``: of calls on the sockets, in seconds; None: without limit.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    for sock in (near, far):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.settimeout(timeout)
    return near, far


def udp_pair() -> tuple[socket.socket, socket.socket]:
    """Return two UDP sockets over loopback, connected to each other."""
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (near, far):
        sock.bind(("127.0.0.1", 0))
    near.connect(far.getsockname())
    far.connect(near.getsockname())
    return near, far
