"""Many requests of the kernel's at once: both ends of TCP connections over loopback are submitted to the handshake API,
by the device of our module (:mod:`tests.kernel.raw`).

A submission that the kernel refuses for too many that wait (EAGAIN) is counted, and made again a little later, as by
a consumer that does not give up.  A connection counts as served once both ends have ended with 0 and what the client
writes then, through kTLS, is what the server reads.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import heapq
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.kernel import raw

AGAIN = 0.01
"""Seconds until a refused submission is made again."""

CONSUMERS_WAIT = 10.0
"""Seconds after which the kernel's own consumers give a request up."""

PATIENCE = 30.0
"""Seconds in which something must end, or what has not ended is lost."""

_WORD = b"what the client says"


@dataclass(frozen=True, slots=True)
class Ended:
    """``status``: 0 or an errno.  ``at``: when that was seen, by time.monotonic()."""

    number: int
    status: int
    at: float


class Device:
    """Requests to the kernel's own service.  Their numbers are the caller's."""

    def __init__(self) -> None:
        raw.inserted()
        self._open: dict[int, tuple[int, raw.Submission]] = {}
        self._refused: list[raw.Submission] = []
        self._epoll = select.epoll()

    def submit(
        self,
        sock: socket.socket,
        number: int,
        *,
        role: int,
        auth: int = raw.X509,
        peer_name: str = "",
        timeout: float = 0.0,
        psk: int = 0,
    ) -> None:
        """Submit a request.  Raises OSError with the kernel's errno: EAGAIN, ESRCH."""
        made = self._refused.pop() if self._refused else raw.Submission()
        try:
            made.submit(
                sock.fileno(),
                service=raw.KERNEL_TLS,
                role=role,
                auth=auth,
                peername=peer_name,
                timeout=int(timeout * 1000),
                peers=(psk,) if psk else (),
            )
        except OSError:
            self._refused.append(made)
            raise
        self._open[made.fd] = number, made
        self._epoll.register(made.fd, select.EPOLLIN)

    def ended(self, timeout: float) -> list[Ended]:
        """Return the requests that have ended, at least one; none if that took longer than ``timeout`` seconds."""
        return [self._ended(fd) for fd, _ in self._epoll.poll(timeout)]

    def withdraw(self) -> int:
        """Give up every request that has not ended; return their number."""
        waiting = [made for _, made in self._open.values()]
        for made in waiting:
            self._epoll.unregister(made.fd)
            made.close()
        self._open.clear()
        return len(waiting)

    def _ended(self, fd: int) -> Ended:
        number, made = self._open.pop(fd)
        with made:
            return Ended(number, made.read().status, time.monotonic())

    def close(self) -> None:
        """Withdraw what has not ended."""
        for made in (*self._refused, *(made for _, made in self._open.values())):
            made.close()
        self._epoll.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Tally:
    """``refused``: requests that were refused at least once.  ``refusals``: submissions.  ``failed``: by errno's name.

    ``lost``: requests that never ended.  ``seconds``: from the first submission to the last end.
    """

    requests: int = 0
    served: int = 0
    refused: int = 0
    refusals: int = 0
    lost: int = 0
    failed: collections.Counter[str] = field(default_factory=collections.Counter)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Handshakes per second: each end's is one."""
        return self.served / self.seconds


@dataclass(frozen=True)
class Ask:
    """Options of both ends.  ``name``: the server's.  ``psk``: the serial of the client's key."""

    name: str = ""
    client: int = raw.UNAUTH
    server: int = raw.X509
    psk: int = 0


@dataclass(eq=False)
class _Connection:
    client: socket.socket
    server: socket.socket
    statuses: list[int] = field(default_factory=list)

    def close(self) -> None:
        self.client.close()
        self.server.close()

    def carries_data(self) -> bool:
        """True if data goes through kTLS, which is in place at both ends."""
        try:
            self.client.send(_WORD)
            return self.server.recv(4096) == _WORD
        except OSError:
            return False


