"""PSP by the kernel itself: the plugin at both ends of a path between two netdevsim devices."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.namespaces import network_namespace
from hsframework.dispatcher.planted import session_planted
from hsframework.errors import StreamError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Handshaker, Request, Result, Role
from hsframework_psp import hooks
from hsframework_psp.devices import Association
from hsframework_psp.exchange import State
from hsframework_psp.kernel_device import KernelAssociation
from hsframework_psp.keys import Grant, Key
from hsframework_psp.plugin import PspHandshaker, _Run
from hsframework_psp.renewal import RenewalState
from hsframework_psp.settings import Settings
from hsframework_psp.streams import AsyncPspStream, PspStream
from hsframework_psp.versions import Version
from hsframework_tls13.plugin import Tls13Handshaker
from hsframework_tls13.settings import Settings as TlsSettings
from tests.kernel.machine import debian
from tests.kernel.psp import End, connection, path
from tests.kernel.traffic import both_ways, receive
from tests.unit.psp.handshakes import AS_CLIENT, AS_SERVER, established, exactly

MIB = os.urandom(1 << 20)
DEADLINE = 4.0
SPARE = 1.0
"""Seconds between a request's deadline and its end here: a busy machine is late with the last word before it."""
"""Seconds, for handshakes that are to end there."""
Outcome = Result | BaseException


@dataclass(frozen=True)
class Path:
    """Both ends, each with an agent's handshaker in its namespace."""

    near: End
    far: End
    client: PspHandshaker
    server: PspHandshaker


@pytest.fixture(scope="module")
def ends() -> Iterator[Path]:
    """One path for all tests; every test makes connections of its own."""
    with path() as (near, far):
        settings = Settings(versions=("aes-gcm-256", "aes-gcm-128", "aes-gmac-128", "aes-gmac-256"), device="kernel")
        made = []
        for end in (near, far):
            with network_namespace(end.namespace):
                made.append(PspHandshaker(settings))
                # An agent is in one namespace for good; this process goes to and fro.
                assert made[-1]._search._own is not None
                made[-1]._search._own.get()
        try:
            yield Path(near, far, *made)
        finally:
            for handshaker in made:
                handshaker.close()


async def _one(sock: socket.socket, request: Request, handshaker: Handshaker, seconds: float) -> Outcome:
    """Run one end as the agent runs it: cancelled when its time is over, its socket closed when it has failed."""
    readiness = Readiness(asyncio.get_running_loop())
    endpoint = StreamEndpoint(sock, readiness)
    try:
        async with asyncio.timeout(seconds):
            deadline = asyncio.get_running_loop().time() + seconds - SPARE
            return await handshaker.handshake(replace(request, deadline=deadline), endpoint)
    except Exception as error:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        return error
    finally:
        endpoint.leave()
        readiness.close()


def shake(
    sockets: tuple[socket.socket, socket.socket],
    client: Handshaker,
    server: Handshaker,
    *,
    as_client: Request = AS_CLIENT,
    as_server: Request = AS_SERVER,
    seconds: float = 20,
) -> tuple[Outcome, Outcome]:
    """Run both ends."""

    async def scene() -> tuple[Outcome, Outcome]:
        return await asyncio.gather(
            _one(sockets[0], as_client, client, seconds), _one(sockets[1], as_server, server, seconds)
        )

    return asyncio.run(scene())


def results(ends: Path, sockets: tuple[socket.socket, socket.socket]) -> tuple[Result, Result]:
    first, second = shake(sockets, ends.client, ends.server)
    assert isinstance(first, Result), first
    assert isinstance(second, Result), second
    return first, second


def attach(end: End, result: Result, role: Role, sock: socket.socket) -> PspStream:
    """Attach a session as a consumer in the socket's namespace does it."""
    sock.settimeout(20)
    with network_namespace(end.namespace):
        stream = hooks.hsframework_attach_session(established(result, role), sock, False)
    assert isinstance(stream, PspStream)
    return stream


