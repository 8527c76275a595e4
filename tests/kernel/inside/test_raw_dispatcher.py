"""The raw-netlink form of the service and the dispatcher: consumers by the module's device, agents by hand."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import hsframework.netlink.socket
from hsframework.configuration.settings import Configuration, KernelSettings, RawSettings
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.namespaces import network_namespace
from hsframework.dispatcher.sources.kernel import KernelSources
from hsframework.testing.network import udp_pair
from tests.kernel import raw
from tests.kernel.house import dispatcher, house as whole_house
from tests.kernel.machine import debian
from tests.kernel.raw import Outcome, Submission, submitted
from tests.kernel.raw_house import QUIC, RAW, SOURCE, TOY, Pair, await_joined
from tests.kernel.scripted import ScriptedAgent
from tests.support.house import Peer, house
from tests.support.running import Running, short_folder, sockets, tcp_pairs, until, write_configuration

QUICK = f"[timeouts]\nagent-restart = 0.05\n{RAW}"


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    raw.insert(protocols=4)
    yield
    raw.remove()


@pytest.fixture(autouse=True)
def left_nothing() -> Iterator[None]:
    """Close after each test what it has left open."""
    with raw.returned():
        yield


@pytest.fixture(scope="module")
def serving() -> Iterator[Running]:
    """A dispatcher without agents."""
    with dispatcher(QUICK) as process:
        yield process


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A consumer's socket and its peer."""
    with tcp_pairs() as (made,):
        yield made


def test_urgencies(serving: Running) -> None:
    """The agent is handed the highest first."""
    asked = [0, 7, 3, 7]
    with ScriptedAgent(serving.runtime_dir) as agent, tcp_pairs(len(asked)) as pairs, contextlib.ExitStack() as opened:
        mark = serving.log.mark
        os.kill(serving.pid, signal.SIGSTOP)
        try:
            for (near, _), urgency in zip(pairs, asked, strict=True):
                opened.enter_context(submitted(near, urgency=urgency))
        finally:
            os.kill(serving.pid, signal.SIGCONT)
        handed = agent.accept(len(asked))
        assert [sock.getpeername() for _, sock in handed] == [pairs[index][1].getsockname() for index in (1, 3, 2, 0)]
        for request, _ in handed:
            agent.done(request, errno.EACCES)
        serving.log.wait("handshake", status="EACCES", since=mark, number=len(asked))


@pytest.mark.parametrize(
    ("group", "number", "values", "heard"),
    [
        ("tlshd", 1, {"in-kernel": True}, errno.EIO),
        (QUIC, 2, {"in-kernel": True}, 0),
        (QUIC, 2, {}, errno.EIO),
    ],
    ids=["TLS is asked for", "of others the agent's word is needed", "and enough"],
)
def test_success_is_checked(
    serving: Running, pair: Pair, group: str, number: int, values: dict[str, object], heard: int
) -> None:
    """By what the group's sessions are: the kernel's TLS shows in the socket."""
    with ScriptedAgent(serving.runtime_dir, group) as agent, submitted(pair[0], protocol=number) as request:
        ((handed, _),) = agent.accept()
        agent.done(handed, 0, **values)
        assert request.outcome() == Outcome(heard)


def test_a_tls_session_on_another_kind_of_socket(serving: Running) -> None:
    """A UDP socket in the group of TLS can have no session that was asked for: success is EIO."""
    near, far = udp_pair()
    with near, far, ScriptedAgent(serving.runtime_dir) as agent, submitted(near) as request:
        ((handed, _),) = agent.accept()
        agent.done(handed, 0, **{"in-kernel": True})
        assert request.outcome() == Outcome(errno.EIO)


def test_a_name_that_is_no_text(serving: Running, pair: Pair) -> None:
    """No agent can be told of it: the request ends with EIO at once, and the next one is served."""
    with (
        ScriptedAgent(serving.runtime_dir) as agent,
        submitted(pair[0], peername=os.fsdecode(b"caf\xe9.test")) as request,
        submitted(pair[1]) as following,
    ):
        ((handed, _),) = agent.accept()
        agent.done(handed, errno.EACCES)
        assert (request.outcome(), following.outcome()) == (Outcome(errno.EIO), Outcome(errno.EACCES))


