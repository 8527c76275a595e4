"""The local sockets against peers that break the rules: each harms itself alone."""

from __future__ import annotations

import array
import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.configuration.settings import AllowRule, Configuration, GroupSettings, Limits, Profile
from hsframework.dispatcher import connections
from hsframework.dispatcher.agents.operations import MOST_MISSED
from hsframework.dispatcher.keys import given as given_trusts
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.listeners import BACKLOG, close_listeners, open_listeners
from hsframework.dispatcher.policy import PeerCredentials, Policy, peer_credentials
from hsframework.dispatcher.sources.consumers import MOST_NONSENSE
from hsframework.errors import ConfigurationError, RequestRefused
from hsframework.interface import CrlCheck, Trust
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.packets import MAX_PACKET
from hsframework.local.trustfile import create_trust_file, read_trust_file
from hsframework.netlink.messages import NLM_F_ACK
from hsframework.netlink.spec import builtin_specification
from hsframework.process.kept import CONFIGURATION, SESSIONS, VAULT, Kept, member_name
from hsframework.process.service_manager import passed_descriptors
from hsframework.telemetry.metrics import MOST_CACHES, MOST_LABEL, exposition
from tests.support.house import REQUEST, Peer, codec, connected_pair, house, open_fds, serves


def message(operation: int, attributes: bytes, *, kind: int = LOCAL_MESSAGE_TYPE, length: int | None = None) -> bytes:
    """Make a message by hand."""
    size = 20 + len(attributes) if length is None else length
    return struct.pack("=IHHIIBBH", size, kind, 0, 77, 0, operation, 1, 0) + attributes


GROUP_TOY = struct.pack("=HH4s", 8, 2, b"toy\0")

BAD = {
    "nothing but a header's half": b"\x14\0\0\0\x20",
    "a length that lies": message(7, GROUP_TOY, length=4000),
    "another family": message(7, GROUP_TOY, kind=0x21),
    "an unknown operation": message(99, b""),
    "an unknown attribute": message(7, struct.pack("=HHI", 8, 999, 1)),
    "an attribute cut off": message(7, struct.pack("=HH", 600, 2)),
    "a number of three bytes": message(7, struct.pack("=HH4s", 7, 3, b"\1\0\0\0")),
    "a nest without its flag": message(7, struct.pack("=HHI", 8, 10, 0)),
    "an operation for the other side": message(3, b""),
    "a result from a consumer": message(11, b""),
}


REFUSED = {
    "an operation for the other side": (errno.EOPNOTSUPP, errno.EPERM),
}
"""The errno for a consumer and for an agent that has joined nothing; of all others EBADMSG."""


@pytest.mark.parametrize("name", BAD)
async def test_bad_messages_are_answered_and_harm_nobody(name: str) -> None:
    """A message that is not of the specification gets an error; its sender may go on, and so do the others."""
    async with house() as home:
        for connect, number in zip(
            (home.consumer, home.stranger), REFUSED.get(name, (errno.EBADMSG, errno.EBADMSG)), strict=True
        ):
            peer = await connect()
            peer.send_bytes(BAD[name])
            answer = await peer.expect("error")
            assert answer.error == number
            assert answer.values["message"]
        await serves(home)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=20))
def test_noise_harms_nobody(packets: list[bytes]) -> None:
    """Each packet of any bytes gets one error, and the connection lives."""

    async def make_noise() -> None:
        async with house() as home:
            for connect in (home.consumer, home.stranger):
                peer = await connect()
                for packet in packets:
                    peer.send_bytes(packet)
                for _ in packets:
                    await peer.expect("error")
            await serves(home)

    before = open_fds()
    asyncio.run(make_noise())
    assert open_fds() == before


async def test_too_long_a_message_ends_its_connection() -> None:
    """A packet past the limit cannot be told apart from half of one: its connection is closed, the others live."""
    async with house() as home:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MAX_PACKET)
        sock.connect(str(home.folder / "consumer.sock"))
        try:
            sock.send(b"x" * (MAX_PACKET + 100))
        except OSError as error:
            assert error.errno == errno.EMSGSIZE
            pytest.fail("this kernel does not send packets of that size; lower MAX_PACKET")
        await asyncio.get_running_loop().run_in_executor(None, sock.recv, 1)
        sock.close()
        await serves(home)