@contextlib.contextmanager
def session(ends: Path, *, ipv6: bool = False) -> Iterator[tuple[PspStream, PspStream]]:
    """Make a connection under PSP."""
    with connection(ends.near, ends.far, ipv6=ipv6) as sockets:
        first, second = results(ends, sockets)
        client = attach(ends.near, first, Role.CLIENT, sockets[0])
        server = attach(ends.far, second, Role.SERVER, sockets[1])
        try:
            yield client, server
        finally:
            for stream in (client, server):
                stream.close()


@pytest.mark.parametrize("ipv6", [False, True], ids=["IPv4", "IPv6"])
def test_data_both_ways(ends: Path, ipv6: bool) -> None:
    """A mebibyte each way: all of it counted by both devices as PSP, and not one packet without.

    Three tries: what is still on its way from an earlier connection is answered by a reset, which is plain.
    """
    assert any(_nothing_plain(ends, ipv6) for _ in range(3))


def _nothing_plain(ends: Path, ipv6: bool) -> bool:
    with session(ends, ipv6=ipv6) as (client, server):
        before = [(end.statistics(), end.plain_packets()) for end in (ends.near, ends.far)]
        both_ways(client, server, MIB)
        plain = [end.plain_packets() for end in (ends.near, ends.far)]
        for end, (device, _) in zip((ends.near, ends.far), before, strict=True):
            now = end.statistics()
            assert now["tx-bytes"] - device["tx-bytes"] > len(MIB)
            assert now["rx-bytes"] - device["rx-bytes"] > len(MIB)
        client.send_eof()
        assert server.receive() == b""
        server.send(b"what was still to be said")
        assert receive(client, 25) == b"what was still to be said"
        return plain == [packets for _, packets in before]


def test_what_is_handed_over(ends: Path) -> None:
    """The socket is the session: no key goes to the consumer, plain reads and writes are protected."""
    with connection(ends.near, ends.far) as sockets:
        first, second = results(ends, sockets)
        assert first.in_kernel
        assert second.in_kernel
        assert not {"rx-key", "tx-key"}.intersection(first.session)
        assert first.session["tx-spi"] == second.session["rx-spi"]
        assert first.tags["device"] == "kernel"
        for one, other in (sockets, sockets[::-1]):
            other.settimeout(20)
            one.setblocking(True)
            one.sendall(b"not a byte too many or too few")
            assert exactly(other, 30) == b"not a byte too many or too few"


@pytest.mark.parametrize("version", list(Version), ids=lambda version: version.label)
def test_every_version(ends: Path, version: Version) -> None:
    """Both ends get the version that is all that one of the devices has enabled."""
    ends.far.enable(version)
    try:
        with connection(ends.near, ends.far) as sockets:
            first, second = results(ends, sockets)
            assert first.tags["version"] == second.tags["version"] == version.label
            client = attach(ends.near, first, Role.CLIENT, sockets[0])
            server = attach(ends.far, second, Role.SERVER, sockets[1])
            with client, server:
                both_ways(client, server, MIB[:10_000])
    finally:
        ends.far.enable(*Version)


def test_over_asyncio(ends: Path) -> None:
    """The stream for an event loop, and a wait for a rotation on it."""

    async def scene(sockets: tuple[socket.socket, socket.socket]) -> None:
        outcomes = await asyncio.gather(
            _one(sockets[0], AS_CLIENT, ends.client, 20), _one(sockets[1], AS_SERVER, ends.server, 20)
        )
        streams = []
        for end, outcome, sock, role in zip((ends.near, ends.far), outcomes, sockets, Role, strict=True):
            assert isinstance(outcome, Result), outcome
            with network_namespace(end.namespace):
                stream = hooks.hsframework_attach_session(established(outcome, role), sock, True)
            assert isinstance(stream, AsyncPspStream)
            streams.append(stream)
        client, server = streams
        async with client, server:
            await client.send(b"question")
            assert await server.receive() == b"question"
            due = asyncio.ensure_future(client.renewal.wait_async())
            await asyncio.sleep(0)
            assert not due.done()
            ends.near.rotate()
            assert await due is RenewalState.DUE

    with connection(ends.near, ends.far) as sockets:
        asyncio.run(asyncio.wait_for(scene(sockets), 20))