def test_groups_that_the_module_has_not(pair: Pair) -> None:
    """Their numbers are past its protocols: they are set aside, once, and the group that it has is served."""
    until(_removed, "nobody uses the module")
    raw.insert(protocols=3)
    numbers = "protocols = {tlshd = 1, fourth = 4, fifth = 5, thousandth = 1000}"
    groups = ("tlshd", "fourth", "fifth", "thousandth")
    try:
        with dispatcher(f"[kernel.raw]\nenabled = true\n{numbers}\n") as process, contextlib.ExitStack() as opened:
            agents = [opened.enter_context(ScriptedAgent(process.runtime_dir, group)) for group in groups]
            for group in groups[1:]:
                process.log.wait("the kernel's requests of a group cannot be taken", source=SOURCE, group=group)
            await_joined(process)
            for _ in range(3):
                with submitted(pair[0]) as request:
                    ((handed, _),) = agents[0].accept()
                    agents[0].done(handed, errno.EACCES)
                    assert request.outcome() == Outcome(errno.EACCES)
            assert len(process.log.events("the kernel's requests of a group cannot be taken")) == 3
    finally:
        raw.insert(protocols=4)


def test_the_consumer_cancels(serving: Running, pair: Pair) -> None:
    """A late report of the agent changes nothing, and the next request on the socket is served."""
    with ScriptedAgent(serving.runtime_dir) as agent:
        with submitted(pair[0]) as request:
            ((handed, _),) = agent.accept()
            request.cancel()
            assert request.outcome() == Outcome(errno.ECANCELED)
            agent.done(handed, 0)
        with submitted(pair[0]) as request:
            ((handed, _),) = agent.accept()
            agent.done(handed, errno.EACCES)
            assert request.outcome() == Outcome(errno.EACCES)


def test_a_full_dispatcher_leaves_the_rest_in_the_module() -> None:
    """With room for two, the others wait until one is done; past the module's limit EAGAIN; none is lost."""
    raw.set_limit(4)
    try:
        with (
            dispatcher(f"[limits]\nper-source = 2\n{RAW}") as process,
            ScriptedAgent(process.runtime_dir) as agent,
            tcp_pairs(7) as pairs,
            contextlib.ExitStack() as opened,
        ):
            await_joined(process)
            first = [opened.enter_context(submitted(near)) for near, _ in pairs[:2]]
            handed = agent.accept(2)
            rest = [opened.enter_context(submitted(near)) for near, _ in pairs[2:6]]
            with Submission() as refused, pytest.raises(OSError) as full:
                refused.submit(pairs[6][0].fileno())
            assert full.value.errno == errno.EAGAIN
            for _ in range(3):
                for request, _ in handed:
                    agent.done(request, errno.EACCES)
                handed = agent.accept(2) if any(request.waits for request in rest) else []
            assert {request.outcome() for request in (*first, *rest)} == {Outcome(errno.EACCES)}
    finally:
        raw.set_limit(32)


def test_a_full_group_keeps_no_other_waiting() -> None:
    """TLS at the limits of dispatcher and module, with an agent that answers nothing: QUIC goes on, one by one."""
    raw.set_limit(4)
    try:
        with (
            dispatcher(f"[limits]\nper-source = 2\n{RAW}") as process,
            ScriptedAgent(process.runtime_dir) as stalled,
            ScriptedAgent(process.runtime_dir, QUIC) as idle,
            tcp_pairs(8) as pairs,
            contextlib.ExitStack() as opened,
        ):
            await_joined(process)
            await_joined(process, QUIC)
            first = [opened.enter_context(submitted(near)) for near, _ in pairs[:2]]
            stalled.accept(2)
            queued = [opened.enter_context(submitted(near)) for near, _ in pairs[2:6]]
            with Submission() as refused, pytest.raises(OSError) as full:
                refused.submit(pairs[6][0].fileno())
            assert full.value.errno == errno.EAGAIN
            for _ in range(5):
                with tcp_pairs() as ((near, _),), submitted(near, protocol=2) as request:
                    ((handed, _),) = idle.accept()
                    idle.done(handed, errno.EACCES)
                    assert request.outcome() == Outcome(errno.EACCES)
            assert all(request.waits for request in (*first, *queued))
    finally:
        raw.set_limit(32)


