"""An agent that was written from the published text and our dispatcher, each in a network namespace of its own."""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.dispatcher.namespaces import network_namespace
from tests.kernel import raw
from tests.kernel.consumers import joined_namespace
from tests.kernel.house import End, House, house
from tests.kernel.machine import load
from tests.kernel.raw import Outcome, submitted
from tests.kernel.raw_house import (
    CLIENT,
    RAW,
    SERVER,
    SOURCE,
    Pair,
    agent_files,
    await_joined,
    dialect,
    published_agent,
)

NEAR, FAR = "198.51.100.1", "198.51.100.2"


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """In the published dialect."""
    load("tls")
    raw.insert(protocols=4, limit=8, dialect=1)
    yield
    raw.remove()


@pytest.fixture(scope="module")
def there() -> Iterator[str]:
    """A namespace with a wire from ours."""
    with joined_namespace("there", NEAR, FAR) as name:
        yield name


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    """Our agents, which serve our namespace alone."""
    with house(client=End(CLIENT), server=End(SERVER), more=RAW) as made:
        await_joined(made)
        yield made


@pytest.fixture
def other(there: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The published agent, in the other namespace."""
    agent_files(tmp_path, SERVER)
    with contextlib.ExitStack() as opened:
        with network_namespace(there):
            made = opened.enter_context(published_agent(tmp_path))
        yield made


@pytest.fixture
def wire(there: str) -> Iterator[Pair]:
    """A connection, with its ends in our namespace and in the other."""
    with network_namespace(there):
        listener = socket.create_server((FAR, 0))
    with listener, socket.create_connection(listener.getsockname()) as near:
        far, _ = listener.accept()
        with far:
            yield near, far


@pytest.fixture(params=[1, 0], ids=["one dialect", "two dialects"])
def ours(request: pytest.FixtureRequest) -> Iterator[int]:
    """The dialect of our namespace; the other one has the published one."""
    with dialect(request.param):
        yield request.param


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("role", [raw.CLIENT, raw.SERVER], ids=["ours is the client", "ours is the server"])
def test_a_session_between_them(service: House, other: subprocess.Popen[str], wire: Pair, role: int) -> None:
    """Both consumers get success, and what each sends through the kernel's TLS the other reads."""
    mark = service.log.mark
    near, far = wire
    with (
        submitted(near, role=role, auth=raw.X509, peername="server.test") as request,
        submitted(far, role=raw.CLIENT + raw.SERVER - role, auth=raw.UNAUTH) as asked,
    ):
        assert (request.outcome().status, asked.outcome()) == (0, Outcome(0))
    for one, another in ((near, far), (far, near)):
        one.sendall(b"through TLS")
        assert another.recv(100) == b"through TLS"
    service.log.wait("handshake", source=SOURCE, status="OK", since=mark)
    assert other.stdout is not None
    assert other.stdout.readline() == "session status 0\n"


@pytest.mark.usefixtures("ours")
def test_each_serves_its_own_namespace(service: House, there: str, pair: Pair) -> None:
    """A consumer whose service nobody has joined gets ESRCH, while the other is served; neither gets its requests."""
    mark = service.log.mark
    with network_namespace(there):
        near, far = socket.socketpair()
    with near, far, raw.Submission() as request, pytest.raises(OSError) as refused:
        request.submit(near.fileno())
    assert refused.value.errno == errno.ESRCH
    with submitted(pair[0], priorities="NORMAL:+ROT13") as request:
        assert request.outcome().status in (errno.EIO, errno.EOPNOTSUPP)
    service.log.wait("handshake", source=SOURCE, since=mark)
    assert len(service.log.events("handshake", since=mark)) == 1


@pytest.mark.usefixtures("service", "ours")
def test_one_goes_and_the_other_stays(other: subprocess.Popen[str], wire: Pair) -> None:
    """The published agent is killed in mid-handshake: its consumer gets EIO, and ours the end of its peer."""
    near, far = wire
    with submitted(far) as asked, contextlib.ExitStack() as opened:
        assert near.recv(1, socket.MSG_PEEK) == b"\x16"
        other.kill()
        assert asked.outcome() == Outcome(errno.EIO)
        far.close()
        request = opened.enter_context(submitted(near, role=raw.SERVER, auth=raw.X509))
        assert request.outcome().status
