"""The module that offers the service in its raw-netlink form: each rule of its, at the level of its messages."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel import raw
from tests.kernel.genl import attribute, attributes
from tests.kernel.machine import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    NOBODY,
    add_key,
    debian,
    describe_key,
    in_a_child,
    unlink_key,
    unshare,
)
from tests.kernel.raw import Agent, Outcome, Refused, Submission, submitted

EIO = Outcome(errno.EIO)
LISTEN_ALL_NSID = 8

Pair = tuple[socket.socket, socket.socket]


def test_from_submit_to_done(pair: Pair, agent: Agent) -> None:
    """READY without attributes, ACCEPT with every argument, the connection itself, DONE with what is told on."""
    values = {
        "role": raw.SERVER,
        "auth": raw.X509,
        "timeout": 4321,
        "urgency": 5,
        "handshake_type": 1,
        "certificate": 77,
        "private_key": 78,
        "peers": (11, 12),
        "peername": "server.example",
        "priorities": "NORMAL:-VERS-ALL:+VERS-TLS1.3",
    }
    with submitted(pair[0], **values) as request:
        agent.await_ready()
        got = agent.take()
        assert got.protocol == raw.TLSHD
        arguments = {kind: payload for kind, payload in got.arguments if kind not in (6, 7, 8, 12)}
        numbers = {kind: int.from_bytes(payload, "little") for kind, payload in arguments.items()}
        assert numbers == {1: got.fd, 3: raw.SERVER, 4: 4321, 5: raw.X509, 10: 5, 11: 1}
        assert [payload for kind, payload in got.arguments if kind == 6] == [struct.pack("=I", n) for n in (11, 12)]
        assert attributes(dict(got.arguments)[7]) == [(1, struct.pack("=i", 77)), (2, struct.pack("=i", 78))]
        assert dict(got.arguments)[8] == b"server.example\0"
        assert dict(got.arguments)[12] == b"NORMAL:-VERS-ALL:+VERS-TLS1.3\0"
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
        assert [kind for kind, _ in agent.take().arguments] == [1, 3, 5]


def test_the_consumer_cancels(pair: Pair, agent: Agent) -> None:
    """Queued or accepted: ECANCELED, once; what the agent says afterwards changes nothing."""
    for accepted in (False, True):
        with submitted(pair[0]) as request:
            got = agent.take() if accepted else None
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
    got = agent.take()
    request.close()
    os.write(got.fd, b"still there")
    assert pair[1].recv(100) == b"still there"
    agent.done(got.fd, 0)


def test_done_from_another_process(pair: Pair, agent: Agent) -> None:
    """DONE on a copy completes the request, whoever accepted it; a second DONE is 0 and changes nothing."""
    with submitted(pair[0]) as request:
        got = agent.take()

        def elsewhere() -> None:
            with Agent() as other:
                other.done(got.fd, errno.EACCES)

        in_a_child(elsewhere)
        assert request.outcome() == Outcome(errno.EACCES)
        agent.done(got.fd, 0)
        assert request.outcome() == Outcome(errno.EACCES)


def test_done_without_a_status(pair: Pair, agent: Agent) -> None:
    """The consumer gets EIO."""
    with submitted(pair[0]) as request:
        agent.done(agent.take().fd, None)
        assert request.outcome() == EIO


def test_refusals(pair: Pair, agent: Agent) -> None:
    """Invalid arguments are refused with a status, and complete nothing."""
    with submitted(pair[0]) as request, open("/dev/null") as no_socket:
        got = agent.take()
        calls: list[tuple[Callable[[], object], int]] = [
            (lambda: agent.done(pair[1].fileno()), raw.BADF),
            (lambda: agent.done(no_socket.fileno()), raw.BADF),
            (lambda: agent.done(99_999), raw.BADF),
            (lambda: agent.done(1 << 31), raw.BADF),
            (lambda: agent.done((1 << 32) - 1), raw.BADF),
            (lambda: agent.done(got.fd, 4096), raw.INVAL),
            (lambda: agent.done(got.fd, 0, range(1, 7)), raw.INVAL),
            (lambda: agent.done(got.fd, protocol=raw.PSP), raw.INVAL),
        ]
        for call, status in calls:
            with pytest.raises(Refused) as refused:
                call()
            assert refused.value.status == status
        for kind in (raw.ACCEPT, raw.DONE):
            assert agent.ask(kind, b"") == [(raw.MSG_STATUS, struct.pack("=I", raw.INVAL))]
        assert request.waits
        assert os.fstat(no_socket.fileno())
        agent.done(got.fd, protocol=raw.TLSHD)
        assert request.outcome() == Outcome(0)


def test_the_socket_in_the_nest(pair: Pair, agent: Agent) -> None:
    """SOCKFD in DONE_ARGS counts where the message has none; one that is no s32 is none."""
    with submitted(pair[0]) as request:
        got = agent.take()
        copy = os.dup(got.fd)
        for payload, status in ((b"\0\0", raw.INVAL), (struct.pack("=i", -1), raw.BADF)):
            nest = attribute(raw.DONE_ARGS | raw.NLA_F_NESTED, attribute(2, payload))
            assert agent.ask(raw.DONE, nest) == [(raw.MSG_STATUS, struct.pack("=I", status))]
        assert request.waits
        nest = attribute(1, struct.pack("=I", errno.EACCES)) + attribute(2, struct.pack("=i", copy))
        assert agent.ask(raw.DONE, attribute(raw.DONE_ARGS | raw.NLA_F_NESTED, nest), acknowledge=True) == []
        assert request.outcome() == Outcome(errno.EACCES)


def test_what_netlink_refuses(pair: Pair, agent: Agent) -> None:
    """Types that are no requests, attributes that are unknown or malformed: EINVAL, and nothing is completed."""
    protocol = attribute(raw.PROTOCOL, struct.pack("=I", raw.TLSHD))
    with submitted(pair[0]) as request:
        got = agent.take()
        socket_is = attribute(raw.SOCKFD, struct.pack("=I", got.fd))
        for kind, body in (
            (0x10, b""),
            (raw.READY, b""),
            (0x14, b""),
            (raw.ACCEPT, protocol + attribute(6, bytes(4))),
            (raw.ACCEPT, attribute(raw.PROTOCOL, b"\1")),
            (raw.DONE, socket_is + attribute(6, bytes(4))),
            (raw.DONE, attribute(raw.SOCKFD, b"\1")),
            (raw.DONE, socket_is + attribute(raw.DONE_ARGS, b"")),  # a nest says that it is one
        ):
            with pytest.raises(OSError) as refused:
                agent.ask(kind, body)
            assert refused.value.errno == errno.EINVAL
        assert request.waits
        agent.done(got.fd)


def test_accept_is_as_lenient_as_published(pair: Pair, agent: Agent) -> None:
    """A protocol that is not there has nothing queued; what only the service sends is let pass."""
    further = attribute(raw.MSG_STATUS, bytes(4)) + attribute(raw.ACCEPT_RESP | raw.NLA_F_NESTED, b"")
    with submitted(pair[0]):
        assert agent.accept(0) is agent.accept(6) is agent.accept(2**32 - 1) is None
        answer = agent.ask(raw.ACCEPT, attribute(raw.PROTOCOL, struct.pack("=I", raw.TLSHD)) + further)
        assert [kind for kind, _ in answer] == [raw.MSG_STATUS, raw.SOCKFD, raw.PROTOCOL, raw.ACCEPT_RESP]


def test_only_groups_that_there_are_can_be_joined(agent: Agent) -> None:
    """Netlink itself has 32 groups where five are asked for."""
    agent.join(5)
    with pytest.raises(OSError) as refused:
        agent.join(6)
    assert refused.value.errno == errno.EINVAL


def test_a_mechanisms_own_attributes_pass(pair: Pair, agent: Agent) -> None:
    """In DONE_ARGS, numbers from 64 on are a mechanism's; one below that the service does not know is refused."""
    with submitted(pair[0]) as request:
        got = agent.take()
        with pytest.raises(Refused) as refused:
            agent.done(got.fd, further=attribute(63, b"mine"))
        assert refused.value.status == raw.INVAL
        assert request.waits
        agent.done(got.fd, further=attribute(64, b"mine"))
        assert request.outcome() == Outcome(0)


