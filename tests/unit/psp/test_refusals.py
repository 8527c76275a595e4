"""Failed exchanges on real sockets: refusals, and peers that leave, are silent or send something else."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from dataclasses import replace
from typing import Any

import pytest

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, CertificateDemand, Result, Role
from hsframework.testing.network import tcp_pair
from hsframework_psp.exchange import State
from hsframework_psp.plugin import PspHandshaker, _Run
from hsframework_psp.settings import Settings
from tests.unit.psp.handshakes import AS_CLIENT, AS_SERVER, PSP, TLS, Outcome, outcomes, results, run, shake

REFUSALS: dict[str, tuple[dict[str, Any], dict[str, Any], Failure]] = {
    "a name that is not the server's": ({"peer_name": "other.example"}, {}, Failure.WRONG_NAME),
    "no trust": ({"trust": None}, {}, Failure.UNTRUSTED),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_the_client_refuses(case: str) -> None:
    """By the table of failures; the server hears the alert."""
    client, server, failure = REFUSALS[case]
    first, second = outcomes(replace(AS_CLIENT, **client), replace(AS_SERVER, **server))
    assert isinstance(first, HandshakeFailed)
    assert isinstance(second, HandshakeFailed)
    assert first.failure is failure
    assert (second.failure, second.peer_alert) == (Failure.PEER_REFUSED, failure.alert)


def test_the_server_wants_a_certificate() -> None:
    """Mutual is the default: a client without one is refused, by either side's own setting."""
    anonymous = replace(AS_CLIENT, auth_mode=AuthMode.UNAUTHENTICATED, identities=())
    first, _ = outcomes(anonymous)
    assert isinstance(first, HandshakeFailed)
    assert first.failure is Failure.NO_KEY
    lenient = PspHandshaker(Settings(mutual=False, device="software"))
    first, second = outcomes(anonymous, AS_SERVER, lenient, PSP)
    assert isinstance(second, HandshakeFailed)
    assert second.failure is Failure.NO_PEER_CERTIFICATE
    assert isinstance(first, HandshakeFailed)
    _, server = results(anonymous, AS_SERVER, lenient, lenient)
    assert server.peer.certificates == ()
    demanded = replace(AS_SERVER, client_certificate=CertificateDemand.REQUIRE)
    _, second = outcomes(anonymous, demanded, lenient, lenient)
    assert isinstance(second, HandshakeFailed)


def test_no_version_in_common() -> None:
    """EPROTONOSUPPORT at the server, alert 40 and EACCES at the client."""
    one = PspHandshaker(Settings(versions=("aes-gcm-128",), device="software"))
    other = PspHandshaker(Settings(versions=("aes-gcm-256",), device="software"))
    first, second = outcomes(AS_CLIENT, AS_SERVER, one, other)
    assert isinstance(first, HandshakeFailed)
    assert isinstance(second, HandshakeFailed)
    assert (second.failure, second.errno) == (Failure.NO_COMMON_PARAMETERS, errno.EPROTONOSUPPORT)
    assert (first.failure, first.peer_alert, first.errno) == (Failure.PEER_REFUSED, 40, errno.EACCES)


@pytest.mark.parametrize("psp", list(Role), ids=lambda role: f"psp is the {role.name.lower()}")
@pytest.mark.parametrize("alpn", [(), ("http/1.1",)], ids=["without ALPN", "another ALPN"])
def test_a_peer_without_psp(psp: Role, alpn: tuple[str, ...]) -> None:
    """A TLS 1.3 peer that does not speak PSP: who finds it out has EPROTONOSUPPORT, the other alert 120 and EACCES."""
    plain_client, plain_server = replace(AS_CLIENT, alpn=alpn), replace(AS_SERVER, alpn=alpn)
    if psp is Role.CLIENT:
        first, second = outcomes(AS_CLIENT, plain_server, PSP, TLS)
        ours, theirs = first, second
    else:
        first, second = outcomes(plain_client, AS_SERVER, TLS, PSP)
        ours, theirs = second, first
    assert isinstance(ours, HandshakeFailed)
    assert isinstance(theirs, HandshakeFailed)
    # A server that has protocols of its own is the one to find it out.
    finds, hears = (theirs, ours) if psp is Role.CLIENT and alpn else (ours, theirs)
    assert (finds.failure, finds.errno) == (Failure.NO_COMMON_ALPN, errno.EPROTONOSUPPORT)
    assert (hears.failure, hears.peer_alert, hears.errno) == (Failure.PEER_REFUSED, 120, errno.EACCES)


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", bytes(64), b"\x16\x03\x01\xff\xff"])
def test_garbage(garbage: bytes) -> None:
    """Bytes that are no TLS at all end it with EPROTO."""
    near, far = tcp_pair()
    with near, far:
        near.sendall(garbage)
        outcome = run(shake(far, AS_SERVER))
    assert isinstance(outcome, HandshakeFailed)
    assert outcome.errno == errno.EPROTO


def test_not_authorized() -> None:
    """Asked when TLS is done; the peer hears alert 49."""

    def refuse(peer: object) -> None:
        raise HandshakeError("not today", errno=errno.EACCES)

    first, second = outcomes(AS_CLIENT, replace(AS_SERVER, authorize=refuse))
    assert isinstance(second, HandshakeError)
    assert str(second) == "not today"
    assert isinstance(first, HandshakeFailed)
    assert first.peer_alert == Failure.NOT_AUTHORIZED.alert