def test_no_fd_is_left(serving: Running, pair: Pair) -> None:
    """A request that is accepted then ends with EIO, at once; one in flight is completed; then all goes on."""
    with ScriptedAgent(serving.runtime_dir) as agent, tcp_pairs() as (other,), submitted(other[0]) as in_flight:
        ((handed, _),) = agent.accept()
        limits = resource.prlimit(serving.pid, resource.RLIMIT_NOFILE)
        used = {int(name) for name in os.listdir(f"/proc/{serving.pid}/fd")}
        lowest_free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(serving.pid, resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
        try:
            with submitted(pair[0]) as request:
                assert request.outcome() == Outcome(errno.EIO)
            agent.done(handed, errno.EACCES)
            assert in_flight.outcome() == Outcome(errno.EACCES)
        finally:
            resource.prlimit(serving.pid, resource.RLIMIT_NOFILE, limits)
        with submitted(pair[0]) as request:
            ((handed, _),) = agent.accept()
            agent.done(handed, errno.EACCES)
            assert request.outcome() == Outcome(errno.EACCES)


def test_everything_is_killed(pair: Pair) -> None:
    """The last copy of the socket goes with the last process, and that ends the request."""
    with whole_house(more=RAW, plugins={QUIC: TOY}) as service:
        service.wait_for_agents(protocol=QUIC)
        await_joined(service, QUIC)
        with submitted(pair[0], protocol=raw.QUIC) as request:
            assert pair[1].recv(100) == f"{QUIC} CLIENT\n".encode()
            for pid in service.processes():
                with contextlib.suppress(ProcessLookupError):  # gone with the supervisor before it
                    os.kill(pid, signal.SIGKILL)
            assert request.outcome() == Outcome(errno.EIO)


def test_the_module_comes_and_goes(pair: Pair) -> None:
    """Loaded after the start: found.  It cannot be unloaded while an agent serves it; when none does, it can."""
    until(_removed, "nobody uses the module")
    with dispatcher(QUICK) as process, ScriptedAgent(process.runtime_dir, QUIC) as agent:
        process.log.wait("the kernel's requests cannot be taken", source=SOURCE)
        for _ in range(2):
            mark = process.log.mark
            raw.insert(protocols=4)
            await_joined(process, QUIC, since=mark)
            with submitted(pair[0], protocol=raw.QUIC) as request:
                ((handed, _),) = agent.accept()
                with pytest.raises(AssertionError, match="in use"):
                    raw.remove()
                agent.done(handed, errno.EACCES)
                assert request.outcome() == Outcome(errno.EACCES)
            agent.leave()
            until(_removed, "nobody uses the module")
            agent.join()
    raw.insert(protocols=4)


def _removed() -> bool:
    with contextlib.suppress(AssertionError):
        raw.remove()
    return not raw.present()


def test_namespaces(pair: Pair) -> None:
    """A namespace that goes with a request in flight: the request is completed, and no socket keeps the namespace."""
    with dispatcher(QUICK, "--netns", "green") as process, ScriptedAgent(process.runtime_dir) as agent:
        await_joined(process)
        before = sockets(process.pid)
        debian("ip", "netns", "add", "green")
        for source in ("kernel:green", "kernel-raw:green"):
            await_joined(process, source=source)
        near, far = _pair_in("green")
        for form in (raw.RAW, raw.KERNEL_TLS):
            with submitted(near, service=form) as request:
                ((handed, _),) = agent.accept()
                agent.done(handed, errno.EACCES)
                assert request.outcome() == Outcome(errno.EACCES)
        with submitted(near) as first, submitted(far, service=raw.KERNEL_TLS) as second:
            handed_over = agent.accept(2)
            debian("ip", "netns", "delete", "green")
            process.log.wait("left the kernel's group", source="kernel-raw:green")
            for request_id, _ in handed_over:
                agent.done(request_id, errno.EACCES)
            assert first.outcome() == second.outcome() == Outcome(errno.EACCES)
        near.close()
        far.close()
        until(lambda: sockets(process.pid) == before, "the namespace's sockets are closed")
        assert not process.log.events("DONE is refused")


def _pair_in(namespace: str) -> Pair:
    debian("ip", "-n", namespace, "link", "set", "lo", "up")
    with network_namespace(namespace), socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname())
        return near, server.accept()[0]