async def test_several_fds_in_a_message_end_its_connection() -> None:
    """More than one fd is refused and every one of them closed (the fd count of `run` proves it)."""
    with connected_pair() as (ours, theirs):
        async with house() as home:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            sock.connect(str(home.folder / "consumer.sock"))
            for number in (2, 60):
                fds = array.array("i", [ours.fileno(), theirs.fileno()] * (number // 2))
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)]
                sock.sendmsg([codec.encode("submit", REQUEST, sequence=1)], rights)
                assert await asyncio.get_running_loop().run_in_executor(None, sock.recv, 1) == b""
                sock.close()
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                sock.connect(str(home.folder / "consumer.sock"))
            sock.close()
            await serves(home)


def unconnected() -> socket.socket:
    return socket.socket()


def listening() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


@pytest.mark.parametrize(
    ("make", "number"),
    [(unconnected, errno.ENOTCONN), (listening, errno.ENOTCONN), (lambda: open(os.devnull, "rb"), errno.ENOTSOCK)],
)
async def test_only_connected_sockets_are_taken(make: Callable[[], Any], number: int) -> None:
    """A file, a fresh socket and a listening one are refused, and closed."""
    async with house() as home:
        agent, consumer = await home.agent("toy"), await home.consumer()
        with make() as thing:
            consumer.send("submit", REQUEST, thing.fileno())
            assert (await consumer.expect("error")).error == number
        consumer.send("submit", REQUEST)
        assert (await consumer.expect("error")).error == errno.EBADF
        assert agent.inbox.empty()


@pytest.mark.parametrize(
    ("values", "number"),
    [
        ({"message-type": 3}, errno.EINVAL),
        ({"auth-mode": 4}, errno.EINVAL),
        ({"auth-mode": 0, "psk": [{"identity": b"i", "key": b"k"}]}, errno.EINVAL),
        ({"auth-mode": 2}, errno.ENOKEY),
        ({"timeout": 0}, errno.EINVAL),
        ({"timeout": 10**9}, errno.EINVAL),
        ({"urgency": 8}, errno.EINVAL),
        ({"client-certificate": 9}, errno.EINVAL),
        ({"profile": "nobody's"}, errno.ENOENT),
        ({"identity": [{"certificate": [b"c"]}]}, errno.EINVAL),
        ({"psk": [{"identity": b"i", "key": b"k", "hash": "md5"}]}, errno.EINVAL),
    ],
)
async def test_requests_that_make_no_sense(values: dict[str, Any], number: int) -> None:
    """Each is refused with its errno and a text, before it reaches an agent."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            consumer.send("submit", {**REQUEST, **values}, ours.fileno())
            answer = await consumer.expect("error")
            assert answer.error == number, answer
            assert answer.values["message"]
            assert agent.inbox.empty()


async def test_a_flood_does_not_disturb_the_others() -> None:
    """A peer that sends without end and reads nothing is left alone once its answers pile up; others are served."""
    async with house() as home:
        flooder = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        flooder.connect(str(home.folder / "consumer.sock"))
        flooder.setblocking(False)
        sent = 0
        for _ in range(200):
            try:
                while sent < 100_000:
                    flooder.send(codec.encode("cancel", {"request-id": 1}, flags=NLM_F_ACK))
                    sent += 1
            except BlockingIOError:
                await asyncio.sleep(0)
        assert sent < 100_000, "the dispatcher never stopped reading"
        await serves(home)
        flooder.close()


async def test_a_consumer_that_sends_nonsense_is_cut_off() -> None:
    """After so many messages that make no sense its link ends; one whose requests are taken in between goes on."""
    with connected_pair() as (ours, _):
        async with house() as home:
            await home.agent("toy")
            peer = await home.consumer()
            for _ in range(MOST_NONSENSE - 1):
                peer.send_bytes(BAD["an unknown attribute"])
                await peer.expect("error")
            number = peer.send("submit", REQUEST, ours.fileno())
            assert (await peer.ask("cancel", {"request-id": number})).error == 0
            for _ in range(MOST_NONSENSE - 1):
                peer.send_bytes(BAD["an operation for the other side"])
                await peer.expect("error")
            peer.send_bytes(BAD["an unknown attribute"] * 60)
            await peer.closed()
            await serves(home)


async def test_connections_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit for a user a connection is closed at once; one that ends makes room."""
    monkeypatch.setattr(connections, "peer_credentials", lambda sock: PeerCredentials(1, 1000, 1000))
    allowed = (AllowRule(users=("1000",)),)
    async with house(Configuration(limits=Limits(connections_per_user=2), allow=allowed)) as home:
        first, _ = await home.consumer(), await home.consumer()
        third = await home.consumer()
        await third.closed()
        first.close()
        while len(home.local.listener.connections) == 2:
            await asyncio.sleep(0)
        last = await home.consumer()
        assert (await last.ask("cancel", {"request-id": 1})).error == 0


