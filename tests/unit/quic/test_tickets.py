"""Sessions for resumption: bound to the policy of their request, used once, bounded, judged again."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta

import pytest
from aioquic.tls import CipherSuite, SessionTicket

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import AuthMode, CertificateDemand, Request, Role, Trust
from hsframework_quic.aioquic_adapter.tls_options import Resumable
from hsframework_quic.handshake.client import ClientHandshake
from hsframework_quic.handshake.handshake import Handshake
from hsframework_quic.handshake.server import ServerHandshake
from hsframework_quic.handshake.tickets import PER_PEER, Tickets
from hsframework_quic.resumption import policy
from hsframework_quic.session import VERSION_1, VERSION_2
from hsframework_quic.settings import Settings
from tests.support.quic_network import START, Network, Ours, authority, client_options, identity, server_options

REQUEST = Request(
    id=1,
    group="quic",
    role=Role.CLIENT,
    auth_mode=AuthMode.X509,
    deadline=0.0,
    peer_name="server.example",
    peer_address="192.0.2.1:443",
    identities=(identity(),),
    trust=authority().trust(),
    alpn=("h3",),
)
OTHERS = {
    "role": replace(REQUEST, role=Role.SERVER),
    "mode": replace(REQUEST, auth_mode=AuthMode.UNAUTHENTICATED),
    "name": replace(REQUEST, peer_name="other.example"),
    "any name": replace(REQUEST, any_peer_name=True),
    "address": replace(REQUEST, peer_address="192.0.2.1:444"),
    "identities": replace(REQUEST, identities=(identity("other.example"),)),
    "no identity": replace(REQUEST, identities=()),
    "trust": replace(REQUEST, trust=Trust((b"x",))),
    "no trust": replace(REQUEST, trust=None),
    "alpn": replace(REQUEST, alpn=("h3", "hq")),
    "demand": replace(REQUEST, client_certificate=CertificateDemand.REQUIRE),
    "group": replace(REQUEST, group="other"),
    "profile": replace(REQUEST, profile="other"),
    "user": replace(REQUEST, user=1000),
    "TLS policy": replace(REQUEST, tls_priorities=("SECURE192",)),
}
OF_NO_CONCERN = {"id", "deadline", "local_address", "kernel_consumer"}
"""Fields that may differ between a session and its resumption."""
UNKNOWN_TO_QUIC = {"psks", "psk_lookup", "open_netlink", "authorize", "attributes"}
"""Fields that QUIC has no use for, that are checked anew, or that are this one request's datagrams."""


def resumable(name: str = "one") -> Resumable:
    now = datetime.now(UTC)
    ticket = SessionTicket(
        age_add=0,
        cipher_suite=CipherSuite.AES_128_GCM_SHA256,
        not_valid_before=now,
        not_valid_after=now + timedelta(hours=1),
        resumption_secret=bytes(32),
        server_name="server.example",
        ticket=name.encode(),
    )
    return Resumable(ticket, ())


@pytest.mark.parametrize("what", OTHERS)
def test_another_policy_gets_no_session(what: str) -> None:
    """Neither a client's nor a server's, whatever differs; what does not matter does not."""
    tickets = Tickets(10)
    tickets.keep(policy(REQUEST), resumable())
    name = tickets.issue(policy(REQUEST), resumable())
    assert name is not None
    assert tickets.take(policy(OTHERS[what])) is None
    assert tickets.find(policy(OTHERS[what]), name) is None
    same = replace(REQUEST, id=7, deadline=9.0, local_address="192.0.2.9:1")
    assert tickets.take(policy(same)) is not None
    assert tickets.find(policy(same), name) is not None


def test_every_field_of_a_request_is_judged() -> None:
    """A new field of Request is a part of the policy, or stands in one of the lists above."""
    differing = {
        field.name
        for field in fields(Request)
        for other in OTHERS.values()
        if getattr(other, field.name) != getattr(REQUEST, field.name)
    }
    assert differing | OF_NO_CONCERN | UNKNOWN_TO_QUIC == {field.name for field in fields(Request)}


def test_a_ticket_is_used_once_and_the_newest_first() -> None:
    """RFC 8446 appendix C.4."""
    tickets = Tickets(10)
    key = policy(REQUEST)
    for name in ("old", "new"):
        tickets.keep(key, resumable(name))
    assert [tickets.take(key).ticket.ticket for _ in range(2)] == [b"new", b"old"]  # type: ignore[union-attr]
    assert tickets.take(key) is None
    issued = tickets.issue(key, resumable())
    assert issued is not None
    assert tickets.find(key, issued) is not None
    assert tickets.find(key, issued) is None


def test_they_are_bounded() -> None:
    """For each peer and in all; the oldest go."""
    tickets = Tickets(5)
    keys = [bytes((number,)) for number in range(20)]
    for key in keys:
        for _ in range(PER_PEER + 2):
            tickets.keep(key, resumable())
    assert len(tickets) == 5
    assert tickets.take(keys[0]) is None
    assert tickets.take(keys[-1]) is not None
    names = [tickets.issue(keys[0], resumable()) for _ in range(9)]
    assert [tickets.find(keys[0], name) is not None for name in names if name] == [False] * 4 + [True] * 5


