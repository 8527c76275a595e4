"""The module that offers the service in its raw-netlink form: each rule of its, at the level of its messages."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from hsframework.dispatcher.namespaces import network_namespace
from tests.kernel import raw, uml
from tests.kernel.genl import attribute, attributes
from tests.kernel.machine import NOBODY, add_key, debian, describe_key, in_a_child, load, unlink_key
from tests.kernel.raw import Agent, Outcome, Refused, Submission, Taken, submitted
from tests.support.running import tcp_pairs

EIO = Outcome(errno.EIO)
LISTEN_ALL_NSID = 8


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    raw.insert(protocols=5, limit=8)
    yield
    raw.remove()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A consumer's socket and its peer."""
    with tcp_pairs() as (made,):
        yield made


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Of the group tlshd."""
    with Agent(raw.TLSHD) as made:
        yield made


def taken(agent: Agent, protocol: int = raw.TLSHD) -> Taken:
    found = agent.accept(protocol)
    assert found is not None
    return found


def peer_of(request: Taken) -> object:
    """The address of the connection's other end."""
    with socket.socket(fileno=os.dup(request.fd)) as sock:
        return sock.getpeername()


Pair = tuple[socket.socket, socket.socket]


def test_from_submit_to_done(pair: Pair, agent: Agent) -> None:
    """READY without attributes, ACCEPT with every argument, the connection itself, DONE with what is told on."""
    values = {
        "role": raw.SERVER,
        "auth": raw.X509,
        "timeout": 4321,
        "priority": 5,
        "handshake_type": 1,
        "certificate": 77,
        "private_key": 78,
        "peers": (11, 12),
        "peername": "server.example",
    }
    with submitted(pair[0], **values) as request:
        agent.await_ready()
        got = taken(agent)
        assert got.protocol == raw.TLSHD
        arguments = {kind: payload for kind, payload in got.arguments if kind not in (6, 7, 8)}
        numbers = {kind: int.from_bytes(payload, "little") for kind, payload in arguments.items()}
        assert numbers == {1: got.fd, 3: raw.SERVER, 4: 4321, 5: raw.X509, 10: 5, 11: 1}
        assert [payload for kind, payload in got.arguments if kind == 6] == [struct.pack("=I", n) for n in (11, 12)]
        assert attributes(dict(got.arguments)[7]) == [(1, struct.pack("=i", 77)), (2, struct.pack("=i", 78))]
        assert dict(got.arguments)[8] == b"server.example\0"
        os.write(got.fd, b"from the agent")
        assert pair[1].recv(100) == b"from the agent"
        assert request.waits
        agent.done(got.fd, 0, (21, 22))
        assert request.outcome() == Outcome(0, (21, 22))
        with pytest.raises(OSError):
            os.fstat(got.fd)
    pair[0].send(b"from the consumer")
    assert pair[1].recv(100) == b"from the consumer"


def test_what_is_not_said_is_left_out(pair: Pair, agent: Agent) -> None:
    """Numbers that are 0 and an empty name are not there, as with the kernel's own service."""
    with submitted(pair[0]):
        assert [kind for kind, _ in taken(agent).arguments] == [1, 3, 5]


def test_nobody_listens(pair: Pair) -> None:
    """ESRCH at once: without a member, with one of another group, and once the last has left."""
    with Agent(raw.QUIC) as other, Submission() as request:
        for leaving in (False, True):
            if leaving:
                other.join(raw.TLSHD)
                other.leave(raw.TLSHD)
            with pytest.raises(OSError) as refused:
                request.submit(pair[0].fileno())
            assert refused.value.errno == errno.ESRCH
        assert other.hears_nothing


def test_the_limit() -> None:
    """Past it EAGAIN; what is accepted makes room; the parameter can be changed."""
    with Agent(raw.TLSHD) as agent, tcp_pairs(10) as pairs, contextlib.ExitStack() as requests:
        for near, _ in pairs[:8]:
            requests.enter_context(submitted(near))
        with Submission() as one_more:
            with pytest.raises(OSError) as refused:
                one_more.submit(pairs[8][0].fileno())
            assert refused.value.errno == errno.EAGAIN
            taken(agent)
            one_more.submit(pairs[8][0].fileno())
        raw.set_limit(9)
        requests.enter_context(submitted(pairs[9][0]))
        raw.set_limit(8)


def test_priorities() -> None:
    """The highest first; of equals, the first that came."""
    asked = [0, 3, 7, 3, 0, 7]
    with Agent(raw.TLSHD) as agent, tcp_pairs(len(asked)) as pairs, contextlib.ExitStack() as requests:
        for (near, _), priority in zip(pairs, asked, strict=True):
            requests.enter_context(submitted(near, priority=priority))
        order = [peer_of(taken(agent)) for _ in asked]
        assert order == [pairs[index][1].getsockname() for index in (2, 5, 1, 3, 0, 4)]
        assert agent.accept() is None


