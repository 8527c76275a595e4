"""In-kernel QUIC sockets: whole handshakes with ourselves.

Run against the stand-in, and against the kernel's own sockets too wherever it has the module.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, CertificateDemand, PeerIdentity, PresharedKey, Secret
from hsframework.testing.certificates import CLIENT as CLIENT_AUTH, SERVER as SERVER_AUTH, Credential, self_signed
from hsframework_quic.kernel import structs as kernel
from tests.unit.quic.kernel_doors import Door, KernelDoor, is_established, shake
from tests.unit.quic.kernel_meetings import (
    ALPN,
    CLIENT,
    DOORS,
    ROOT,
    SERVER,
    Kind,
    client_request,
    exchange,
    meet,
    result_of,
    run,
    server_request,
)
from tests.unit.quic.kernel_stand_in import StandIn, config

pytestmark = pytest.mark.parametrize("kind", DOORS, ids=lambda kind: kind.name)


@pytest.mark.parametrize("demand", list(CertificateDemand))
def test_both_roles(kind: Kind, demand: CertificateDemand) -> None:
    """Every demand for a client certificate, made by the socket's owner; the session carries data afterwards."""

    async def scenario(door: Door) -> None:
        ours, theirs, client, server = await meet(door, server_options={kernel.CONFIG: config(certificate=demand)})
        assert (client.alpn, server.alpn, client.in_kernel, server.in_kernel) == ("smb", "smb", True, True)
        assert client.peer.certificates[0] == SERVER.certificate
        assert server.peer.certificates[:1] == ((CLIENT.certificate,) if demand else ())
        assert client.session == server.session == {}
        assert client.tags["cipher"] == server.tags["cipher"] == "TLS_AES_128_GCM_SHA256"
        await exchange(door, ours, theirs)

    run(kind, scenario)


@pytest.mark.parametrize("version", [1, 0x6B3343CF])
@pytest.mark.parametrize("cipher", [51, 52, 54])
def test_ciphers_and_versions(kind: Kind, cipher: int, version: int) -> None:
    """The payload cipher that an owner sets is the one that is agreed on, in both versions of QUIC."""

    async def scenario(door: Door) -> None:
        wanted = config(cipher=cipher, version=version)
        ours, theirs, client, _ = await meet(door, client_options={kernel.CONFIG: wanted}, version=version)
        assert {51: "AES_128_GCM", 52: "AES_256_GCM", 54: "CHACHA20"}[cipher] in client.tags["cipher"]
        assert client.tags["version"] == ("QUICv1" if version == 1 else "QUICv2")
        await exchange(door, ours, theirs)

    run(kind, scenario)


def test_the_servers_choice_of_protocol_is_written_back(kind: Kind) -> None:
    """Of several application protocols the server's preference counts, and its consumer can read it."""

    async def scenario(door: Door) -> None:
        options = {kernel.ALPN: b"h3, smb,sample"}
        _, theirs, client, server = await meet(
            door, client_options={kernel.ALPN: b"sample,smb"}, server_options=options
        )
        assert client.alpn == server.alpn == "smb"
        assert door.view(theirs).get_option(kernel.ALPN, 128).rstrip(b"\0") == b"smb"

    run(kind, scenario)


def test_nothing_in_common(kind: Kind) -> None:
    """No application protocol in common: the server refuses, and installs nothing.

    The kernel reads a first packet's ALPN itself, to find a listener: it finds none, and the packet is dropped.
    """

    async def scenario(door: Door) -> None:
        address, accepted = await door.server(options={kernel.ALPN: b"h3"})
        ours = await door.client(address, options=ALPN)
        if isinstance(door, KernelDoor):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await shake(door, ours, client_request())
            assert not accepted.done()
            accepted.cancel()
            return
        handshaking = asyncio.ensure_future(result_of(shake(door, ours, client_request())))
        theirs = await accepted
        server = await result_of(shake(door, theirs, server_request()))
        assert server.failure is Failure.NO_COMMON_ALPN
        assert not is_established(door, theirs)
        theirs.close()  # closing is what ends it for the client
        client = await handshaking
        assert (client.failure, client.errno) == (Failure.PEER_GONE, errno.ECONNRESET)

    run(kind, scenario)


