"""A request's TLS policy in QUIC: what the engine offers and accepts, tickets, and what cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic.tls import Epoch

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Demand, Request, Role
from hsframework.tls.client_hello import parse_client_hello
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions, find_none, issue_none, keep_none
from hsframework_quic.aioquic_adapter.tls_policy import narrowed
from hsframework_quic.algorithms import ALL_SUITES
from hsframework_quic.kernel import structs as kernel
from hsframework_quic.plugin import QuicHandshaker
from hsframework_quic.protocol import KernelQuicProtocol, QuicProtocol
from hsframework_quic.settings import Settings
from tests.unit.quic import tls_support as engines
from tests.unit.quic.kernel_doors import Door, shake
from tests.unit.quic.kernel_meetings import ALPN, DOORS, Kind, client_request, meet, result_of, run as on_kernel
from tests.unit.quic.kernel_stand_in import config
from tests.unit.quic.test_plugin import request
from tests.unit.quic.test_tickets import resumable
from tests.unit.quic.tls_support import ROOT, exchange, failed, start

CHACHA20_X25519 = "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305:-GROUP-ALL:+GROUP-X25519"
AES_256_P384 = "NORMAL:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1"
X25519, P256, P384 = 0x1D, 0x17, 0x18


def asked(policy: str, role: Role = Role.CLIENT, **changes: Any) -> Request:
    return request(role, tls_priorities=(policy,), **changes)


def engine_options(policy: str, **bound: Any) -> dict[str, Any]:
    """Return what a policy leaves of a client's options, for an engine."""
    found = narrowed(TlsOptions(role=Role.CLIENT, **bound), asked(policy))
    return {"cipher_suites": found.cipher_suites, "groups": found.groups, "signatures": found.signatures}


def test_a_client_offers_no_more_than_its_policy() -> None:
    """Suites, groups, key shares and signatures, in the policy's order."""
    client = engines.client(**engine_options(f"{AES_256_P384}:+GROUP-X25519:-SIGN-ALL:+SIGN-EdDSA-Ed25519"))
    hello = parse_client_hello(start(client)[Epoch.INITIAL][4:])
    assert hello.cipher_suites == (0x1302,)
    assert hello.supported_groups == hello.key_share_groups == (P384, X25519)
    assert hello.signature_algorithms == (0x0807,)


@pytest.mark.parametrize(
    ("policy", "cipher", "group"),
    [
        (CHACHA20_X25519, "TLS_CHACHA20_POLY1305_SHA256", "X25519"),
        (AES_256_P384, "TLS_AES_256_GCM_SHA384", "P-384"),
    ],
)
@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
def test_what_is_agreed_on(policy: str, cipher: str, group: str, role: Role) -> None:
    """The policy's, whichever end has it."""
    options = engine_options(policy)
    client = engines.client(**(options if role is Role.CLIENT else {}))
    server = engines.server(**(options if role is Role.SERVER else {}))
    exchange(client, server)
    assert (client.agreed.cipher, client.agreed.group) == (cipher, group)


def test_a_server_signs_as_its_policy_says() -> None:
    """Of two identities, the one whose key has a signature in the policy; with none, nothing is in common."""
    rsa, ecdsa = (ROOT.issue(["server.example"], key).identity for key in ("rsa-2048", "ecdsa-p256"))
    for signature, identity in (("ECDSA-SECP256R1-SHA256", ecdsa), ("RSA-PSS-RSAE-SHA256", rsa)):
        options = engine_options(f"NORMAL:-SIGN-ALL:+SIGN-{signature}")
        client = engines.client()
        exchange(client, engines.server(identities=(rsa, ecdsa), **options))
        assert client.agreed.peer.certificates[0] == identity.chain[0]
    server = engines.server(identities=(rsa, ecdsa), **engine_options("NORMAL:-SIGN-ALL:+SIGN-EdDSA-Ed25519"))
    error = failed(server, start(engines.client()))
    assert isinstance(error, HandshakeFailed)
    assert error.failure is Failure.NO_COMMON_PARAMETERS


def test_a_client_takes_no_signature_that_its_policy_lacks() -> None:
    """Also of a server that signs without asking."""
    server = engines.bare_server()
    client = engines.client(**engine_options("NORMAL:-SIGN-ALL:+SIGN-EdDSA-Ed25519"))
    flight = engines.feed(server, _with_any_signature(client))
    error = failed(client, flight)
    assert isinstance(error, HandshakeFailed)
    assert error.failure is Failure.ILLEGAL_PARAMETER


def _with_any_signature(client: Any) -> dict[Epoch, bytes]:
    """Return the ClientHello of an engine that offers every signature, while it takes fewer for offered."""
    wanted = client._signature_algorithms
    client._signature_algorithms = list(TlsOptions(role=Role.CLIENT).signatures)
    flight = start(client)
    client._signature_algorithms = wanted
    return flight