def test_each_group_is_blind_to_the_others() -> None:
    """Agents of three groups and of one by parameter hear of their own requests alone, and are given no other."""
    protocols = (raw.TLSHD, raw.QUIC, raw.PSP, 5)
    with contextlib.ExitStack() as opened:
        agents = {protocol: opened.enter_context(Agent(protocol)) for protocol in protocols}
        pairs = opened.enter_context(tcp_pairs(len(protocols)))
        for protocol, (near, _) in zip(protocols, pairs, strict=True):
            opened.enter_context(submitted(near, protocol=protocol))
            agents[protocol].await_ready()
            assert all(agent.hears_nothing for agent in agents.values())
        for protocol, (_, far) in zip(protocols, pairs, strict=True):
            assert peer_of(taken(agents[protocol], protocol)) == far.getsockname()
            assert agents[protocol].accept(protocol) is None


def test_the_consumer_cancels(pair: Pair, agent: Agent) -> None:
    """Queued or accepted: ECANCELED, once; what the agent says afterwards changes nothing."""
    for accepted in (False, True):
        with submitted(pair[0]) as request:
            got = taken(agent) if accepted else None
            request.cancel()
            assert request.outcome() == Outcome(errno.ECANCELED)
            with pytest.raises(OSError) as late:
                request.cancel()
            assert late.value.errno == errno.EALREADY
            if got is not None:
                agent.done(got.fd, 0)
            assert agent.accept() is None
            assert request.outcome() == Outcome(errno.ECANCELED)


def test_the_consumer_goes(pair: Pair, agent: Agent) -> None:
    """Closing the device's file withdraws the request; the agent's copy works on, and its DONE is nobody's."""
    request = Submission()
    request.submit(pair[0].fileno())
    request.close()
    assert agent.accept() is None
    request = Submission()
    request.submit(pair[0].fileno())
    got = taken(agent)
    request.close()
    os.write(got.fd, b"still there")
    assert pair[1].recv(100) == b"still there"
    agent.done(got.fd, 0)


def test_closing_the_last_copy_ends_a_request(pair: Pair, agent: Agent) -> None:
    """EIO once the last of the agent's copies is closed, and not before; the connection goes on."""
    with submitted(pair[0]) as request:
        first = taken(agent).fd
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


def test_done_from_another_process(pair: Pair, agent: Agent) -> None:
    """DONE on a copy completes the request, whoever accepted it; a second DONE is 0 and changes nothing."""
    with submitted(pair[0]) as request:
        got = taken(agent)

        def elsewhere() -> None:
            with Agent() as other:
                other.done(got.fd, errno.EACCES)

        in_a_child(elsewhere)
        assert request.outcome() == Outcome(errno.EACCES)
        agent.done(got.fd, 0)
        assert request.outcome() == Outcome(errno.EACCES)


def test_done_without_a_status(pair: Pair, agent: Agent) -> None:
    """Is EIO."""
    with submitted(pair[0]) as request:
        agent.done(taken(agent).fd, None)
        assert request.outcome() == EIO


def test_refusals(pair: Pair, agent: Agent) -> None:
    """What is not understood is refused with a status, and completes nothing."""
    with submitted(pair[0]) as request:
        got = taken(agent)
        calls: list[tuple[Callable[[], object], int]] = [
            (lambda: agent.accept(0), raw.INVAL),
            (lambda: agent.accept(6), raw.INVAL),
            (lambda: agent.done(pair[1].fileno()), raw.BADF),
            (lambda: agent.done(99_999), raw.BADF),
            (lambda: agent.done(got.fd, 4096), raw.INVAL),
            (lambda: agent.done(got.fd, 0, range(1, 7)), raw.INVAL),
            (lambda: agent.done(got.fd, protocol=raw.PSP), raw.INVAL),
        ]
        for call, status in calls:
            with pytest.raises(Refused) as refused:
                call()
            assert refused.value.status == status
        malformed = attribute(raw.SOCKFD, b"\1")
        for kind in (raw.ACCEPT, raw.DONE):
            assert agent.ask(kind, malformed) == [(raw.MSG_STATUS, struct.pack("=I", raw.INVAL))]
        # A nest must say that it is one.
        assert agent.ask(raw.DONE, attribute(raw.DONE_ARGS, b"")) == [(raw.MSG_STATUS, struct.pack("=I", raw.INVAL))]
        with pytest.raises(OSError) as unknown:
            agent.ask(0x14, b"")
        assert unknown.value.errno == errno.EOPNOTSUPP
        assert request.waits
        agent.done(got.fd, protocol=raw.TLSHD)
        assert request.outcome() == Outcome(0)


