"""The handshake upcall: what the kernel's consumers get, whatever an agent or the dispatcher does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator

import pytest

from hsframework.configuration.settings import Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.namespaces import network_namespace
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sources.kernel import KernelSources, genl
from hsframework.dispatcher.sources.kernel.sources import served_forms
from hsframework.netlink.control import accepted_attributes, find_family
from hsframework.netlink.socket import NETLINK_GENERIC, NetlinkError, RequestSocket
from hsframework.netlink.spec import builtin_specification
from tests.kernel import raw
from tests.kernel.consumers import listeners, nvme_key
from tests.kernel.house import dispatcher, house
from tests.kernel.machine import NOBODY, debian, in_a_child
from tests.kernel.raw import Outcome, submitted
from tests.kernel.scripted import SUBSYSTEM, Connections, Consumers, ScriptedAgent, connections, consumers, refused
from tests.support.running import (
    Running,
    settled_fds,
    short_folder,
    sockets,
    tcp_pairs,
    until,
    write_configuration,
)

QUICK = "[timeouts]\nagent-restart = 0.05\nmaximum = 0.3\n"


@pytest.fixture(scope="module", autouse=True)
def key() -> None:
    """Make the key that nvme-tcp needs before it asks."""
    nvme_key(SUBSYSTEM, 1)


@pytest.fixture
def hosts() -> Iterator[Consumers]:
    with consumers() as made:
        yield made


@pytest.fixture
def clients() -> Iterator[Connections]:
    with connections() as made:
        yield made


@pytest.fixture(scope="module")
def serving() -> Iterator[Running]:
    """A dispatcher without agents."""
    with dispatcher(QUICK) as process:
        yield process


def test_membership_tells_the_truth(hosts: Consumers, serving: Running) -> None:
    """No agent: ESRCH at once.  One: its answer.  It leaves, or comes back and dies: ESRCH again."""
    assert hosts.start().status() == errno.ESRCH
    with ScriptedAgent(serving.runtime_dir) as agent:
        consumer = hosts.start()
        ((request, _),) = agent.accept()
        agent.done(request, errno.EKEYREJECTED)
        assert consumer.status() == errno.EKEYREJECTED
        agent.leave()
        assert hosts.start().status() == errno.ESRCH
        agent.join()
        assert listeners() == 1
    until(lambda: listeners() == 0, "the group is left")
    assert hosts.start().status() == errno.ESRCH


@pytest.mark.parametrize(
    ("told", "heard"),
    [
        (errno.ECONNRESET, errno.ETIMEDOUT),
        (errno.EPIPE, errno.ETIMEDOUT),
        (errno.ETIMEDOUT, errno.ETIMEDOUT),
        (errno.EACCES, errno.EACCES),
        (errno.ENOKEY, errno.ENOKEY),
        (errno.EKEYEXPIRED, errno.EKEYEXPIRED),
    ],
    ids=lambda status: errno.errorcode[status],
)
def test_status(hosts: Consumers, serving: Running, told: int, heard: int) -> None:
    """The agent's status is the consumer's, but what broke the connection is a timeout: NFS tries again then."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        consumer = hosts.start()
        ((request, _),) = agent.accept()
        agent.done(request, told)
        assert consumer.status() == heard


@pytest.mark.parametrize("values", [{}, {"in-kernel": True}, {"session": b"of its own"}], ids=str)
def test_a_lie_does_not_go_on_in_plain_text(hosts: Consumers, serving: Running, values: dict[str, object]) -> None:
    """Success without TLS_TX and TLS_RX on the socket is EIO, and nothing was sent on the connection."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        consumer = hosts.start()
        ((request, _),) = agent.accept()
        agent.done(request, 0, **values)
        assert consumer.status() == errno.EIO
        assert consumer.heard() == b""


def test_a_silent_agent_is_timed_out(hosts: Consumers, serving: Running) -> None:
    """One that never answers costs its consumer ETIMEDOUT at the deadline, and the connection."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        consumer = hosts.start()
        agent.accept()
        assert consumer.status() == errno.ETIMEDOUT
        assert consumer.heard() == b""