async def test_an_agent_must_join_before_it_accepts() -> None:
    """ACCEPT from a group that the peer has not joined is refused."""
    async with house() as home:
        await home.agent("toy")
        stranger = await home.stranger()
        stranger.send("accept", {"group": "toy"})
        assert (await stranger.expect("error")).error == errno.EPERM
        assert (await stranger.ask("join", {})).error == errno.EBADMSG


async def test_an_agent_that_joins_again_and_again() -> None:
    """It names protocols of sockets that no kernel has: refused, since what a group remembers of them is for good."""
    async with house() as home:
        agent = await home.agent("toy")
        for number in range(3):
            protocols = list(range(1000 + number * 12000, 1000 + (number + 1) * 12000))
            answer = await agent.ask("join", {"group": ["toy"], "socket-protocol": protocols})
            assert answer.error == errno.EINVAL
        await home.agent("toy", **{"socket-protocol": [6, 17, 261]})
        assert max(home.dispatcher.groups["toy"]._served) < 1024


OPERATIONS: dict[str, dict[str, Any]] = {
    "join": {"group": ["toy"]},
    "leave": {"group": ["toy"]},
    "accept": {"group": "toy"},
    "done": {"request-id": 1},
    "psk-lookup": {"request-id": 1, "identity": b"who"},
    "netlink": {"request-id": 1, "family": 16},
    "crowded": {"name": "a cache", "missed": 64},
    "traced": {"request-id": 1, "report": "[]"},
    "restore": {"request-id": 1, "group": "toy", "source": "local"},
    "submit": REQUEST,
    "cancel": {"request-id": 1},
    "trust": {"trust-id": 1, "size": 0},
    "trace": {"peer": "192.0.2.1"},
}
"""Every operation that is sent to the dispatcher."""

BY_PHASE = {
    "join": (0, errno.EINVAL),
    "leave": (errno.EPERM, 0),
    "accept": (errno.EPERM, errno.EAGAIN),
    "done": (errno.EPERM, 0),
    "psk-lookup": (errno.EPERM, errno.EBADF),
    "netlink": (errno.EPERM, errno.EBADF),
    "crowded": (errno.EPERM, 0),
    "traced": (errno.EPERM, errno.EBADF),
    "restore": (0, 0),
    "submit": (errno.EOPNOTSUPP, errno.EOPNOTSUPP),
    "cancel": (errno.EOPNOTSUPP, errno.EOPNOTSUPP),
    "trust": (errno.EOPNOTSUPP, errno.EOPNOTSUPP),
    "trace": (errno.EOPNOTSUPP, errno.EOPNOTSUPP),
}
"""The answer to an agent that has joined no group, and to one that has."""


@pytest.mark.parametrize("name", OPERATIONS)
async def test_operations_by_phase(name: str) -> None:
    """The table's operations for the phase are carried out, and no others; only restore takes a socket."""
    sent_here = {name for name, operation in builtin_specification("local").operations.items() if operation.request}
    assert set(OPERATIONS) == sent_here
    with connected_pair() as (ours, _):
        async with house() as home:
            stranger, member = await home.stranger(), await home.agent("toy")
            fd = ours.fileno() if name == "restore" else None
            for agent, number in zip((stranger, member), BY_PHASE[name], strict=True):
                assert (await agent.ask(name, OPERATIONS[name], fd)).error == number
            answer = await (await home.agent("toy")).ask(name, OPERATIONS[name], None if fd else ours.fileno())
            assert answer.error == (
                errno.EOPNOTSUPP if name in ("submit", "cancel", "trust", "trace") else errno.EBADMSG
            )