def test_submissions_that_are_wrong(pair: Pair, agent: Agent) -> None:
    """Each is refused with its error; one request on a socket, and one for a file of the device."""
    with submitted(pair[0]) as request, Submission() as second:
        for values, error in (
            ({"protocol": 0}, errno.EINVAL),
            ({"protocol": 6}, errno.EINVAL),
            ({"role": 3}, errno.EINVAL),
            ({"auth": 0}, errno.EINVAL),
            ({"priority": 8}, errno.EINVAL),
            ({"handshake_type": 2}, errno.EINVAL),
            ({"service": 2}, errno.EINVAL),
            ({"peers": range(6)}, errno.EINVAL),
            ({"peername": "x" * 256}, errno.EINVAL),
            ({}, errno.EBUSY),
        ):
            with pytest.raises(OSError) as refused:
                second.submit(pair[0].fileno(), **values)
            assert refused.value.errno == error
        for fd, error in ((99_999, errno.EBADF), (second.fd, errno.ENOTSOCK), (taken(agent).fd, errno.ENOTSOCK)):
            with pytest.raises(OSError) as refused:
                second.submit(fd)
            assert refused.value.errno == error
        with pytest.raises(OSError) as twice:
            request.submit(pair[1].fileno())
        assert twice.value.errno == errno.EALREADY


def test_a_socket_may_ask_again(pair: Pair, agent: Agent) -> None:
    """Once its request is over: room for a rekey."""
    for handshake_type in (0, 1):
        with submitted(pair[0], handshake_type=handshake_type) as request:
            agent.done(taken(agent).fd)
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


def test_capabilities(pair: Pair, agent: Agent) -> None:
    """Joining and every message need CAP_NET_ADMIN; so does the device, by its mode."""

    def as_a_user() -> None:
        with pytest.raises(PermissionError):
            Agent(raw.TLSHD)
        with Agent() as user:
            for call in (user.accept, lambda: user.done(0)):
                with pytest.raises(PermissionError):
                    call()
        with pytest.raises(PermissionError):
            Submission()

    with submitted(pair[0]) as request:
        in_a_child(as_a_user, NOBODY)
        # Nor through the socket of one that has it.
        in_a_child(lambda: _refused(agent), NOBODY)
        assert request.waits


def _refused(agent: Agent) -> None:
    with pytest.raises(PermissionError):
        agent.accept()


def test_polling_a_lent_socket(pair: Pair, agent: Agent) -> None:
    """The agent's copy wakes for what comes, in epoll too, and is closed while it is watched."""
    with submitted(pair[0]), select.epoll() as poll:
        fd = taken(agent).fd
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
            got = taken(agent)
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


@pytest.mark.parametrize(
    "kind", [socket.SOCK_DGRAM, socket.SOCK_STREAM, socket.SOCK_SEQPACKET], ids=lambda kind: kind.name
)
def test_any_socket(agent: Agent, kind: socket.SocketKind) -> None:
    """Sockets of AF_UNIX, and none that is connected over a network: they are lent and work the same."""
    near, far = socket.socketpair(socket.AF_UNIX, kind)
    with near, far, submitted(near) as request:
        got = taken(agent)
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
        got = taken(agent)
        socket.send_fds(one, [b"x"], [got.fd])
        agent.let_go(got.fd)
        assert request.waits
        _, (received,), _, _ = socket.recv_fds(two, 1, 1)
        assert request.waits
        agent.done(received)
        assert request.outcome() == Outcome(0)


def test_the_keyring(pair: Pair, agent: Agent) -> None:
    """ACCEPT links the request's keyring into the process keyring; one that is not there ends the request."""
    ring = int(debian("keyctl", "newring", "of the request", "@u"))
    key = add_key("user", "in it", b"payload", ring)
    with submitted(pair[0], keyring=ring) as request:
        got = taken(agent)
        assert got.number(9) == ring
        debian("keyctl", "unlink", str(ring), "@u")
        assert describe_key(key)[4] == "in it"
        unlink_key(ring)
        agent.done(got.fd)
        assert request.outcome() == Outcome(0)
    with submitted(pair[0], keyring=ring) as request:
        with pytest.raises(Refused) as refused:
            agent.accept()
        assert refused.value.status == raw.SYSTEMFAULT
        assert request.outcome() == EIO