def bad(**options: Any) -> Credential:
    return ROOT.issue(["server.example"], **options)


LONG_AGO = datetime.now(UTC) - timedelta(days=9)
CASES: dict[str, tuple[Failure, Callable[[], dict[str, Any]], Callable[[], dict[str, Any]]]] = {
    "self-signed": (Failure.UNTRUSTED, lambda: {"identities": (self_signed(["server.example"]).identity,)}, dict),
    "expired": (
        Failure.EXPIRED,
        lambda: {"identities": (bad(not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1)).identity,)},
        dict,
    ),
    "wrong usage": (Failure.WRONG_USAGE, lambda: {"identities": (bad(usages=(CLIENT_AUTH,)).identity,)}, dict),
    "spoilt": (Failure.BAD_CERTIFICATE, lambda: {"identities": (bad(spoil_signature=True).identity,)}, dict),
    "wrong name": (Failure.WRONG_NAME, dict, lambda: {"peer_name": "other.example"}),
    "revoked": (Failure.REVOKED, dict, lambda: {"trust": ROOT.trust(ROOT.crl([SERVER]))}),
    "no trust": (Failure.UNTRUSTED, dict, lambda: {"trust": None}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_client_refuses_its_server(kind: Kind, case: str) -> None:
    """Each bad certificate by its row of the table, before the session is established on our side."""
    failure, server, client = CASES[case]

    async def scenario(door: Door) -> None:
        ours, _, outcome, served = await meet(door, server=server(), client=client())
        assert (outcome.failure, outcome.errno) == (failure, failure.errno)
        assert isinstance(served, Exception)
        if isinstance(ours, StandIn):
            assert (True, kernel.APPLICATION) not in ours.secrets

    run(kind, scenario)


CLIENT_CASES: dict[str, tuple[Failure, Callable[[], dict[str, Any]]]] = {
    "none": (Failure.NO_PEER_CERTIFICATE, lambda: {"auth_mode": AuthMode.UNAUTHENTICATED, "identities": ()}),
    "self-signed": (Failure.UNTRUSTED, lambda: {"identities": (self_signed(["client.example"]).identity,)}),
    "server's usage": (
        Failure.WRONG_USAGE,
        lambda: {"identities": (ROOT.issue(["client.example"], usages=(SERVER_AUTH,)).identity,)},
    ),
    "expired": (
        Failure.EXPIRED,
        lambda: {"identities": (bad(not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1)).identity,)},
    ),
}


@pytest.mark.parametrize("case", CLIENT_CASES)
def test_a_server_refuses_its_client(kind: Kind, case: str) -> None:
    """The same for a required client certificate: the server never becomes established."""
    failure, client = CLIENT_CASES[case]

    async def scenario(door: Door) -> None:
        _, theirs, _, served = await meet(door, client=client(), server_options={kernel.CONFIG: config(certificate=2)})
        assert (served.failure, served.errno) == (failure, failure.errno)
        assert not is_established(door, theirs)

    run(kind, scenario)


def test_the_stricter_demand_counts(kind: Kind) -> None:
    """An owner that only requests a certificate does not weaken a policy that requires one."""

    async def scenario(door: Door) -> None:
        none = {"auth_mode": AuthMode.UNAUTHENTICATED, "identities": ()}
        strict = {"client_certificate": CertificateDemand.REQUIRE}
        _, _, _, served = await meet(
            door, client=none, server=strict, server_options={kernel.CONFIG: config(certificate=1)}
        )
        assert served.failure is Failure.NO_PEER_CERTIFICATE

    run(kind, scenario)