async def test_caches_that_are_too_small_are_counted() -> None:
    """By the agent's protocol and its name for the cache, of a bounded length; names past a bound share one."""
    async with house() as home:
        agent, metrics = await home.agent("toy"), home.dispatcher.metrics
        for name in ("verdicts", "verdicts", "x" * 100):
            assert (await agent.ask("crowded", {"name": name, "missed": 70})).error == 0
        assert metrics.cache_misses == {("toy", "verdicts"): 140, ("toy", "x" * MOST_LABEL): 70}
        for number in range(2 * MOST_CACHES):
            await agent.ask("crowded", {"name": f"cache {number}", "missed": 2**32 - 1})
        assert len(metrics.cache_misses) == MOST_CACHES + 1
        assert metrics.cache_misses["", ""] == (MOST_CACHES + 2) * MOST_MISSED
        shown = exposition(metrics)().decode()
        assert 'hsframework_cache_misses_for_want_of_room_total{cache="verdicts",process="toy"} 140.0' in shown


async def test_an_agent_that_has_left_is_no_stranger() -> None:
    """Its requests in hand are its own still: it may end them, and may not take more."""
    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            consumer.send("submit", REQUEST, ours.fileno())
            request = await agent.take_message()
            assert (await agent.ask("leave", {"group": ["toy"]})).error == 0
            assert (await agent.ask("accept", {"group": "toy"})).error == errno.EPERM
            assert (await agent.ask("done", {"request-id": request.values["request-id"]})).error == 0
            assert (await consumer.expect("result")).values["status"] == errno.EIO


class _PolicyCase:
    """A policy with one allow rule and one group of agents."""

    configuration = Configuration(
        profiles={"web": Profile(), "db": Profile()},
        allow=(AllowRule(users=("4001",), groups=("4100",), profiles=("web",)),),
        groups={"toy": GroupSettings(users=("4002",))},
    )


@pytest.mark.parametrize(
    ("peer", "profile", "allowed"),
    [
        (PeerCredentials(1, 0, 0), "db", True),
        (PeerCredentials(1, os.geteuid(), 0), "db", True),
        (PeerCredentials(1, 4001, 5), "web", True),
        (PeerCredentials(1, 4001, 5), None, True),
        (PeerCredentials(1, 4003, 4100), "web", True),
        (PeerCredentials(1, 4001, 5), "db", False),
        (PeerCredentials(1, 4002, 5), None, False),
    ],
)
def test_who_may_submit(peer: PeerCredentials, profile: str | None, allowed: bool) -> None:
    """Root and the own user everything; others what a rule gives their user or group."""
    policy = Policy(_PolicyCase.configuration)
    if allowed:
        policy.check_submit(peer, profile)
    else:
        with pytest.raises(RequestRefused) as caught:
            policy.check_submit(peer, profile)
        assert caught.value.errno == errno.EACCES


def test_groups_of_a_peer() -> None:
    """Its supplementary groups count as its own one does, and are asked of the kernel."""
    policy = Policy(Configuration(allow=(AllowRule(groups=("4711",)),)))
    policy.check_submit(PeerCredentials(1, 4000, 5, frozenset({4710, 4711})), None)
    with pytest.raises(RequestRefused):
        policy.check_submit(PeerCredentials(1, 4000, 5, frozenset({4710})), None)
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with one, two:
        assert peer_credentials(one).groups == frozenset(os.getgroups())


def test_who_may_join() -> None:
    """The users of a group and nobody else; what the supervisor adds counts too."""
    policy = Policy(_PolicyCase.configuration, agent_uids={"toy": [4005]})
    policy.check_join(PeerCredentials(1, 4002, 1), "toy")
    policy.check_join(PeerCredentials(1, 4005, 1), "toy")
    for peer, group in ((PeerCredentials(1, 4001, 1), "toy"), (PeerCredentials(1, 4002, 1), "other")):
        with pytest.raises(RequestRefused, match="may not join"):
            policy.check_join(peer, group)


def test_names_that_do_not_exist_are_errors_at_start() -> None:
    """A rule with an unknown user or group stops the start with its place in the file."""
    with pytest.raises(ConfigurationError, match=r"allow\[0\].users: there is no user 'no-such-user'"):
        Policy(Configuration(allow=(AllowRule(users=("no-such-user",)),)))
    with pytest.raises(ConfigurationError, match=r"groups.toy.users"):
        Policy(Configuration(groups={"toy": GroupSettings(users=("no-such-user",))}))


