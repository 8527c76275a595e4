"""The raw-netlink form of the service through the whole house: consumers by the module's device, and our agents."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import ssl
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.testing.certificates import Credential
from tests.kernel import raw
from tests.kernel.house import ROOT, End, House, dispatcher, house
from tests.kernel.machine import add_key, debian, describe_key
from tests.kernel.raw import Outcome, Submission, submitted
from tests.kernel.scripted import ScriptedAgent
from tests.support.running import Running, short_folder, sockets, tcp_pairs, until, write_configuration

QUIC, PSP = "toyquic", "toypsp"
RAW = f"[kernel.raw]\nenabled = true\nprotocols = {{tlshd = 1, {QUIC} = 2, {PSP} = 3, further = 4}}\n"
QUICK = f"[timeouts]\nagent-restart = 0.05\n{RAW}"
TOY = (Path(raw.__file__).parent / "toy_plugin.py").read_text()
SERVER, CLIENT = ROOT.issue(["server.test"]), ROOT.issue(["client.test"])
SOURCE = "kernel-raw"
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    raw.insert(protocols=4)
    yield
    raw.remove()


@pytest.fixture(scope="module")
def service() -> Iterator[House]:
    """Agents of TLS and of two toys, with certificates for both roles."""
    with house(client=End(CLIENT), server=End(SERVER), more=RAW, plugins={QUIC: TOY, PSP: TOY}) as made:
        for group in ("tlshd", QUIC, PSP):
            await_joined(made, group)
        made.wait_for_agents(protocol=QUIC)
        made.wait_for_agents(protocol=PSP)
        yield made


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


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


def _context(kind: int, credential: Credential, folder: Path) -> ssl.SSLContext:
    files = credential.write(folder)
    context = ssl.SSLContext(kind)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(files.ca)
    context.load_cert_chain(files.certificate, files.private_key)
    return context


def tls_peer(sock: socket.socket, folder: Path, *, server: bool) -> None:
    """OpenSSL at the other end: a handshake, a line each way."""
    sock.settimeout(20)
    context = _context(
        ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT, SERVER if server else CLIENT, folder
    )
    if server:
        context.num_tickets = 0
    with context.wrap_socket(sock.dup(), server_side=server) as session:
        session.sendall(b"from OpenSSL")
        assert session.recv(100) == b"from the consumer"


def talk(sock: socket.socket) -> None:
    """The consumer's side of it, in plain text as it sees it."""
    sock.settimeout(20)
    assert sock.recv(100) == b"from OpenSSL"
    sock.sendall(b"from the consumer")


def toy_peer(sock: socket.socket, name: str) -> bytes:
    """The other end of a toy's handshake; what the agent said."""
    sock.settimeout(20)
    said = sock.recv(100)
    sock.send(f"{name} SERVER\n".encode())
    return said


def udp_pair() -> Pair:
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for sock in (near, far):
        sock.bind(("127.0.0.1", 0))
    near.connect(far.getsockname())
    far.connect(near.getsockname())
    return near, far


def await_joined(process: Running, group: str = "tlshd", source: str = SOURCE, since: int = 0) -> None:
    process.log.wait("joined the kernel's group", group=group, source=source, since=since)