@pytest.mark.parametrize("side", ["client", "server"])
def test_who_is_not_authorized_gets_no_session(kind: Kind, side: str) -> None:
    """A refusal by policy comes before our side is established."""

    def nobody(peer: PeerIdentity) -> None:
        raise HandshakeFailed(Failure.NOT_AUTHORIZED, "by this test")

    wanted: Any = {side: {"authorize": nobody}}

    async def scenario(door: Door) -> None:
        ours, theirs, outcome, served = await meet(door, **wanted)
        refused, sock = (outcome, ours) if side == "client" else (served, theirs)
        assert refused.failure is Failure.NOT_AUTHORIZED
        if side == "server":
            assert not is_established(door, sock)

    run(kind, scenario)


def test_a_preshared_key_is_not_offered_here(kind: Kind) -> None:
    """EOPNOTSUPP, with what to do instead."""

    async def scenario(door: Door) -> None:
        address, accepted = await door.server(options=ALPN)
        accepted.cancel()
        ours = await door.client(address, options=ALPN)
        key = PresharedKey(b"name", Secret(b"k" * 32))
        outcome = await result_of(shake(door, ours, client_request(auth_mode=AuthMode.PSK, psks=(key,))))
        assert outcome.errno == errno.EOPNOTSUPP
        assert "use a certificate" in str(outcome)

    run(kind, scenario)


def test_a_ticket_resumes_and_judges_again(kind: Kind) -> None:
    """A client that asked for a ticket resumes with it; not under another trust, and not once the server is revoked."""

    async def scenario(door: Door) -> None:
        wants = {kernel.CONFIG: config(ticket=3)}
        demands = {kernel.CONFIG: config(certificate=2)}
        ours, _, first, _ = await meet(door, client_options=wants, server_options=demands)
        assert (first.tags["resumed"], first.tags["ticket"]) == ("no", "yes")
        ticket = door.view(ours).get_option(kernel.SESSION_TICKET, kernel.MAX_TICKET)
        again = {**wants, kernel.SESSION_TICKET: ticket}
        ours, theirs, client, server = await meet(door, client_options=again, server_options=demands)
        assert client.tags["resumed"] == server.tags["resumed"] == "yes"
        assert server.peer.certificates[0] == CLIENT.certificate
        assert client.peer.certificates[0] == SERVER.certificate
        await exchange(door, ours, theirs)
        revoked = ROOT.trust(ROOT.crl([SERVER]))
        _, _, client, _ = await meet(door, client={"trust": revoked}, client_options=again, server_options=demands)
        assert client.failure is Failure.REVOKED
        _, _, client, server = await meet(
            door, client_options=again, server={"trust": ROOT.trust(ROOT.crl([]))}, server_options=demands
        )
        assert server.tags["resumed"] == "no"

    run(kind, scenario)


@pytest.mark.parametrize("spoil", [b"\0" * 64, b"hsfquic1" + b"\0" * 200])
def test_a_ticket_that_is_none(kind: Kind, spoil: bytes) -> None:
    """A ticket that cannot be read is no error: the handshake is a full one."""

    async def scenario(door: Door) -> None:
        ours, theirs, client, _ = await meet(door, client_options={kernel.SESSION_TICKET: spoil})
        assert client.tags["resumed"] == "no"
        await exchange(door, ours, theirs)

    run(kind, scenario)


@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 64, 1000])
def test_messages_in_pieces(kind: Kind, chunk: int) -> None:
    """A read gives what it gives: the handshake is the same in pieces of any size (the stand-in alone can cut them)."""

    async def scenario(door: Door) -> None:
        ours, theirs, _, _ = await meet(door, chunk=chunk, server_options={kernel.CONFIG: config(certificate=2)})
        await exchange(door, ours, theirs)

    run(kind, scenario)


def test_a_silent_peer(kind: Kind) -> None:
    """A handshake that is cancelled at its deadline leaves the loop without a trace of the socket."""

    async def scenario(door: Door) -> None:
        address, accepted = await door.server(options=ALPN)
        ours = await door.client(address, options=ALPN)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await shake(door, ours, client_request())
        accepted.cancel()
        assert not asyncio.get_running_loop().remove_reader(ours.fileno())

    run(kind, scenario)