def test_a_reset_before_accept(clients: Connections, serving: Running) -> None:
    """A connection that has ended while its request waited in the kernel is done with; the next request is served."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        mark = serving.log.mark
        os.kill(serving.pid, signal.SIGSTOP)
        try:
            gone, _ = clients.start(), clients.start()
            gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
            gone.close()
        finally:
            os.kill(serving.pid, signal.SIGCONT)
        ((request, sock),) = agent.accept()
        assert sock.getpeername() == clients.all[1].getsockname()
        agent.done(request, errno.EACCES)
        assert refused(clients.all[1])
        serving.log.wait("a request of the kernel's is refused", error="the connection has ended", since=mark)


def test_all_that_wait_are_accepted(clients: Connections, serving: Running) -> None:
    """Ten requests that came while the dispatcher slept are taken in one round; the agent dies, and each ends."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        mark = serving.log.mark
        os.kill(serving.pid, signal.SIGSTOP)
        try:
            for _ in range(10):
                clients.start()
        finally:
            os.kill(serving.pid, signal.SIGCONT)
        agent.accept(10)
        agent.close()
        assert all(map(refused, clients.all))
        serving.log.wait("handshake", status="EIO", since=mark, number=10)


def test_no_fd_is_left(hosts: Consumers) -> None:
    """EMFILE costs the one request its life, at once; with an fd free again the next one is served."""
    # Of its own: one that has completed a request on a connection that was reset closes the socket a moment later.
    with dispatcher(QUICK) as serving, ScriptedAgent(serving.runtime_dir) as agent:
        settled_fds(serving.pid)
        limits = resource.prlimit(serving.pid, resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir(f"/proc/{serving.pid}/fd")}
        lowest_free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(serving.pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            assert hosts.start().status() == errno.EIO
        finally:
            resource.prlimit(serving.pid, resource.RLIMIT_NOFILE, limits)
        consumer = hosts.start()
        ((request, _),) = agent.accept()
        agent.done(request, errno.EACCES)
        assert consumer.status() == errno.EACCES


def test_a_full_dispatcher_leaves_the_rest_in_the_kernel(clients: Connections) -> None:
    """With room for two, the others wait in the kernel's queue until one is done; none is refused."""
    with dispatcher("[limits]\nper-source = 2\n") as process, ScriptedAgent(process.runtime_dir) as agent:
        for _ in range(6):
            clients.start()
        for _ in range(3):
            for request, _ in agent.accept(2):
                agent.done(request, errno.EACCES)
        assert all(map(refused, clients.all))
        process.log.wait("handshake", status="EACCES", number=6)


def test_the_group_is_left_with_requests_queued(hosts: Consumers, serving: Running) -> None:
    """A request that no agent had taken when the last one went is ETIMEDOUT at once."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        consumer = hosts.start()
        serving.log.wait("an agent joins")
        agent.leave()
        assert consumer.status() in (errno.ETIMEDOUT, errno.ESRCH)


@pytest.mark.parametrize("raw_form", [False, True])
def test_the_family_is_missing(monkeypatch: pytest.MonkeyPatch, raw_form: bool) -> None:
    """A kernel that has not got it, by the controller's own word, is not served in this form, and in the other."""
    monkeypatch.setattr(genl, "_SPECIFICATION", dataclasses.replace(genl._SPECIFICATION, name="no-such-family"))
    refusal = genl.refusal()
    assert refusal is not None
    assert (refusal.reason, refusal.forbidden) == ("this kernel has no handshake family", False)
    configuration = Configuration(kernel=KernelSettings(raw=RawSettings(enabled=raw_form)))
    assert [form.name for form in served_forms(configuration)] == (["kernel-raw"] if raw_form else [])
    with pytest.raises(NetlinkError) as missing:
        genl.GenericWire()
    assert missing.value.errno == errno.EOPNOTSUPP


def test_what_the_kernel_takes() -> None:
    """The kernel takes the attributes that each operation is sent with, by its policy."""
    specification = builtin_specification("handshake")
    sock = RequestSocket(NETLINK_GENERIC)
    try:
        family = find_family(sock, "handshake")
        assert family is not None
        assert accepted_attributes(sock, family, specification, "accept") == {"handler-class"}
        assert accepted_attributes(sock, family, specification, "done") == {"status", "sockfd", "remote-auth"}
    finally:
        sock.close()


@pytest.mark.parametrize("raw_form", [False, True])
def test_the_permission_is_missing(raw_form: bool) -> None:
    """Without CAP_NET_ADMIN no group is joined, though anybody could: consumers get ESRCH and not a long wait."""

    async def serve() -> None:
        configuration = Configuration(kernel=KernelSettings(raw=RawSettings(enabled=raw_form)))
        dispatcher = Dispatcher(configuration, expected_groups=["tlshd"])
        KernelSources(dispatcher, Vault(configuration), configuration, loop=asyncio.get_running_loop())
        assert not dispatcher.sources
        dispatcher.stop()

    for name in ("handshake", "nlctrl"):
        builtin_specification(name)  # read while we may: the checkout need not be readable to others
    in_a_child(lambda: asyncio.run(serve()), NOBODY)


def test_namespaces_come_and_go() -> None:
    """One that comes after the start is served; gone, no socket keeps it alive; come again, served again."""
    with dispatcher(QUICK, "--netns", "blue") as process, ScriptedAgent(process.runtime_dir):
        before = sockets(process.pid)
        for _ in range(2):
            mark = process.log.mark
            debian("ip", "netns", "add", "blue")
            process.log.wait("joined the kernel's group", source="kernel:blue", since=mark)
            assert listeners("blue") == 1
            debian("ip", "netns", "delete", "blue")
            process.log.wait("left the kernel's group", source="kernel:blue", since=mark)
            until(lambda: sockets(process.pid) == before, "the namespace's sockets are closed")


def test_several_namespaces() -> None:
    """Beside our own, one by its name and one by its path: a consumer in each is served by the one agent."""
    names = ("red", "white")
    with contextlib.ExitStack() as stack:
        raw.inserted()
        for name in names:
            debian("ip", "netns", "add", name)
            stack.callback(debian, "ip", "netns", "delete", name)
        process = stack.enter_context(dispatcher(QUICK, "--netns", "red", "--netns", "/run/netns/white"))
        agent = stack.enter_context(ScriptedAgent(process.runtime_dir))
        for source in ("kernel", "kernel:red", "kernel:/run/netns/white"):
            process.log.wait("joined the kernel's group", source=source)
        for place in (None, *names):
            with contextlib.nullcontext() if place is None else network_namespace(place):
                near, far = socket.socketpair()
            with near, far, submitted(near, service=raw.KERNEL_TLS) as request:
                ((handed, _),) = agent.accept()
                agent.done(handed, errno.EACCES)
                assert request.outcome() == Outcome(errno.EACCES)


def test_nagle_is_off_meanwhile(serving: Running) -> None:
    """For the time of the handshake; then the consumer has what it had."""
    raw.inserted()
    for before in (0, 1):
        with ScriptedAgent(serving.runtime_dir) as agent, tcp_pairs() as ((near, _),):
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, before)
            with submitted(near, service=raw.KERNEL_TLS) as request:
                ((handed, sock),) = agent.accept()
                assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                agent.done(handed, errno.EACCES)
                assert request.outcome() == Outcome(errno.EACCES)
            assert bool(near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)) == bool(before)