def test_three_protocols_at_once(service: House, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """TLS with OpenSSL and two toys, over TCP and UDP, interleaved: each is served by the agent of its own group."""
    mark = service.log.mark
    with contextlib.ExitStack() as opened:
        tls = opened.enter_context(tcp_pairs(3))
        psp = opened.enter_context(tcp_pairs(3))
        quic = [udp_pair() for _ in range(3)]
        for near, far in quic:
            opened.enter_context(near)
            opened.enter_context(far)
        requests: list[Submission] = []
        peers: list[Future[object]] = []
        for index in range(3):
            numbers = (raw.TLSHD, raw.QUIC, raw.PSP)
            for number, (near, _) in zip(numbers, (tls[index], quic[index], psp[index]), strict=True):
                values = {"protocol": number, "peername": "server.test"}
                requests.append(opened.enter_context(submitted(near, **values)))
            peers.append(pool.submit(tls_peer, tls[index][1], tmp_path, server=True))
            assert toy_peer(quic[index][1], QUIC) == f"{QUIC} CLIENT\n".encode()
            assert toy_peer(psp[index][1], PSP) == f"{PSP} CLIENT\n".encode()
        assert [request.outcome().status for request in requests] == [0] * 9
        for near, _ in tls:
            talk(near)
        for peer in peers:
            peer.result(20)
    for group in ("tlshd", QUIC, PSP):
        service.log.wait("handshake", group=group, source=SOURCE, status="OK", since=mark, number=3)
    assert not service.log.events("DONE is refused")


def test_a_group_without_an_agent(service: House, pair: Pair) -> None:
    """Is not joined, whoever serves the others: ESRCH at once."""
    with Submission() as request, pytest.raises(OSError) as refused:
        request.submit(pair[0].fileno(), protocol=4)
    assert refused.value.errno == errno.ESRCH


@pytest.mark.parametrize("form", [raw.RAW, raw.KERNEL_TLS], ids=["raw", "the kernel's own"])
@pytest.mark.parametrize("role", [raw.CLIENT, raw.SERVER], ids=["client", "server"])
def test_certificates(
    service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path, role: int, form: int
) -> None:
    """Both roles, with OpenSSL as the peer, by the module and by tls_client_hello_x509 and tls_server_hello_x509.

    The consumer is told a key for its peer, which is gone afterwards.
    """
    with submitted(pair[0], role=role, auth=raw.X509, peername="server.test", service=form) as request:
        peer = pool.submit(tls_peer, pair[1], tmp_path, server=role == raw.CLIENT)
        outcome = request.outcome()
        assert outcome.status == 0
        assert len(outcome.peers) == 1
        talk(pair[0])
        peer.result(20)
        until(lambda: _is_gone(outcome.peers[0]), "the peer's certificate is a key no more")


def _is_gone(serial: int) -> bool:
    try:
        describe_key(serial)
    except OSError:
        return True
    return False


def test_the_kernels_own_anonymous_client(service: House, pair: Pair, pool: ThreadPoolExecutor, tmp_path: Path) -> None:
    """tls_client_hello_anon, refused by a server that wants a certificate, and by a wrong name."""
    with submitted(pair[0], peername="other.test", service=raw.KERNEL_TLS) as request:
        peer = pool.submit(tls_peer, pair[1], tmp_path, server=True)
        assert request.outcome().status == errno.EACCES
        with pytest.raises((ssl.SSLError, OSError)):
            peer.result(20)


def test_pre_shared_keys(service: House, pair: Pair) -> None:
    """Both ends ours: the client names its key by serial, the server finds it in its keyring, and both report it."""
    ring = int(debian("keyctl", "newring", "raw", "@u"))
    name = "NVMe0R01 nqn.host nqn.subsystem"
    key = add_key("user", name, os.urandom(32), ring)
    before = describe_key(ring)
    with (
        submitted(pair[0], auth=raw.PSK, peers=(key,), keyring=ring, priority=7) as client,
        submitted(pair[1], auth=raw.PSK, role=raw.SERVER, keyring=ring) as server,
    ):
        assert client.outcome() == Outcome(0, (key,))
        assert server.outcome() == Outcome(0, (key,))
        pair[0].send(b"through TLS")
        assert pair[1].recv(100) == b"through TLS"
    assert describe_key(ring) == before
    debian("keyctl", "unlink", str(ring), "@u")


def test_an_unknown_key(service: House, pair: Pair) -> None:
    """A serial that names nothing is ENOKEY, or EIO for a keyring that ACCEPT cannot link."""
    with submitted(pair[0], auth=raw.PSK, peers=(2_000_000_000,)) as request:
        assert request.outcome() == Outcome(errno.ENOKEY)
    with submitted(pair[0], auth=raw.PSK, keyring=2_000_000_000) as request:
        assert request.outcome() == Outcome(errno.EIO)


def test_a_rekey_is_refused(service: House, pair: Pair) -> None:
    """The form has room for it; no agent can, and says so."""
    with submitted(pair[0], handshake_type=1) as request:
        assert request.outcome() == Outcome(errno.EOPNOTSUPP)


def test_priorities(serving: Running) -> None:
    """The agent is handed the highest first."""
    asked = [0, 7, 3, 7]
    with ScriptedAgent(serving.runtime_dir) as agent, tcp_pairs(len(asked)) as pairs, contextlib.ExitStack() as opened:
        mark = serving.log.mark
        os.kill(serving.pid, signal.SIGSTOP)
        try:
            for (near, _), priority in zip(pairs, asked, strict=True):
                opened.enter_context(submitted(near, priority=priority))
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


def test_the_consumer_cancels(serving: Running, pair: Pair) -> None:
    """What the agent says later changes nothing, and the next request on the socket is served."""
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
            dispatcher(f"[limits]\ntotal = 2\n{RAW}") as process,
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


def test_an_agent_is_killed(service: House, pair: Pair) -> None:
    """Its consumer hears EIO at once, the others nothing, and the next request is served by its successor."""
    with tcp_pairs() as (other,), submitted(other[0], protocol=raw.PSP) as untouched:
        with submitted(pair[0], protocol=raw.QUIC) as request:
            assert pair[1].recv(100) == f"{QUIC} CLIENT\n".encode()
            mark = service.log.mark
            os.kill(service.workers(QUIC)[0], signal.SIGKILL)
            assert request.outcome() == Outcome(errno.EIO)
            assert untouched.waits
        service.wait_for_agents(protocol=QUIC, since=mark)
        toy_peer(other[1], PSP)
        assert untouched.outcome() == Outcome(0)
    with tcp_pairs() as ((near, far),), submitted(near, protocol=raw.QUIC) as request:
        toy_peer(far, QUIC)
        assert request.outcome() == Outcome(0)


def test_the_dispatcher_is_killed(service: House, pair: Pair) -> None:
    """Its successor completes what was in flight, and serves what comes."""
    with submitted(pair[0], protocol=raw.PSP) as request:
        assert pair[1].recv(100) == f"{PSP} CLIENT\n".encode()
        mark = service.log.mark
        os.kill(service.dispatcher, signal.SIGKILL)
        assert request.outcome() == Outcome(errno.EIO)
        assert pair[1].recv(1) == b""
    service.log.wait("a request of an earlier dispatcher is given back", since=mark)
    for protocol in ("tls13", QUIC, PSP):
        service.wait_for_agents(protocol=protocol, since=mark)
    with tcp_pairs() as ((near, far),), submitted(near, protocol=raw.PSP) as request:
        toy_peer(far, PSP)
        assert request.outcome() == Outcome(0)


def test_everything_is_killed(pair: Pair) -> None:
    """The last copy of the socket goes with the last process, and that ends the request."""
    with house(more=RAW, plugins={QUIC: TOY}) as service:
        service.wait_for_agents(protocol=QUIC)
        await_joined(service, QUIC)
        with submitted(pair[0], protocol=raw.QUIC) as request:
            assert pair[1].recv(100) == f"{QUIC} CLIENT\n".encode()
            for pid in service.processes():
                os.kill(pid, signal.SIGKILL)
            assert request.outcome() == Outcome(errno.EIO)


def test_the_module_comes_and_goes(pair: Pair) -> None:
    """Loaded after the start: found.  It cannot be unloaded while an agent serves it; when none does, it can."""
    raw.remove()
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
    from hsframework.dispatcher.namespaces import network_namespace

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
def test_an_overrun_loses_nothing(serving: Running, form: int) -> None:
    """While the dispatcher sleeps its queue of announcements overruns.  What was taken until then is served, and so is
    what comes once it has read: in the raw form what came in between, too."""
    with ScriptedAgent(serving.runtime_dir) as agent, tcp_pairs(2) as pairs, contextlib.ExitStack() as opened:
        await_joined(serving, source=SOURCE if form == raw.RAW else "kernel")
        mark = serving.log.mark
        os.kill(serving.pid, signal.SIGSTOP)
        try:
            early = opened.enter_context(submitted(pairs[0][0], service=form))
            overrun = _announce_until_full(form)
            expected = 1
            late = opened.enter_context(Submission())
            if form == raw.RAW:
                late.submit(pairs[1][0].fileno())
                expected = 2
            else:
                assert overrun == errno.ESRCH
        finally:
            os.kill(serving.pid, signal.SIGCONT)
        for request, _ in agent.accept(expected):
            agent.done(request, errno.EACCES)
        assert early.outcome() == Outcome(errno.EACCES)
        if form == raw.KERNEL_TLS:
            late.submit(pairs[1][0].fileno(), service=form)
            ((request, _),) = agent.accept()
            agent.done(request, errno.EACCES)
        assert late.outcome() == Outcome(errno.EACCES)
        assert not serving.log.events("ACCEPT failed, and perhaps a request with it", since=mark)


def _announce_until_full(form: int) -> int:
    """Requests that are withdrawn at once, until the announcements are more than the dispatcher's queue holds."""
    for _ in range(60_000):
        near, far = socket.socketpair()
        with near, far, Submission() as request:
            try:
                request.submit(near.fileno(), service=form)
            except OSError as error:
                return error.errno or 0
        if form == raw.RAW and _drops():
            return 0
    raise AssertionError("there is no end to the queue")


def _drops() -> int:
    """Announcements that found the queue of a member of family 23 full."""
    rows = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
    return sum(int(row[8]) for row in rows if row[1] == "23" and row[2] != "0")
