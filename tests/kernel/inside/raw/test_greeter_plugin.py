"""The greeter's mechanism through the whole house: its agent is a plugin that `hsframework plugin new` has made."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import raw
from tests.kernel.greeter_plugin import NAME, PROTOCOL, Greeting, greeted, make
from tests.kernel.house import House, house
from tests.kernel.raw_house import Pair, await_joined, dialect
from tests.support.running import tcp_pairs

SETTINGS = f"[kernel.raw]\nenabled = true\nprotocols = {{tlshd = 1, {NAME} = {PROTOCOL}}}\n"


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """With the greeter on it."""
    with raw.with_greeter(PROTOCOL, timeout_ms=20_000):
        yield


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """With the plugin."""
    project = make(tmp_path_factory.mktemp("greeter"))
    with house(more=SETTINGS, projects=[project]) as made:
        made.wait_for_agents(protocol=NAME)
        await_joined(made, NAME)
        yield made


@pytest.fixture(params=[0, 1], ids=["our dialect", "the published dialect"])
def spoken(request: pytest.FixtureRequest) -> Iterator[int]:
    """The dialect of our network namespace."""
    with dialect(request.param):
        yield request.param


@pytest.mark.usefixtures("spoken")
def test_a_session(service: House, pair: Pair) -> None:
    """The plugin is told the topic, and what it says of the session is the greeting that the kernel sends."""
    mark = service.log.mark
    assert greeted(*pair, "dinner") == (0, b"let us talk about dinner")
    service.log.wait("handshake", group=NAME, source="kernel-raw", status="OK", since=mark)


@pytest.mark.usefixtures("service", "spoken")
def test_a_refusal(pair: Pair) -> None:
    """A peer with another word: EACCES to the kernel's consumer, which ends the connection."""
    assert greeted(*pair, "dinner", "weather") == (-errno.EACCES, b"")


@pytest.mark.parametrize(("spoken", "status"), [(0, -errno.EPROTO), (1, -errno.EIO)], indirect=["spoken"])
@pytest.mark.usefixtures("service")
def test_a_fault(pair: Pair, spoken: int, status: int) -> None:
    """Garbage from the peer: our dialect tells the errno, the published one a fault."""
    with Greeting() as greeting:
        greeting.start(pair[0])
        assert pair[1].recv(1)
        pair[1].sendall(b"\0")
        assert greeting.status() == status


@pytest.mark.usefixtures("spoken")
def test_many_at_once(service: House) -> None:
    """Each connection gets the greeting of its own topic."""
    with tcp_pairs(8) as pairs, contextlib.ExitStack() as opened:
        topics = [f"subject-{index}" for index in range(len(pairs))]
        greetings = [opened.enter_context(Greeting()) for _ in pairs]
        for greeting, topic, (near, _) in zip(greetings, topics, pairs, strict=True):
            greeting.start(near, topic)
        for topic, (_, far) in zip(topics, pairs, strict=True):
            word = bytes([len(topic)]) + topic.encode()
            assert far.recv(len(word), socket.MSG_WAITALL) == word
            far.sendall(word)
        assert [greeting.status() for greeting in greetings] == [0] * len(pairs)
        for topic, (_, far) in zip(topics, pairs, strict=True):
            assert far.recv(100) == f"let us talk about {topic}".encode()
    assert not service.log.events("DONE is refused")


@pytest.mark.parametrize(
    ("answer", "status", "greeting"), [("weather", 0, b"let us talk about weather"), ("dinner", -errno.EACCES, b"")]
)
@pytest.mark.usefixtures("spoken")
def test_the_dispatcher_is_killed(service: House, pair: Pair, answer: str, status: int, greeting: bytes) -> None:
    """The handshake goes on without it, and its consumer is told its end: no socket can be asked for a session of this
    mechanism, so the plugin's report is enough.  The next one is greeted."""
    near, far = pair
    with Greeting() as asked:
        asked.start(near)
        assert far.recv(1)
        mark = service.log.mark
        os.kill(service.dispatcher, signal.SIGKILL)
        service.log.wait("the dispatcher is gone", protocol=NAME, since=mark)
        far.sendall(bytes([len(answer)]) + answer.encode())
        service.log.wait("a request of an earlier dispatcher is given back", since=mark)
        assert asked.status() == status
        assert far.recv(len("weather"), socket.MSG_WAITALL) == b"weather"
        assert far.recv(100) == greeting
    service.wait_for_agents(protocol=NAME, since=mark)
    await_joined(service, NAME, since=mark)
    with tcp_pairs() as (other,):
        assert greeted(*other) == (0, b"let us talk about weather")


def test_the_page_has_its_lines() -> None:
    """The lines that the test fills in stand in the documentation."""
    page = (Path(__file__).parents[4] / "docs/howto/kernel-consumer.md").read_text()
    for line in (
        "{name: topic, value: 64, type: string}",
        "{name: greeting, value: 65, type: string}",
        "in_kernel=True",
    ):
        assert line in page