def test_one_rotation(ends: Path) -> None:
    """The consumer is told, in time, and everything goes on."""
    with session(ends) as (client, server):
        both_ways(client, server, MIB[:5000])
        assert client.renewal.state is RenewalState.FRESH
        ends.near.rotate()
        assert client.renewal.wait(20) is RenewalState.DUE
        assert server.renewal.state is RenewalState.FRESH
        both_ways(client, server, MIB[:5000])


def test_two_rotations(ends: Path) -> None:
    """The session is stale: reported, and what comes for the dead key is dropped by its device."""
    with session(ends) as (client, server):
        stale = ends.near.statistics()["stale-events"]
        for _ in range(2):
            ends.near.rotate()
        assert client.renewal.wait(20) is RenewalState.STALE
        assert ends.near.statistics()["stale-events"] > stale
        server.send(b"nobody will read this")
        client.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            client.receive()


def test_re_established_in_time(ends: Path) -> None:
    """A stream of data over connections that are replaced as they become due: through six rotations nothing is lost."""
    received = b""
    sent = 0
    piece = 50_000
    while sent < len(MIB):
        with session(ends) as (client, server):
            for _ in range(2):
                client.send(MIB[sent : sent + piece])
                received += receive(server, len(MIB[sent : sent + piece]))
                sent += piece
                if server.renewal.state is not RenewalState.FRESH:
                    # Between the first rotation and the second there is time to finish what was begun.
                    break
                ends.far.rotate()
                assert server.renewal.wait(20) is RenewalState.DUE
            client.send_eof()
            assert server.receive() == b""
    assert received == MIB