def test_none_are_given_where_none_are_wanted() -> None:
    """``tickets = 0``."""
    assert Tickets(0).options_for(REQUEST) == {}


def meet(client: Handshake, server: Handshake) -> tuple[Ours, Ours]:
    ours = Ours(client), Ours(server)
    network = Network(*ours)
    assert network.run(lambda: ours[0].session is not None and ours[1].session is not None, 5.0)
    return ours


def test_a_resumed_session_reports_whom_it_was_made_with() -> None:
    """The certificates as verified then, in both roles; judged again: a peer that is no longer trusted is refused."""
    tickets = Tickets(10)
    shown = {"identities": (identity("client.example"),)}
    demand = {"client_certificate": CertificateDemand.REQUIRE}
    here, there = policy(REQUEST), policy(OTHERS["role"])
    judged: list[tuple[bytes, ...]] = []
    refuse = False

    def options() -> tuple[ClientHandshake, ServerHandshake]:
        client = client_options(**shown, keep=lambda item: tickets.keep(here, item), resume=tickets.take(here))
        server = server_options(
            **demand, issue=lambda item: tickets.issue(there, item), find=lambda name: tickets.find(there, name)
        )
        believe = client.verify

        def verify(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
            judged.append(chain)
            if refuse:
                raise HandshakeFailed(Failure.EXPIRED)
            return believe(chain)

        client = replace(client, verify=verify)
        return ClientHandshake(Settings(), client, START), ServerHandshake(Settings(), server)

    first = meet(*options())
    assert first[0].session is not None
    assert first[0].session.ticket is not None
    second = meet(*options())
    for once, again in zip(first, second, strict=True):
        assert once.session is not None
        assert again.session is not None
        assert (once.session.resumed, again.session.resumed) == (False, True)
        assert once.handshake.agreed is not None
        assert again.handshake.agreed is not None
        assert again.handshake.agreed.peer == once.handshake.agreed.peer
        assert again.handshake.agreed.peer.certificates
    assert len(judged) == 2
    refuse = True
    begun = options()
    client, server = Ours(begun[0]), Ours(begun[1])
    assert Network(client, server).run(lambda: client.handshake.error is not None, 5.0)
    assert isinstance(client.handshake.error, HandshakeFailed)
    assert client.handshake.error.failure is Failure.EXPIRED


@pytest.mark.parametrize(("first", "second"), [("v1", "v2"), ("v2", "v1")])
def test_another_version_gets_no_session(first: str, second: str) -> None:
    """RFC 9369 section 5, by both sides: the client does not offer it, and the server does not take it."""
    kept: list[Resumable] = []
    tickets = Tickets(10)
    there = {"issue": lambda item: tickets.issue(b"", item), "find": lambda name: tickets.find(b"", name)}

    def again(version: str, resume: Resumable | None) -> list[bool]:
        settings = Settings(versions=(version,))
        client = ClientHandshake(settings, client_options(keep=kept.append, resume=resume), START)
        sides = meet(client, ServerHandshake(Settings(), server_options(**there)))
        return [side.session.resumed for side in sides if side.session is not None]

    again(first, None)
    assert again(second, kept[-1]) == [False, False]
    again(first, None)
    of_first = kept[-1]
    lied = replace(of_first, version={"v1": VERSION_1, "v2": VERSION_2}[second])
    assert again(second, lied) == [False, False]
    again(first, None)
    assert again(first, kept[-1]) == [True, True]


def test_version_negotiation_offers_no_session_of_the_version_before() -> None:
    """The client begins anew in the other version, without the ticket."""
    kept: list[Resumable] = []
    meet(
        ClientHandshake(Settings(versions=("v1",)), client_options(keep=kept.append), START),
        ServerHandshake(Settings(), server_options(issue=lambda item: b"name")),
    )
    asked: list[bytes] = []

    def find(name: bytes) -> Resumable | None:
        asked.append(name)
        return None

    client, _ = meet(
        ClientHandshake(Settings(), client_options(resume=kept[-1]), START),
        ServerHandshake(Settings(versions=("v2",)), server_options(find=find)),
    )
    assert client.session is not None
    assert client.session.version == VERSION_2
    assert asked == []


def test_early_data_is_neither_offered_nor_promised() -> None:
    """No ticket of ours allows 0-RTT, and a server's that does is kept without it."""
    kept: list[Resumable] = []
    client = ClientHandshake(Settings(), client_options(keep=kept.append), START)
    server = ServerHandshake(Settings(), server_options(issue=lambda item: b"name"))
    _, there = meet(client, server)
    assert kept[0].ticket.max_early_data_size is None
    assert there.session is not None
    (data,) = (frame.data for packet in there.session.sent for frame in packet.frames if frame.data)
    assert data.endswith(b"name\0\0")  # no extension, and so no early_data, in the NewSessionTicket
