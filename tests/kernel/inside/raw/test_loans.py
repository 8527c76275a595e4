"""The socket that the module of the raw-netlink form lends its agents."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel import raw, uml
from tests.kernel.machine import load
from tests.kernel.raw import Agent, Outcome, Refused, Submission, submitted
from tests.support.running import tcp_pairs

EIO = Outcome(errno.EIO)
LISTEN_ALL_NSID = 8
SETTINGS = Path("/proc/sys/net/hsframework_handshake")

Pair = tuple[socket.socket, socket.socket]


def test_closing_the_last_copy_ends_a_request(pair: Pair, agent: Agent) -> None:
    """EIO once the last of the agent's copies is closed, and not before; the connection goes on."""
    with submitted(pair[0]) as request:
        first = agent.take().fd
        second = os.dup(first)
        agent.let_go(first)
        assert request.waits
        os.close(second)
        assert request.outcome() == EIO
    pair[0].send(b"whole")
    assert pair[1].recv(100) == b"whole"


def test_a_killed_agent(pair: Pair) -> None:
    """Its death closes its copies."""
    program = (
        "import sys, time; from tests.kernel import raw\n"
        "agent = raw.Agent(raw.TLSHD); print('joined', flush=True); agent.await_ready()\n"
        "assert agent.accept(); print('accepted', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program], cwd=uml.CHECKOUT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"joined\n"
        with submitted(pair[0]) as request:
            assert process.stdout.readline() == b"accepted\n"
            assert request.waits
            process.kill()
            assert request.outcome() == EIO


def test_polling_a_lent_socket(pair: Pair, agent: Agent) -> None:
    """The agent's copy wakes for what comes, in epoll too, and is closed while it is watched."""
    with submitted(pair[0]), select.epoll() as poll:
        fd = agent.take().fd
        os.set_blocking(fd, False)
        poll.register(fd, select.EPOLLIN)
        assert poll.poll(0) == []
        with pytest.raises(BlockingIOError):
            os.read(fd, 1)
        pair[1].send(b"x")
        assert poll.poll(20) == [(fd, select.EPOLLIN)]
        assert os.read(fd, 10) == b"x"
        assert os.get_blocking(pair[0].fileno())
        agent.let_go(fd)
        pair[1].send(b"y")
        assert poll.poll(0) == []
        assert pair[0].recv(10) == b"y"


def test_kernel_tls_through_a_lent_socket() -> None:
    """TLS_TX planted by the agent on its copy encrypts what the consumer sends."""
    load("tls")
    keys = struct.pack("=HH8s16s4s8s", 0x0304, 51, b"i" * 8, b"k" * 16, b"s" * 4, bytes(8))
    with Agent(raw.TLSHD) as agent, tcp_pairs() as ((near, far),):
        with submitted(near) as request:
            got = agent.take()
            with socket.socket(fileno=os.dup(got.fd)) as lent:
                assert (lent.family, lent.type, lent.proto) == (near.family, near.type, socket.IPPROTO_TCP)
                lent.setsockopt(6, 31, b"tls")
                lent.setsockopt(282, 1, keys)
                assert struct.unpack("=HH", lent.getsockopt(282, 1, 4)) == (0x0304, 51)
            agent.done(got.fd)
            assert request.outcome() == Outcome(0)
        near.send(b"secret")
        record = far.recv(100)
        assert record[:3] == b"\x17\x03\x03"
        assert b"secret" not in record


def test_closing_tells_nothing_in_our_dialect(pair: Pair, agent: Agent) -> None:
    """With a session in the socket both ways, the last copy closed without DONE is EIO."""
    load("tls")
    keys = struct.pack("=HH8s16s4s8s", 0x0304, 51, b"i" * 8, b"k" * 16, b"s" * 4, bytes(8))
    with submitted(pair[0]) as request:
        with socket.socket(fileno=os.dup(agent.take().fd)) as lent:
            lent.setsockopt(6, 31, b"tls")
            for direction in (1, 2):
                lent.setsockopt(282, direction, keys)
        agent.close()
        assert request.outcome() == EIO


@pytest.mark.parametrize(
    "kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=lambda kind: kind.name
)
def test_any_socket(agent: Agent, kind: socket.SocketKind) -> None:
    """Sockets of AF_UNIX, and none that is connected over a network: they are lent and work the same."""
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    with near, far, submitted(near) as request:
        got = agent.take()
        with socket.socket(fileno=os.dup(got.fd)) as lent:
            assert lent.family == socket.AF_UNIX
            lent.send(b"hello")
            assert far.recv(10) == b"hello"
            far.send(b"back")
            assert lent.recv(10) == b"back"
        agent.done(got.fd)
        assert request.outcome() == Outcome(0)


def test_a_lent_socket_may_be_sent(pair: Pair, agent: Agent) -> None:
    """By SCM_RIGHTS, which keeps the request alive while it is under way; also over AF_UNIX sockets that are lent."""
    one, two = socket.socketpair()
    with one, two, submitted(pair[0]) as request:
        got = agent.take()
        socket.send_fds(one, [b"x"], [got.fd])
        agent.let_go(got.fd)
        assert request.waits
        _, (received,), _, _ = socket.recv_fds(two, 1, 1)
        assert request.waits
        agent.done(received)
        assert request.outcome() == Outcome(0)


def test_no_fd_is_left(pair: Pair, agent: Agent) -> None:
    """ACCEPT without a free fd answers SYSTEMFAULT and has cost the request its life."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with submitted(pair[0]) as request:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            with pytest.raises(Refused) as refused:
                agent.accept()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert refused.value.status == raw.SYSTEMFAULT
        assert request.outcome() == EIO


def test_the_module_stays_while_it_is_used(pair: Pair) -> None:
    """rmmod is refused while an agent, a lent socket or a submitted request lives; then it takes the settings along."""
    agent, request = Agent(raw.TLSHD), Submission()
    request.submit(pair[0].fileno())
    agent.take()
    for release in (agent.socket.close, request.close, agent.close):
        with pytest.raises(AssertionError, match="in use"):
            raw.remove()
        release()
    assert SETTINGS.exists()
    raw.remove()
    assert not SETTINGS.exists()
    raw.insert(protocols=5, limit=8)


def test_what_a_failed_test_leaves_is_returned(pair: Pair) -> None:
    """An agent, a request, a loan and a copy of it, all left open, are no longer counted by the module."""
    before = raw.users()
    with raw.returned():
        agent, request = Agent(raw.TLSHD), Submission()
        request.submit(pair[0].fileno())
        copy = socket.socket(fileno=os.dup(agent.take().fd))
        assert raw.users() > before
    assert raw.users() == before
    with agent, request, copy:
        pass