def test_a_dispatcher_is_killed(hosts: Consumers) -> None:
    """The next dispatcher gets what was in flight without an outcome, and completes it with ETIMEDOUT."""
    with short_folder() as folder:
        words = ("dispatcher", "--config", str(write_configuration(folder)))
        first = Running(words, folder)
        first.log.wait("the dispatcher is ready")
        with ScriptedAgent(first.runtime_dir) as agent:
            consumer = hosts.start()
            ((request, sock),) = agent.accept()
            first.clean_up()
            agent.lost()
            second = Running(words, folder)
            try:
                second.log.wait("the dispatcher is ready")
                assert consumer.waits
                agent.connect(second.runtime_dir)
                agent.restore(request, sock)
                assert consumer.status() == errno.ETIMEDOUT
            finally:
                second.clean_up()


@pytest.mark.parametrize("victim", ["agent", "dispatcher"])
def test_kill_in_mid_handshake(clients: Connections, victim: str) -> None:
    """Our own agents: what the agent has in hand fails at once, without a dispatcher it goes on to its outcome.

    The next handshake is served.
    """
    with house() as service:
        for _ in range(5):
            clients.start().sendall(b"\x16")
        agent = service.workers()[0]
        until(lambda: len(sockets(agent)) >= 5 + 1, "the agent has all five in hand")
        mark = service.log.mark
        os.kill(agent if victim == "agent" else service.dispatcher, signal.SIGKILL)
        if victim == "dispatcher":
            service.log.wait("the dispatcher is gone", since=mark)
            for client in clients.all:
                client.sendall(b"none of TLS")
        assert all(map(refused, clients.all))
        service.wait_for_agents(since=mark)
        block = clients.start()
        block.sendall(b"none of TLS")
        assert refused(block)
        service.log.wait("handshake", since=mark, status="EPROTO")