def test_a_default_profile_is_not_for_everybody() -> None:
    """A consumer that names no profile gets `default` only where policy gives it that."""
    configuration = Configuration(profiles={"default": Profile(alpn=("h2",))}, allow=(AllowRule(users=("4001",)),))
    vault, policy = Vault(configuration), Policy(configuration)
    assert vault.profile_name(None, "toy") == "default"
    with pytest.raises(RequestRefused):
        policy.check_submit(PeerCredentials(1, 4001, 1), vault.profile_name(None, "toy"))


def test_a_second_dispatcher_is_refused(tmp_path: Path) -> None:
    """A folder in use is an error that says so; what a dead dispatcher left is replaced."""
    first = open_listeners(tmp_path / "run")
    with pytest.raises(ConfigurationError, match="another dispatcher listens here"):
        open_listeners(tmp_path / "run")
    for listener in first.values():
        listener.close()
    for listener in open_listeners(tmp_path / "run").values():
        listener.close()


def test_a_busy_dispatcher_is_not_waited_for(tmp_path: Path) -> None:
    """A listener whose backlog is full is in use, too."""
    first = open_listeners(tmp_path)
    with contextlib.ExitStack() as stack:
        stack.callback(close_listeners, first)
        with contextlib.suppress(BlockingIOError):
            for _ in range(BACKLOG + 2):
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                waiting.setblocking(False)
                waiting.connect(str(tmp_path / "consumer.sock"))
        with pytest.raises(ConfigurationError, match="another dispatcher listens here"):
            open_listeners(tmp_path)


def test_a_folder_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """A user who could replace the sockets could be the dispatcher."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match="writable by its owner alone"):
        open_listeners(folder)


def test_a_folder_within_one_that_others_may_write_is_refused(tmp_path: Path) -> None:
    """Each folder of the path is looked at: whoever may rename one could be the dispatcher."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ConfigurationError, match=f"other users may write into {folder} .*--runtime-dir"):
        open_listeners(folder / "run")


def test_socket_activation_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Sockets passed as sd_listen_fds(3) says are used, and the variables do not reach children."""
    pid = os.fork()
    if not pid:
        status = 1
        try:
            made = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
            for index, sock in enumerate(made):
                sock.bind(str(tmp_path / f"passed{index}"))
                os.dup2(sock.fileno(), 3 + index)
            environment = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "agent:consumer"}
            found = open_listeners(tmp_path / "none", Kept(passed_descriptors(environment)))
            names = {name: sock.getsockname() for name, sock in found.items()}
            expected = {"agent": str(tmp_path / "passed0"), "consumer": str(tmp_path / "passed1")}
            status = 0 if names == expected and not environment else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_socket_activation_with_wrong_names(tmp_path: Path) -> None:
    """Names that are not ours stop the start with what to change in the socket unit."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        passed = {"web": sock.fileno()}
        with pytest.raises(ConfigurationError, match="FileDescriptorName"):
            open_listeners(tmp_path, Kept(passed))


@pytest.mark.parametrize("name", [CONFIGURATION, VAULT, SESSIONS, member_name("kernel"), member_name("kernel:blue")])
def test_what_a_predecessor_has_kept(tmp_path: Path, name: str) -> None:
    """A descriptor under any of the names of :mod:`hsframework.process.kept` does not stop the successor's start."""
    kept = Kept({name: os.memfd_create("kept")})
    for listener in open_listeners(tmp_path, kept).values():
        listener.close()
    assert kept.names() == {name}
    kept.drop_rest()