def test_requests_that_make_no_sense() -> None:
    """ALPN of the consumer's own, a device that does not exist: EINVAL, said so."""
    for request in (replace(AS_CLIENT, alpn=("h2",)), replace(AS_CLIENT, attributes={"device": "quantum"})):
        outcome, _ = outcomes(request)
        assert isinstance(outcome, HandshakeError)
        assert outcome.errno == errno.EINVAL


def test_the_kernels_device_where_there_is_none() -> None:
    """EOPNOTSUPP over the loopback interface, with the reason; auto takes the software's."""
    wanted = replace(AS_CLIENT, attributes={"device": "kernel"})
    first, second = outcomes(wanted)
    assert isinstance(first, HandshakeFailed)
    assert first.errno == errno.EOPNOTSUPP
    assert str(first).startswith("no PSP on this connection: ")
    assert isinstance(second, HandshakeFailed)
    auto = PspHandshaker(Settings())
    client, _ = results(AS_CLIENT, AS_SERVER, auto, auto)
    assert client.tags["device"] == "software"
    auto.close()


class _Vanishing(StreamEndpoint):
    """An endpoint whose owner is gone after so many sends; ``after`` of them still leave."""

    def __init__(self, sock: socket.socket, readiness: Readiness, after: int) -> None:
        super().__init__(sock, readiness)
        self._left = after

    async def send(self, data: bytes) -> None:
        if not self._left:
            self.socket.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError("killed by the test")
        self._left -= 1
        await super().send(data)


@pytest.mark.parametrize("after", range(5))
@pytest.mark.parametrize("who", list(Role), ids=lambda role: role.name)
def test_one_side_vanishes_between_any_two_messages(who: Role, after: int) -> None:
    """The other ends with ECONNRESET, without waiting for its deadline."""
    near, far = tcp_pair()

    async def scene() -> tuple[Outcome, bool]:
        readiness = Readiness(asyncio.get_running_loop())
        gone, stays = (near, far) if who is Role.CLIENT else (far, near)
        requests = (AS_CLIENT, AS_SERVER) if who is Role.CLIENT else (AS_SERVER, AS_CLIENT)
        endpoint = _Vanishing(gone, readiness, after)

        async def vanish() -> bool:
            try:
                await PSP.handshake(requests[0], endpoint)
            except (OSError, HandshakeFailed):
                return True
            finally:
                gone.shutdown(socket.SHUT_RDWR)
            return False

        vanished, outcome = await asyncio.gather(vanish(), shake(stays, requests[1]))
        readiness.close()
        return outcome, vanished

    with near, far:
        outcome, vanished = run(scene())
    if vanished:
        assert isinstance(outcome, HandshakeFailed)
        assert outcome.failure is Failure.PEER_GONE
    else:
        assert isinstance(outcome, Result)


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name)
def test_a_silent_peer(role: Role) -> None:
    """Cancelled at the deadline, as the host does it: nothing is left behind."""
    near, far = tcp_pair()
    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)

    async def scene() -> None:
        task = asyncio.ensure_future(shake(near, AS_CLIENT if role is Role.CLIENT else AS_SERVER))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with near, far:
        run(scene())
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 0


@pytest.mark.parametrize(("records", "good"), [(8, True), (9, False)])
def test_records_without_a_message(records: int, good: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are passed over, as tickets are; a peer that goes on with them is refused, and does not hold the agent."""
    say = _Run._say_inside

    def behind_silence(self: _Run, message: bytes) -> None:
        if self._session.role is Role.CLIENT and self._exchange.state is State.OFFERED:
            sealer = self._tunnel._layer._sealer
            self._output += b"".join(sealer.seal(23, b"") for _ in range(records))
        say(self, message)

    monkeypatch.setattr(_Run, "_say_inside", behind_silence)
    client, server = outcomes()
    if good:
        assert isinstance(client, Result), client
        assert isinstance(server, Result), server
    else:
        assert isinstance(server, HandshakeFailed)
        assert server.failure is Failure.UNEXPECTED_MESSAGE
        assert isinstance(client, HandshakeFailed)
        assert client.peer_alert == 10


@pytest.mark.parametrize("silent", list(Role), ids=lambda role: role.name)
def test_proof_that_does_not_come(silent: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end that waits for it reports so, just before its deadline; ETIMEDOUT, and the device's counters."""
    say = _Run._say_behind

    def nothing(self: _Run, message: bytes) -> None:
        if self._session.role is not silent:
            say(self, message)

    monkeypatch.setattr(_Run, "_say_behind", nothing)
    near, far = tcp_pair()
    ours, request = (far, AS_SERVER) if silent is Role.CLIENT else (near, AS_CLIENT)

    async def scene() -> Outcome:
        deadline = asyncio.get_running_loop().time() + 1
        other = (near, AS_CLIENT) if silent is Role.CLIENT else (far, AS_SERVER)
        quiet = asyncio.ensure_future(shake(*other))
        outcome = await shake(ours, replace(request, deadline=deadline))
        quiet.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await quiet
        return outcome

    with near, far:
        outcome = run(scene())
    assert isinstance(outcome, HandshakeFailed)
    assert (outcome.failure, outcome.errno) == (Failure.SILENCE, errno.ETIMEDOUT)
    assert "PROOF does not come" in str(outcome)
    assert "the device has no complaints" in str(outcome)