def test_submissions_that_are_wrong(pair: Pair, agent: Agent) -> None:
    """Each is refused with its error; one request on a socket, and one for a file of the device."""
    with submitted(pair[0]) as request, Submission() as second:
        for values, error in (
            ({"protocol": 0}, errno.EINVAL),
            ({"protocol": 6}, errno.EINVAL),
            ({"role": 3}, errno.EINVAL),
            ({"auth": 0}, errno.EINVAL),
            ({"urgency": 8}, errno.EINVAL),
            ({"handshake_type": 2}, errno.EINVAL),
            ({"service": 2}, errno.EINVAL),
            ({"peers": range(6)}, errno.EINVAL),
            ({"peername": "x" * 256}, errno.EINVAL),
            ({"priorities": "x" * 256}, errno.EINVAL),
            ({}, errno.EBUSY),
        ):
            with pytest.raises(OSError) as refused:
                second.submit(pair[0].fileno(), **values)
            assert refused.value.errno == error
        for fd, error in ((99_999, errno.EBADF), (second.fd, errno.ENOTSOCK), (agent.take().fd, errno.ENOTSOCK)):
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
            agent.done(agent.take().fd)
            assert request.outcome() == Outcome(0)


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


def test_root_of_a_container(pair: Pair) -> None:
    """Root of a user and a network namespace serves that one, and cannot join or accept in another."""
    ours, theirs = socket.socketpair()

    def contained() -> None:
        with Agent() as outside:
            unshare(CLONE_NEWUSER | CLONE_NEWNET)
            for call in (lambda: outside.join(raw.TLSHD), outside.accept):
                with pytest.raises(PermissionError):
                    call()
        near, far = socket.socketpair()
        with near, far, Agent(raw.TLSHD) as inside:
            socket.send_fds(theirs, [b"x"], [near.fileno()])
            inside.await_ready()
            inside.done(inside.take().fd, errno.EACCES)

    with ours, theirs, ThreadPoolExecutor() as pool, Agent(raw.TLSHD) as agent, submitted(pair[0]) as untouched:
        child = pool.submit(in_a_child, contained)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
        with socket.socket(fileno=fd) as sock, submitted(sock) as request:
            assert request.outcome() == Outcome(errno.EACCES)
        child.result()
        assert untouched.waits
        agent.take()


def _refused(agent: Agent) -> None:
    with pytest.raises(PermissionError):
        agent.accept()


def test_the_keyring(pair: Pair, agent: Agent) -> None:
    """ACCEPT links the request's keyring into the process keyring; one that is not there ends the request."""
    ring = int(debian("keyctl", "newring", "of the request", "@u"))
    key = add_key("user", "in it", b"payload", ring)
    with submitted(pair[0], keyring=ring) as request:
        got = agent.take()
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


@pytest.mark.parametrize("number", [2, 1025])
def test_parameters(number: int) -> None:
    """A number of protocols that is out of range is refused."""
    raw.remove()
    with pytest.raises(AssertionError, match="Invalid"):
        raw.insert(protocols=number)
    raw.insert(protocols=5, limit=8)