async def test_trust_travels_once(tmp_path: Path) -> None:
    """A trust comes as a sealed memfd before the first request that names it, and is not sent again."""

    async def submit(
        consumer: Peer, agent: Peer, sock: socket.socket, anchors: list[bytes]
    ) -> tuple[int, Trust | None]:
        consumer.send("submit", {**REQUEST, "trust-anchor": anchors, "crl": [b"r" * 10]}, sock.fileno())
        await agent.expect("ready")
        agent.send("accept", {"group": "toy", "count": 2})
        trust = None
        while True:
            message, fd = await agent.receive()
            if message.operation == "trust":
                assert fd is not None
                trust = read_trust_file(fd, message.values["size"])
                with pytest.raises(OSError, match="Operation not permitted"):
                    os.pwrite(fd, b"x", 0)
                os.close(fd)
            if message.operation == "accept":
                assert fd is not None
                os.close(fd)
                number = message.values["request-id"]
                agent.send("done", {"request-id": number, "status": errno.EIO})
                await consumer.expect("result")
                await agent.expect("error")
                return message.values["trust-id"], trust

    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            first, content = await submit(consumer, agent, ours, [b"a" * 60_000, b"b"])
            assert content == Trust((b"a" * 60_000, b"b"), (b"r" * 10,))
            assert await submit(consumer, agent, ours, [b"a" * 60_000, b"b"]) == (first, None)
            second, content = await submit(consumer, agent, ours, [b"c"])
            assert second != first
            assert content is not None


async def test_a_large_trust_is_handed_on_as_it_is() -> None:
    """A consumer's sealed file reaches the agent before the request, once; another one under its number replaces it."""
    one, two = (Trust((b"anchor",), (name * 300_000,), CrlCheck.REQUIRE) for name in (b"1", b"2"))

    async def submit(consumer: Peer, agent: Peer, sock: socket.socket) -> list[Trust]:
        consumer.send("submit", {**REQUEST, "trust-id": 5}, sock.fileno())
        await agent.expect("ready")
        agent.send("accept", {"group": "toy", "count": 2})
        came = []
        while True:
            message, fd = await agent.receive()
            if fd is not None:
                if message.operation == "trust":
                    came.append(read_trust_file(fd, message.values["size"]))
                os.close(fd)
            if message.operation == "accept":
                agent.send("done", {"request-id": message.values["request-id"], "status": errno.EIO})
                await consumer.expect("result")
                await agent.expect("error")
                return came

    with connected_pair() as (ours, _):
        async with house() as home:
            agent, consumer = await home.agent("toy"), await home.consumer()
            for trust in (one, two):
                fd, size = create_trust_file(trust)
                consumer.send("trust", {"trust-id": 5, "size": size}, fd)
                os.close(fd)
                assert await submit(consumer, agent, ours) == [trust]
                assert await submit(consumer, agent, ours) == []


async def test_large_trusts_that_are_refused() -> None:
    """One that is not sealed, one without its file, a number that did not come, and both ways at once."""
    with connected_pair() as (ours, _):
        async with house() as home:
            await home.agent("toy")
            consumer = await home.consumer()

            async def error(operation: str, values: dict[str, Any], fd: int | None) -> int | None:
                return (await consumer.ask(operation, values, fd)).error

            fd, size = create_trust_file(Trust((b"anchor",)))
            assert await error("trust", {"trust-id": 5, "size": size}, None) == errno.EBADF
            assert await error("trust", {"trust-id": 5, "size": size}, ours.fileno()) == errno.EINVAL
            consumer.send("trust", {"trust-id": 5, "size": size}, fd)
            own = {**REQUEST, "trust-anchor": [b"anchor"]}
            assert await error("submit", {**own, "trust-id": 5}, ours.fileno()) == errno.EINVAL
            assert await error("submit", {**REQUEST, "trust-id": 6}, ours.fileno()) == errno.ENOENT
            assert await error("trust", {"trust-id": 5, "size": size - 1}, fd) == errno.EINVAL
            os.close(fd)
            # The number does not stand for what it was before.
            assert await error("submit", {**REQUEST, "trust-id": 5}, ours.fileno()) == errno.ENOENT


async def test_a_strangers_large_trust_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user to whom policy gives nothing has no file examined, and none kept."""

    def refuse(*_: object) -> None:
        raise RequestRefused("add an [[allow]] rule", errno=errno.EACCES)

    async with house() as home:
        consumer = await home.consumer()
        monkeypatch.setattr(Policy, "check_submit", refuse)
        monkeypatch.setattr(given_trusts, "check_given", lambda fd, size: pytest.fail("the file was examined"))
        fd, size = create_trust_file(Trust((b"anchor",)))
        assert (await consumer.ask("trust", {"trust-id": 5, "size": size}, fd)).error == errno.EACCES
        os.close(fd)
