"""Time that submit, ACCEPT and DONE take while many requests wait or are lent, in the test kernel.

    python -m tests.kernel .venv/bin/python -m tests.kernel.raw_scale [NUMBER ...]

For each number of requests (30 and 3,000 unless others are named), medians in microseconds: one submit with so many
waiting, one ACCEPT in a group beside them, one ACCEPT of them, one submit while so many are lent, and one DONE.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median

from tests.kernel import raw
from tests.kernel.raw import Agent, Submission

SAMPLES = 200
Pair = tuple[socket.socket, socket.socket]


@contextlib.contextmanager
def _pairs(number: int) -> Iterator[list[Pair]]:
    with contextlib.ExitStack() as opened:
        made = [socket.socketpair() for _ in range(number)]
        for near, far in made:
            opened.callback(near.close)
            opened.callback(far.close)
        yield made


class _Consumers:
    """Requests that are submitted one by one, each with a socket and an open file of its own, made beforehand."""

    def __init__(self, opened: contextlib.ExitStack, number: int) -> None:
        self._pairs = opened.enter_context(_pairs(number))
        self._made = [opened.enter_context(Submission()) for _ in range(number)]

    def submit(self, protocol: int = raw.TLSHD) -> None:
        self._made.pop().submit(self._pairs.pop()[0].fileno(), protocol=protocol)


def _times(number: int, action: Callable[[], object]) -> float:
    """Return the median of so many calls, in microseconds."""
    taken = []
    for _ in range(number):
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return median(taken) * 1e6


def measure(number: int) -> dict[str, float]:
    """Measure with so many requests; microseconds, by what was measured."""
    found: dict[str, float] = {}
    lent: list[int] = []
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(Agent(raw.TLSHD, raw.QUIC))
        listener.socket.setsockopt(raw.SOL_NETLINK, 5, 1)  # NETLINK_NO_ENOBUFS: nothing of it is read
        agent = opened.enter_context(Agent())
        consumers = _Consumers(opened, number + 3 * SAMPLES)

        def accept(protocol: int = raw.TLSHD) -> None:
            request = agent.accept(protocol)
            assert request is not None
            lent.append(request.fd)

        for _ in range(number):
            consumers.submit()
        found["submit"] = _times(SAMPLES, consumers.submit)
        for _ in range(SAMPLES):
            consumers.submit(raw.QUIC)
        found["ACCEPT beside"] = _times(SAMPLES, lambda: accept(raw.QUIC))
        found["ACCEPT"] = _times(SAMPLES, accept)
        for _ in range(number):
            accept()
        found["submit while lent"] = _times(SAMPLES, consumers.submit)
        found["DONE"] = _times(len(lent), lambda: agent.done(lent.pop()))
    return found


def main() -> None:
    """Print one line for each number."""
    numbers = [int(word) for word in sys.argv[1:]] or [30, 3000]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 16, 1 << 16))
    raw.insert(protocols=4, limit=1 << 20, lent=1 << 20)
    measure(30)  # what is done for the first time is not measured
    for number in numbers:
        found = measure(number)
        print(f"{number:>6}  " + "  ".join(f"{name} {value:.0f}" for name, value in found.items()), flush=True)
    raw.remove()


if __name__ == "__main__":
    main()