def test_namespaces(agent: Agent) -> None:
    """A request is its socket's namespace's: agents of another hear nothing; the namespace goes when all are done."""
    debian("ip", "netns", "add", "yellow")
    with network_namespace("yellow"):
        there = Agent(raw.TLSHD)
        near, far = socket.socketpair()
    with there, near, far, submitted(near) as request:
        assert agent.hears_nothing
        assert agent.accept() is None
        there.await_ready()
        debian("ip", "netns", "delete", "yellow")
        got = taken(there)
        there.done(got.fd, errno.EACCES)
        assert request.outcome() == Outcome(errno.EACCES)
    assert raw.present()


@pytest.mark.usefixtures("agent")
def test_an_agent_of_another_namespace() -> None:
    """Is nobody: ESRCH, also where it would hear the announcements of all namespaces, and nothing waits."""
    debian("ip", "netns", "add", "yellow")
    with network_namespace("yellow"):
        near, far = socket.socketpair()
        of_that = Agent()
    with near, far, of_that, Agent() as everywhere, Submission() as request:
        everywhere.socket.setsockopt(raw.SOL_NETLINK, LISTEN_ALL_NSID, 1)
        everywhere.join(raw.TLSHD)
        for _ in range(2):
            with pytest.raises(OSError) as refused:
                request.submit(near.fileno())
            assert refused.value.errno == errno.ESRCH
        assert of_that.accept() is None
    debian("ip", "netns", "delete", "yellow")


def test_a_full_queue_without_an_agent() -> None:
    """Is ESRCH all the same: it does not help to try again."""
    with tcp_pairs(9) as pairs, contextlib.ExitStack() as requests:
        with Agent(raw.TLSHD):
            for near, _ in pairs[:8]:
                requests.enter_context(submitted(near))
        with Submission() as request, pytest.raises(OSError) as refused:
            request.submit(pairs[8][0].fileno())
        assert refused.value.errno == errno.ESRCH


def test_an_overrun_costs_nothing(agent: Agent) -> None:
    """A member whose queue is full counts as one: requests are taken, wait, and are all accepted."""
    agent.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    raw.set_limit(64)
    try:
        with tcp_pairs(40) as pairs, contextlib.ExitStack() as requests:
            for near, _ in pairs:
                requests.enter_context(submitted(near))
            with Agent() as other:
                for _ in pairs:
                    taken(other)
                assert other.accept() is None
    finally:
        raw.set_limit(8)


@pytest.mark.usefixtures("agent")
def test_races() -> None:
    """Consumers that withdraw or wait, and agents that answer or let go, all at once: each request ends once."""
    ended: Counter[int] = Counter()
    stop = threading.Event()

    def consume() -> None:
        with tcp_pairs() as ((near, _),):
            for number in range(300):
                with Submission() as request:
                    try:
                        request.submit(near.fileno(), priority=number % 8)
                    except OSError as error:
                        assert error.errno == errno.EAGAIN
                        continue
                    if number % 3 == 0:
                        with contextlib.suppress(OSError):
                            request.cancel()
                    elif number % 3 == 1:
                        continue
                    ended[request.outcome().status] += 1

    def serve(letting_go: bool) -> None:
        with Agent() as other:
            while not stop.is_set():
                got = other.accept()
                if got is None:
                    os.sched_yield()
                elif letting_go:
                    other.let_go(got.fd)
                else:
                    other.done(got.fd, errno.EACCES)

    with ThreadPoolExecutor(8) as pool:
        agents = [pool.submit(serve, letting_go) for letting_go in (False, True)]
        consumers = [pool.submit(consume) for _ in range(5)]
        for consumer in consumers:
            consumer.result(60)
        stop.set()
        for served in agents:
            served.result(20)
    assert set(ended) == {errno.EACCES, errno.EIO, errno.ECANCELED}
    with Agent() as other:
        assert other.accept() is None


def test_the_module_stays_while_it_is_used(pair: Pair) -> None:
    """rmmod is refused while an agent, a lent socket or a submitted request lives, and works then."""
    agent, request = Agent(raw.TLSHD), Submission()
    request.submit(pair[0].fileno())
    taken(agent)
    for release in (agent.socket.close, request.close, agent.close):
        with pytest.raises(AssertionError, match="in use"):
            raw.remove()
        release()
    raw.remove()
    raw.insert(protocols=5, limit=8)


@pytest.mark.parametrize("number", [2, 1025])
def test_parameters(number: int) -> None:
    """A number of protocols that is out of range is refused."""
    raw.remove()
    with pytest.raises(AssertionError, match="Invalid"):
        raw.insert(protocols=number)
    raw.insert(protocols=5, limit=8)
