"""TLS stalled at its limit, while QUIC, PSP and the greeter's mechanism go on at full rate: no group waits for another.

The agents of QUIC and PSP are toys, because no kernel has a session for them; TLS's is ours, and its peers are silent.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel import raw
from tests.kernel.greeter_plugin import NAME, PROTOCOL, greeted, make
from tests.kernel.house import End, House, house
from tests.kernel.machine import load
from tests.kernel.raw import Outcome, Submission, submitted
from tests.kernel.raw_house import CLIENT, PSP, QUIC, TOY, await_joined, dialect, toy_peer
from tests.support.running import tcp_pairs, until

LENT, LIMIT = 4, 8
HANDSHAKES = 50
"""Of each mechanism, by each of its threads."""
THREADS = 2
SETTINGS = (
    "[timeouts]\nclient = 120\n"
    "[kernel.raw]\nenabled = true\n"
    f"protocols = {{tlshd = 1, {QUIC} = 2, {PSP} = 3, {NAME} = {PROTOCOL}}}\n"
)
"""With a TLS that stays stalled for as long as the test takes."""


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """With the greeter on it, and few that may wait in each group."""
    load("tls")
    with raw.with_greeter(PROTOCOL, limit=LIMIT, timeout_ms=20_000):
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Agents of four mechanisms."""
    project = make(tmp_path_factory.mktemp("greeter"))
    with house(
        client=End(CLIENT, groups=("tlshd",)), more=SETTINGS, plugins={QUIC: TOY, PSP: TOY}, projects=[project]
    ) as made:
        for group in ("tlshd", QUIC, PSP, NAME):
            await_joined(made, group)
        yield made


def toy(protocol: int, name: str) -> None:
    """Run one handshake of a toy."""
    with tcp_pairs() as ((near, far),), submitted(near, protocol=protocol) as request:
        toy_peer(far, name)
        assert request.outcome() == Outcome(0)


def greeting() -> None:
    """Run one handshake of the greeter's."""
    with tcp_pairs() as (pair,):
        assert greeted(*pair) == (0, b"let us talk about weather")


MECHANISMS: dict[str, Callable[[], None]] = {
    QUIC: lambda: toy(raw.QUIC, QUIC),
    PSP: lambda: toy(raw.PSP, PSP),
    NAME: greeting,
}


def all_go_on() -> float:
    """Run the handshakes of all other mechanisms at once; none is refused.  Handshakes per second."""

    def again_and_again(shake: Callable[[], None]) -> None:
        for _ in range(HANDSHAKES):
            shake()

    begin = time.monotonic()
    with ThreadPoolExecutor(len(MECHANISMS) * THREADS) as pool:
        running = [pool.submit(again_and_again, shake) for shake in MECHANISMS.values() for _ in range(THREADS)]
        for each in running:
            each.result()
    return len(MECHANISMS) * THREADS * HANDSHAKES / (time.monotonic() - begin)


@pytest.mark.parametrize("spoken", [0, 1], ids=["our dialect", "the published dialect"])
def test_the_others_go_on(service: House, spoken: int) -> None:
    """TLS's agent has as many sockets as it may, its queue is full, and its consumers get EAGAIN.

    Of each other mechanism's handshakes none fails and none is refused, and afterwards TLS waits as before: then it is
    served, as soon as its peers say something.
    """
    mark = service.log.mark
    with dialect(spoken), tcp_pairs(LENT + LIMIT + 1) as pairs, contextlib.ExitStack() as opened:
        free = all_go_on()
        raw.set_limit(LENT, "lent")
        lent = [opened.enter_context(submitted(near, peername="server.test")) for near, _ in pairs[:LENT]]
        for _, far in pairs[:LENT]:
            assert far.recv(1, socket.MSG_PEEK) == b"\x16"
        waiting = [opened.enter_context(submitted(near, peername="server.test")) for near, _ in pairs[LENT:-1]]
        _is_full(pairs[-1][0])
        stalled = all_go_on()
        _is_full(pairs[-1][0])
        assert all(request.waits for request in (*lent, *waiting))
        for _, far in pairs:
            far.close()
        assert all(request.outcome().status for request in (*lent, *waiting))
        print(f"{free:.0f} handshakes/s, {stalled:.0f}/s while TLS is stalled")
    for group in MECHANISMS:
        service.log.wait("handshake", group=group, status="OK", since=mark, number=2 * THREADS * HANDSHAKES)
    until(lambda: len(service.log.events("handshake", group="tlshd", since=mark)) == LENT + LIMIT, "TLS is served")


def _is_full(sock: socket.socket) -> None:
    with Submission() as request, pytest.raises(OSError) as refused:
        request.submit(sock.fileno())
    assert refused.value.errno == errno.EAGAIN