@pytest.mark.parametrize(
    ("policy", "groups"),
    [
        ("NORMAL", (P256, X25519)),
        ("NORMAL:-GROUP-X25519", (P256,)),
        ("NORMAL:-GROUP-ALL:+GROUP-SECP521R1:+GROUP-SECP384R1", (0x19,)),
    ],
)
def test_a_clients_groups(policy: str, groups: tuple[int, ...]) -> None:
    """The key shares of the settings that the policy leaves; where it leaves none, its first group of ``groups``."""
    options = QuicHandshaker(Settings())._options(asked(policy))
    assert options.groups == groups


@pytest.mark.parametrize(
    "policy",
    [
        "NORMAL:+ROT13",
        "NORMAL:-CIPHER-ALL:+AES-128-CCM",
        "NORMAL:-GROUP-ALL:+GROUP-X25519-MLKEM768",
        "NORMAL:-GROUP-ALL:+GROUP-FFDHE2048",
    ],
)
@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
def test_what_cannot_be_kept(policy: str, role: Role) -> None:
    """NOT_OFFERED_HERE, before anything is sent."""
    with pytest.raises(HandshakeFailed) as error:
        QuicHandshaker(Settings())._options(asked(policy, role))
    assert error.value.failure is Failure.NOT_OFFERED_HERE


def test_a_policy_is_never_wider_than_the_settings() -> None:
    """A policy is never wider than the settings, with any words in it."""
    narrow = QuicHandshaker(Settings(ciphers=("TLS_AES_256_GCM_SHA384",), groups=("P-384",), key_shares=("P-384",)))
    for role in Role:
        options = narrow._options(asked("NORMAL", role))
        assert (options.cipher_suites, options.groups) == ((0x1302,), (P384,))


def test_tickets() -> None:
    """``%NO_TICKETS``: none is issued, kept, found or used."""
    kept = TlsOptions(role=Role.CLIENT, resume=resumable())
    assert narrowed(kept, asked("NORMAL")).resume is kept.resume
    assert narrowed(kept, asked("NORMAL:%NO_TICKETS")).resume is None
    handshaker = QuicHandshaker(Settings())
    for role in Role:
        plain = handshaker._options(asked("NORMAL", role))
        without = handshaker._options(asked("NORMAL:%NO_TICKETS", role))
        assert (without.issue, without.find, without.keep, without.resume) == (issue_none, find_none, keep_none, None)
        assert plain.keep is not keep_none or plain.issue is not issue_none


def test_without_a_policy() -> None:
    """The options are those of the settings."""
    options = TlsOptions(role=Role.CLIENT)
    assert narrowed(options, request(Role.CLIENT)) is options
    assert options.cipher_suites == ALL_SUITES


@pytest.mark.parametrize("kind", DOORS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
def test_on_sockets_of_the_kernel(kind: Kind, role: Role) -> None:
    """Cipher and group are the policy's, whichever end has it."""

    async def scenario(door: Door) -> None:
        policy = {"tls_priorities": (AES_256_P384,)}
        mine: dict[str, Any] = {role.name.lower(): policy}
        _, _, client, server = await meet(door, **mine)
        assert client.tags == server.tags
        assert (client.tags["cipher"], client.tags["group"]) == ("TLS_AES_256_GCM_SHA384", "P-384")

    on_kernel(kind, scenario)


@pytest.mark.parametrize("kind", DOORS, ids=lambda kind: kind.name)
def test_the_owners_cipher_beside_the_policy(kind: Kind) -> None:
    """Both hold: a payload cipher that the policy does not have is NOT_OFFERED_HERE."""

    async def scenario(door: Door) -> None:
        address, accepted = await door.server(options=ALPN)
        ours = await door.client(address, options={**ALPN, kernel.CONFIG: config(cipher=kernel.CIPHER_TYPES[0x1301])})
        client = await result_of(shake(door, ours, client_request(tls_priorities=(AES_256_P384,))))
        accepted.cancel()
        assert isinstance(client, HandshakeFailed), client
        assert client.failure is Failure.NOT_OFFERED_HERE

    on_kernel(kind, scenario)


@pytest.mark.parametrize("kind", DOORS, ids=lambda kind: kind.name)
def test_no_ticket_is_waited_for(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's owner wants one and its policy none: the handshake ends without."""
    waited: list[object] = []

    async def receive(*arguments: object) -> bool:
        waited.append(arguments)
        return False

    monkeypatch.setattr("hsframework_quic.kernel.plugin._receive_ticket", receive)

    async def scenario(door: Door) -> None:
        options = {kernel.CONFIG: config(ticket=1)}
        for policy, times in (("NORMAL:%NO_TICKETS", 0), ("NORMAL", 1)):
            await meet(door, client={"tls_priorities": (policy,)}, client_options=options)
            assert len(waited) == times

    on_kernel(kind, scenario)


def test_the_protocols_say_so() -> None:
    """Else the agent would refuse each request that has a policy."""
    assert Demand.TLS_POLICIES in QuicProtocol.understands
    assert Demand.TLS_POLICIES in KernelQuicProtocol.understands