@pytest.mark.parametrize("liar", list(Role), ids=lambda role: role.name)
def test_a_wrong_tx_key(ends: Path, liar: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets to the other end and no further; PROOF never comes, which who waits for it says at its deadline."""
    switch = KernelAssociation.switch
    theirs = ends.near if liar is Role.CLIENT else ends.far

    def wrong(self: KernelAssociation, grant: Grant) -> None:
        if self._device == theirs.device:
            key = grant.key.reveal()
            grant = Grant(grant.spi, Key(bytes([key[0] ^ 1]) + key[1:]))
        switch(self, grant)

    monkeypatch.setattr(KernelAssociation, "switch", wrong)
    with connection(ends.near, ends.far) as sockets:
        sent = theirs.statistics()["tx-packets"]
        client, server = shake(sockets, ends.client, ends.server, seconds=DEADLINE)
        assert theirs.statistics()["tx-packets"] > sent
    waits = [client, server] if liar is Role.CLIENT else [client]
    failed = [end for end in waits if isinstance(end, HandshakeFailed)]
    assert len(failed) == len(waits)
    assert all(end.failure in (Failure.SILENCE, Failure.PEER_GONE) for end in failed)
    assert any(end.errno == errno.ETIMEDOUT and "PROOF does not come" in str(end) for end in failed)


def test_a_device_without_a_version(ends: Path) -> None:
    """Nothing enabled: EOPNOTSUPP here with what to do about it, and the peer hears alert 80 at once."""
    ends.far.enable()
    try:
        with connection(ends.near, ends.far) as sockets:
            client, server = shake(sockets, ends.client, ends.server)
    finally:
        ends.far.enable(*Version)
    assert isinstance(server, HandshakeFailed)
    assert isinstance(client, HandshakeFailed)
    assert server.errno == errno.EOPNOTSUPP
    assert "enable one" in str(server)
    assert (client.failure, client.peer_alert) == (Failure.PEER_REFUSED, 80)


@pytest.mark.parametrize("psp", list(Role), ids=lambda role: f"psp is the {role.name.lower()}")
def test_a_peer_without_psp(ends: Path, psp: Role) -> None:
    """Plain TLS 1.3 at the other end: EPROTONOSUPPORT here, alert 120 and EACCES there, and never PSP."""
    tls = Tls13Handshaker(TlsSettings(kernel_offload=False))
    with connection(ends.near, ends.far) as sockets:
        packets = ends.near.statistics()["tx-packets"]
        if psp is Role.CLIENT:
            ours, theirs = shake(sockets, ends.client, tls)
        else:
            theirs, ours = shake(sockets, tls, ends.server)
        assert ends.near.statistics()["tx-packets"] == packets
    assert isinstance(ours, HandshakeFailed)
    assert ours.errno == errno.EPROTONOSUPPORT
    assert isinstance(theirs, HandshakeFailed)
    assert (theirs.peer_alert, theirs.errno) == (120, errno.EACCES)


def test_software_at_the_other_end(ends: Path) -> None:
    """The kernel's device alone against the software's alone: no choice in common, said on both sides."""
    software = PspHandshaker(Settings(device="software"))
    with connection(ends.near, ends.far) as sockets:
        client, server = shake(sockets, software, ends.server)
    software.close()
    assert isinstance(server, HandshakeFailed)
    assert server.failure is Failure.NO_COMMON_PARAMETERS
    assert isinstance(client, HandshakeFailed)
    assert client.peer_alert == 40


class _Crash(Exception):
    """The process has gone."""


class _Crashing(StreamEndpoint):
    """After so many sends the socket is closed, as the kernel does it for a process that dies."""

    def __init__(self, sock: socket.socket, readiness: Readiness, after: int) -> None:
        super().__init__(sock, readiness)
        self._left = after

    async def send(self, data: bytes) -> None:
        if not self._left:
            raise _Crash
        self._left -= 1
        await super().send(data)


@pytest.mark.parametrize("after", range(6))
@pytest.mark.parametrize("who", list(Role), ids=lambda role: role.name)
def test_one_side_crashes_between_any_two_messages(ends: Path, who: Role, after: int) -> None:
    """The other ends: at once where it can be told, else by its deadline; or it is done, if the crash came late."""

    async def scene(sockets: tuple[socket.socket, socket.socket]) -> Outcome:
        dying, staying = sockets if who is Role.CLIENT else sockets[::-1]
        mine, other = (ends.client, ends.server) if who is Role.CLIENT else (ends.server, ends.client)
        requests = (AS_CLIENT, AS_SERVER) if who is Role.CLIENT else (AS_SERVER, AS_CLIENT)

        readiness = Readiness(asyncio.get_running_loop())

        async def die() -> None:
            endpoint = _Crashing(dying, readiness, after)
            # shut_down is the agent's business, which a dead process does not mind.
            with contextlib.suppress(_Crash, HandshakeFailed, TimeoutError):
                async with asyncio.timeout(DEADLINE):
                    await mine.handshake(requests[0], endpoint)
            endpoint.close()

        _, outcome = await asyncio.gather(die(), _one(staying, requests[1], other, DEADLINE))
        readiness.close()
        return outcome

    with connection(ends.near, ends.far) as sockets:
        outcome = asyncio.run(scene(sockets))
    if isinstance(outcome, HandshakeFailed):
        assert outcome.failure is Failure.PEER_GONE
    else:
        assert isinstance(outcome, (TimeoutError, Result))
        assert not isinstance(outcome, Result) or after > 1


def test_the_peers_last_word_waits_at_the_switch(ends: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert that lies unread keeps the kernel from switching (EBUSY): it is read, and is the outcome."""

    def refuse(run: _Run) -> None:
        run._endpoint.socket.send(run._tunnel.alert(Failure.NOT_AUTHORIZED))

    client, server = _with_a_client_that(ends, refuse, monkeypatch)
    assert isinstance(client, _Crash)
    assert isinstance(server, HandshakeFailed)
    assert (server.failure, server.peer_alert) == (Failure.PEER_REFUSED, 49)


def test_plain_data_at_the_switch(ends: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message behind KEYS is out of its turn; plain bytes that are no record are garbage."""

    def once_more(run: _Run) -> None:
        run._endpoint.socket.send(run._tunnel.seal(b"\4\0\0\x20" + bytes(32)))

    _, server = _with_a_client_that(ends, once_more, monkeypatch)
    assert isinstance(server, HandshakeFailed)
    assert server.failure is Failure.UNEXPECTED_MESSAGE
    _, server = _with_a_client_that(ends, lambda run: run._endpoint.socket.send(b"plain text"), monkeypatch)
    assert isinstance(server, HandshakeFailed)
    assert server.errno == errno.EPROTO


def _with_a_client_that(
    ends: Path, does: Callable[[_Run], object], monkeypatch: pytest.MonkeyPatch
) -> tuple[Outcome, Outcome]:
    """Run a client that does this instead of its switch, in plain TCP behind KEYS, and is gone."""
    switch = _Run._switch
    with monkeypatch.context() as patched, connection(ends.near, ends.far) as sockets:

        async def instead(self: _Run, grant: Grant) -> None:
            if self._session.role is Role.CLIENT:
                does(self)
                # Behind it PSP's own would be in order; nothing comes.
                self._switched = True
                raise _Crash
            await switch(self, grant)

        patched.setattr(_Run, "_switch", instead)
        return shake(sockets, ends.client, ends.server, seconds=DEADLINE)


def test_an_association_that_is_there_already(ends: Path) -> None:
    """A socket is associated once: a second handshake on it is EOPNOTSUPP, with the kernel's words."""
    with connection(ends.near, ends.far) as sockets:
        with ends.near.family() as family:
            family.associate_rx(ends.near.device, Version.AES_GCM_128, sockets[0].fileno())
        client, server = shake(sockets, ends.client, ends.server)
    assert isinstance(client, HandshakeFailed)
    assert client.errno == errno.EOPNOTSUPP
    assert "already has PSP state" in str(client)
    assert isinstance(server, HandshakeFailed)
    assert server.peer_alert == 80


def test_somebody_else_has_made_the_tx_association(ends: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder of a copy of the socket can: EOPNOTSUPP at once, and not a wait for plain data that nobody sends."""
    switch = KernelAssociation.switch

    def forestalled(self: KernelAssociation, grant: Grant) -> None:
        if self._socket.fileno() == client_fd:
            switch(self, grant)
        switch(self, grant)

    monkeypatch.setattr(KernelAssociation, "switch", forestalled)
    with connection(ends.near, ends.far) as sockets:
        client_fd = sockets[0].fileno()
        client, _ = shake(sockets, ends.client, ends.server, seconds=DEADLINE)
    assert isinstance(client, HandshakeFailed)
    assert client.errno == errno.EOPNOTSUPP
    assert "Tx key already set" in str(client)


def test_the_device_is_the_routes(ends: Path) -> None:
    """A connection over the loopback interface of the same namespace has no PSP device."""
    with network_namespace(ends.near.namespace):
        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
    with listener, client, listener.accept()[0] as server:
        outcome, _ = shake((client, server), ends.client, ends.client)
    assert isinstance(outcome, HandshakeFailed)
    assert "no PSP device" in str(outcome)


def test_a_session_that_is_not_in_the_socket(ends: Path) -> None:
    """An agent's word is checked: a stream over a socket that would send plain text is not made."""
    with connection(ends.near, ends.far) as sockets:
        first, _ = results(ends, sockets)
    with connection(ends.near, ends.far) as (plain, _):
        for associate in (False, True):
            if associate:
                with ends.near.family() as family:
                    family.associate_rx(ends.near.device, Version.AES_GCM_256, plain.fileno())
            with network_namespace(ends.near.namespace), pytest.raises(StreamError, match="would send plain text"):
                hooks.hsframework_attach_session(established(first, Role.CLIENT), plain, False)


def test_what_the_dispatcher_sees(ends: Path) -> None:
    """Of any namespace, from the socket alone: a whole session is one, and goes on; nothing less is.

    Also not an Rx association with plain data unread behind it, for which the kernel refuses a Tx association, too.
    """
    with connection(ends.near, ends.far) as sockets:
        for sock in sockets:
            assert not _planted(sock)
        first, second = results(ends, sockets)
        for sock in sockets:
            assert _planted(sock)
            assert _planted(sock)
        client = attach(ends.near, first, Role.CLIENT, sockets[0])
        server = attach(ends.far, second, Role.SERVER, sockets[1])
        with client, server:
            both_ways(client, server, MIB[:10_000])
    for unread in (b"", b"plain"):
        with connection(ends.near, ends.far) as (one, other), ends.near.family() as family:
            family.associate_rx(ends.near.device, Version.AES_GMAC_128, one.fileno())
            if unread:
                other.send(unread)
                assert one.recv(5, socket.MSG_PEEK) == unread
            assert not _planted(one)


def _planted(sock: socket.socket) -> bool | None:
    custody = Custody(os.dup(sock.fileno()), os.close)
    try:
        return session_planted("psp", custody)
    finally:
        custody.release()


@contextlib.contextmanager
def _silence(*ends: End) -> Iterator[None]:
    """Let nothing leave these ends."""
    for end in ends:
        debian("tc", "-n", end.namespace, "qdisc", "add", "dev", "psp0", "root", "netem", "loss", "100%")
    try:
        yield
    finally:
        for end in ends:
            debian("tc", "-n", end.namespace, "qdisc", "delete", "dev", "psp0", "root")


def test_a_lost_acknowledgement_of_the_last_plain_data(ends: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server has KEYS, its acknowledgement is lost, and so is PROOF: KEYS comes again in plain, and is not in vain.

    A server that switched as soon as it had KEYS would drop it for ever, and never get to see PROOF.
    """
    runs: dict[Role, _Run] = {}
    lost = contextlib.ExitStack()
    flush, run = _Run._flush, _Run.run

    async def running(self: _Run, flight: bytes) -> Result:
        runs[self._session.role] = self
        return await run(self, flight)

    async def losing(self: _Run) -> None:
        state = self._exchange.state if self is runs[Role.CLIENT] and self._output else None
        if state is State.SWITCHING:
            # KEYS arrives, its acknowledgement does not.
            lost.enter_context(_silence(ends.far))
        if state is not State.PROVING:
            await flush(self)
            return
        with lost, _silence(ends.near):
            # PROOF does not.
            await flush(self)
            while runs[Role.SERVER]._exchange.state is not State.SWITCHING:
                await asyncio.sleep(0)

    monkeypatch.setattr(_Run, "run", running)
    monkeypatch.setattr(_Run, "_flush", losing)
    with connection(ends.near, ends.far) as sockets:
        results(ends, sockets)


def test_watching_from_elsewhere(ends: Path) -> None:
    """A consumer in another namespace is told that it cannot watch, instead of never hearing."""
    with connection(ends.near, ends.far) as sockets:
        first, _ = results(ends, sockets)
        with network_namespace(ends.far.namespace), pytest.raises(StreamError, match="network namespace of the socket"):
            hooks.hsframework_attach_session(established(first, Role.CLIENT), sockets[0], False)


def test_keys_are_wiped(ends: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No receive key stays in the agent, whether the handshake succeeds or fails."""
    kept: list[Association] = []
    make = _Run._make_rx

    def keep(self: _Run, *arguments: object) -> object:
        step = make(self, *arguments)  # type: ignore[arg-type]
        assert self._association is not None
        kept.append(self._association)
        return step

    monkeypatch.setattr(_Run, "_make_rx", keep)
    with connection(ends.near, ends.far) as sockets:
        results(ends, sockets)
    with connection(ends.near, ends.far) as sockets:
        shake(sockets, ends.client, ends.server, as_server=replace(AS_SERVER, attributes={"device": "kernel"}))
    assert kept
    assert all(association.grant.key.wiped for association in kept)