class _Round:
    """So many connections in a row, a part of them at a time."""

    def __init__(self, device: Device, connections: int, at_once: int, ask: Ask) -> None:
        self._device = device
        self._left = connections
        self._at_once = at_once
        self._ask = ask
        self._open: dict[int, tuple[_Connection, bool]] = {}
        self._again: list[tuple[float, int]] = []
        self._refused: set[int] = set()
        self._number = 0
        self.tally = Tally(requests=2 * connections)

    def run(self) -> Tally:
        begun = time.monotonic()
        ended = begun
        with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
            while self._open or self._left:
                while self._left and len(self._open) + 2 <= self._at_once:
                    self._left -= 1
                    self._start(listener)
                found = self._device.ended(self._pause())
                for item in found:
                    self._ended(item)
                    ended = item.at
                self._submit_again()
                if not found and time.monotonic() - ended > PATIENCE:
                    break
        self.tally.seconds = ended - begun
        self.tally.lost = len(self._open) + 2 * self._left
        self.tally.refused = len(self._refused)
        for connection, _ in self._open.values():
            connection.close()
        return self.tally

    def _start(self, listener: socket.socket) -> None:
        client = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
        server, _ = listener.accept()
        server.settimeout(PATIENCE)
        connection = _Connection(client, server)
        for is_client in (False, True):
            self._number += 1
            self._open[self._number] = connection, is_client
            self._submit(self._number)

    def _submit(self, number: int) -> None:
        connection, is_client = self._open[number]
        try:
            if is_client:
                ask = self._ask
                self._device.submit(
                    connection.client, number, role=raw.CLIENT, auth=ask.client, peer_name=ask.name, psk=ask.psk
                )
            else:
                self._device.submit(connection.server, number, role=raw.SERVER, auth=self._ask.server)
        except OSError as error:
            if error.errno != errno.EAGAIN:
                raise
            self.tally.refusals += 1
            self._refused.add(number)
            heapq.heappush(self._again, (time.monotonic() + AGAIN, number))

    def _pause(self) -> float:
        return max(0.0, self._again[0][0] - time.monotonic()) if self._again else PATIENCE

    def _submit_again(self) -> None:
        while self._again and self._again[0][0] <= time.monotonic():
            self._submit(heapq.heappop(self._again)[1])

    def _ended(self, item: Ended) -> None:
        connection, _ = self._open.pop(item.number)
        connection.statuses.append(item.status)
        if item.status:
            self.tally.failed[errno.errorcode.get(item.status, str(item.status))] += 1
        if len(connection.statuses) == 2:
            if connection.statuses == [0, 0] and connection.carries_data():
                self.tally.served += 2
            elif connection.statuses == [0, 0]:
                self.tally.failed["no data"] += 2
            connection.close()


GIVEN_UP = -1
"""No completion: the consumer did not wait any longer."""


class Pair:
    """One connection, both ends of which are submitted, by consumers as the kernel has them.

    One whose request fails hangs up, and one that has waited for :data:`CONSUMERS_WAIT` gives its request up.
    """

    def __init__(self, device: Device, name: str) -> None:
        self._device = device
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname(), timeout=PATIENCE)
            server, _ = listener.accept()
        self._waiting: dict[int, socket.socket] = {}
        self._refused: list[int] = []
        self._submit(1, client, role=raw.CLIENT, auth=raw.UNAUTH, peer_name=name)
        self._submit(2, server, role=raw.SERVER, auth=raw.X509)

    def _submit(self, number: int, sock: socket.socket, **values: Any) -> None:
        try:
            self._device.submit(sock, number, **values)
        except OSError as error:
            self._refused.append(error.errno or 0)
            sock.close()
        else:
            self._waiting[number] = sock

    def ends(self) -> list[int]:
        """Return how each end has ended: 0, an errno, also of one that was refused, or :data:`GIVEN_UP`."""
        found = self._refused
        with contextlib.ExitStack() as sockets:
            while self._waiting:
                ended = self._device.ended(CONSUMERS_WAIT)
                if not ended:
                    for sock in self._waiting.values():
                        sockets.enter_context(sock)
                    return found + [GIVEN_UP] * self._device.withdraw()
                for item in ended:
                    sock = self._waiting.pop(item.number)
                    found.append(item.status)
                    if item.status:
                        sock.close()
                    else:
                        sockets.enter_context(sock)
        return found


def make_requests(device: Device, number: int, at_once: int, ask: Ask) -> Tally:
    """Make so many requests, an even number, with so many under way at a time."""
    return _Round(device, number // 2, at_once, ask).run()


class Silent:
    """Server requests whose peers send no more than ``speech``.  They name a timeout of a minute."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.pairs: list[tuple[socket.socket, socket.socket]] = []

    def add(self, number: int, speech: bytes = b"", timeout: float = 60.0) -> None:
        """Add as many more, one after the other where the kernel takes no more at a time."""
        for _ in range(number):
            near = socket.create_connection(self._listener.getsockname())
            near.sendall(speech)
            far, _ = self._listener.accept()
            self.pairs.append((near, far))
            while True:
                try:
                    self._device.submit(far, len(self.pairs), role=raw.SERVER, timeout=timeout)
                    break
                except OSError as error:
                    if error.errno != errno.EAGAIN:
                        raise
                    time.sleep(AGAIN)

    def ended(self, number: int, patience: float = PATIENCE) -> list[Ended]:
        """Return the ends of so many requests."""
        found: list[Ended] = []
        while len(found) < number and (more := self._device.ended(patience)):
            found += more
        return found

    def answered(self) -> None:
        """Wait until each peer has received something."""
        for near, _ in self.pairs:
            near.settimeout(PATIENCE)
            assert near.recv(1)

    def hang_up(self) -> None:
        """Close the peers; each request ends with that."""
        for near, _ in self.pairs:
            near.close()

    def close(self) -> None:
        """Close all that is open."""
        for pair in self.pairs:
            for end in pair:
                end.close()
        self.pairs.clear()
        self._listener.close()


@contextlib.contextmanager
def silent(device: Device) -> Iterator[Silent]:
    made = Silent(device)
    try:
        yield made
    finally:
        made.close()