def test_what_is_given_back_to_nobody(serving: Running, pair: Pair) -> None:
    """A socket that is no request's: each form refuses its DONE, which is logged; the dispatcher goes on."""
    for source in ("kernel", SOURCE):
        mark = serving.log.mark
        with ScriptedAgent(serving.runtime_dir) as agent:
            agent.restore(1, pair[1], source)
            serving.log.wait("DONE is refused", source=source, since=mark)


def test_a_dispatcher_that_comes_back(pair: Pair) -> None:
    """By hand: the agent keeps its copy while no dispatcher is there, so the request lives, and is given back."""
    with short_folder() as folder:
        words = ("dispatcher", "--config", str(write_configuration(folder, RAW)))
        first = Running(words, folder)
        first.log.wait("the dispatcher is ready")
        with ScriptedAgent(first.runtime_dir) as agent, contextlib.ExitStack() as opened:
            await_joined(first)
            request = opened.enter_context(submitted(pair[0]))
            ((handed, sock),) = agent.accept()
            first.clean_up()
            agent.lost()
            second = Running(words, folder)
            try:
                second.log.wait("the dispatcher is ready")
                assert request.waits
                agent.connect(second.runtime_dir)
                agent.restore(handed, sock, SOURCE)
                assert request.outcome() == Outcome(errno.EIO)
            finally:
                second.clean_up()


@pytest.mark.parametrize("form", [raw.RAW, raw.KERNEL_TLS], ids=["raw", "the kernel's own"])
def test_an_overrun_loses_nothing(monkeypatch: pytest.MonkeyPatch, form: int) -> None:
    """More announcements than the queue holds.  What was taken is served, and so is what comes later.

    The kernel's own form takes nothing while the queue is full, and says ESRCH; the module takes what there is.
    """
    monkeypatch.setattr(hsframework.netlink.socket, "_NOTIFICATION_QUEUE", 1)

    async def test() -> None:
        raw_form = RawSettings(enabled=form == raw.RAW)
        configuration = Configuration(kernel=KernelSettings(keyrings=(), raw=raw_form))
        async with house(configuration) as home:
            loop = asyncio.get_running_loop()
            sources = KernelSources(home.dispatcher, Vault(configuration), configuration, loop=loop)
            agent = await home.agent("tlshd")
            with tcp_pairs(30) as pairs, contextlib.ExitStack() as opened:
                # The loop does not turn here, so nothing is read.
                requests = list(_submit_until_refused(opened, pairs[:-1], form))
                assert _drops() or form == raw.KERNEL_TLS
                assert len(requests) == 29 if form == raw.RAW else 0 < len(requests) < 29
                for request in requests:
                    await _serve(agent, request)
                await _serve(agent, opened.enter_context(submitted(pairs[-1][0], service=form)))
            sources.close()

    asyncio.run(test())


def _submit_until_refused(opened: contextlib.ExitStack, pairs: list[Pair], form: int) -> Iterator[Submission]:
    for near, _ in pairs:
        request = opened.enter_context(Submission())
        try:
            request.submit(near.fileno(), service=form)
        except OSError as error:
            assert error.errno == errno.ESRCH
            return
        yield request


async def _serve(agent: Peer, request: Submission) -> None:
    """Serve any request of those that wait, and assert the outcome of this one."""
    message, fd = await agent.take("tlshd")
    os.close(fd)
    agent.send("done", {"request-id": message.values["request-id"], "status": errno.EACCES})
    assert await asyncio.to_thread(request.outcome) == Outcome(errno.EACCES)


def _drops() -> int:
    """Count the announcements that found the queue of a member of family 23 full."""
    rows = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return sum(int(row[8]) for row in rows if row[1] == "23")
