"""Tickets: what may be resumed, and what is judged again when it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch

from hsframework.credentials.chain import Purpose
from hsframework.failures import Failure
from hsframework.interface import CertificateDemand
from hsframework_quic.aioquic_adapter.tls import MAX_TICKETS, VerifiedContext
from hsframework_quic.aioquic_adapter.tls_options import Resumable
from tests.unit.quic.tls_support import (
    CLIENT,
    LEVELS,
    ROOT,
    SERVER,
    bare_client,
    client,
    exchange,
    failure_of,
    feed,
    judge,
    message,
    replaced,
    server,
    start,
)

REVOKED = ROOT.trust(ROOT.crl([SERVER, CLIENT]))


class Store:
    """A server's tickets and a client's."""

    def __init__(self) -> None:
        self.issued: dict[bytes, Resumable] = {}
        self.kept: list[Resumable] = []
        self.server = {"issue": self._issue, "find": self.issued.get}
        self.client = {"keep": self.kept.append}

    def _issue(self, session: Resumable) -> bytes:
        name = len(self.issued).to_bytes(32, "big")
        self.issued[name] = session
        return name


def ticket(store: Store, demand: CertificateDemand = CertificateDemand.NONE) -> Resumable:
    """Run a first handshake, and return its ticket."""
    shaken = client(identities=(CLIENT.identity,), **store.client)
    exchange(shaken, server(client_certificate=demand, **store.server))
    return store.kept[-1]


def again(store: Store, session: Resumable, demand: CertificateDemand, **options: Any) -> tuple[Any, Any]:
    ours = client(identities=(CLIENT.identity,), resume=session, **{**store.client, **options.get("client", {})})
    theirs = server(client_certificate=demand, **{**store.server, **options.get("server", {})})
    exchange(ours, theirs)
    return ours.agreed, theirs.agreed


@pytest.mark.parametrize("demand", [CertificateDemand.NONE, CertificateDemand.REQUIRE])
def test_a_session_is_resumed(demand: CertificateDemand) -> None:
    """Both ends know the peer of the first handshake, and a new ticket comes."""
    store = Store()
    ours, theirs = again(store, ticket(store, demand), demand)
    assert ours.resumed
    assert theirs.resumed
    assert ours.peer.certificates[0] == SERVER.certificate
    assert theirs.peer.certificates[:1] == ((CLIENT.certificate,) if demand else ())
    assert len(store.kept) == 2
    assert ours.exporter_secret == theirs.exporter_secret
    assert len(ours.exporter_secret) == 32


def test_aioquics_client_resumes_with_us() -> None:
    """A peer that is not ours."""
    store = Store()
    kept: list[tls.SessionTicket] = []
    theirs = bare_client()
    theirs.new_session_ticket_cb = kept.append
    exchange(theirs, server(**store.server))
    theirs = bare_client()
    theirs.session_ticket = kept[0]
    exchange(theirs, server(**store.server))
    assert theirs.session_resumed


def test_a_server_that_is_revoked_since() -> None:
    """A client then makes a full handshake, which says so."""
    store = Store()
    session = ticket(store)
    ours = client(resume=session, verify=judge(Purpose.SERVER_AUTH, "server.example", REVOKED))
    assert failure_of(ours, feed(server(**store.server), start(ours))) is Failure.REVOKED


def test_a_client_that_is_revoked_since() -> None:
    """And so does a server."""
    store, demand = Store(), CertificateDemand.REQUIRE
    session = ticket(store, demand)
    theirs = client(identities=(CLIENT.identity,), resume=session)
    ours = server(client_certificate=demand, verify=judge(Purpose.CLIENT_AUTH, None, REVOKED), **store.server)
    assert failure_of(ours, feed(theirs, feed(ours, start(theirs)))) is Failure.REVOKED


@pytest.mark.parametrize(
    ("first", "second"),
    [(CertificateDemand.NONE, CertificateDemand.REQUIRE), (CertificateDemand.REQUIRE, CertificateDemand.NONE)],
)
def test_another_demand(first: CertificateDemand, second: CertificateDemand) -> None:
    """A session without a client certificate opens no door that asks for one."""
    store = Store()
    ours, theirs = again(store, ticket(store, first), second)
    assert not ours.resumed
    assert theirs.peer.certificates[:1] == ((CLIENT.certificate,) if second else ())


def test_a_wrong_binder() -> None:
    """A holder of a ticket without its secret is refused (decrypt_error)."""
    store = Store()
    session = ticket(store)
    stolen = replace(session, ticket=replace(session.ticket, resumption_secret=bytes(32)))
    assert failure_of(server(**store.server), start(client(resume=stolen))) is Failure.BAD_BINDER


def test_a_ticket_that_nobody_knows() -> None:
    """A full handshake."""
    store = Store()
    session = ticket(store)
    store.issued.clear()
    ours, _ = again(store, session, CertificateDemand.NONE)
    assert not ours.resumed


def test_a_ticket_that_has_expired() -> None:
    """Neither end resumes with it."""
    store = Store()
    session = ticket(store)
    past = session.ticket.not_valid_before - timedelta(days=2)
    old = replace(session, ticket=replace(session.ticket, not_valid_before=past, not_valid_after=past))
    assert not again(store, old, CertificateDemand.NONE)[0].resumed
    for name in store.issued:
        store.issued[name] = old
    assert not again(store, session, CertificateDemand.NONE)[0].resumed


def test_another_cipher() -> None:
    """A session is resumed under its own cipher alone."""
    store = Store()
    session = ticket(store)
    ours, _ = again(store, session, CertificateDemand.NONE, client={"cipher_suites": (0x1302,)})
    assert (ours.resumed, ours.cipher) == (False, "TLS_AES_256_GCM_SHA384")
    ours, _ = again(store, session, CertificateDemand.NONE, server={"cipher_suites": (0x1303, 0x1301)})
    assert (ours.resumed, ours.cipher) == (False, "TLS_CHACHA20_POLY1305_SHA256")


def test_a_resumed_session_that_is_not_authorized() -> None:
    """Policy is asked for a resumed session too, with the peer's certificates."""
    from hsframework.failures import HandshakeFailed

    def refuse(peer: Any) -> None:
        assert peer.certificates[0] == SERVER.certificate
        raise HandshakeFailed(Failure.NOT_AUTHORIZED)

    store = Store()
    ours = client(resume=ticket(store), authorize=refuse)
    assert failure_of(ours, feed(server(**store.server), start(ours))) is Failure.NOT_AUTHORIZED


def test_no_tickets_unless_they_are_wanted() -> None:
    """A client that keeps none says so, and a server that gives none sends none."""
    store = Store()
    exchange(client(), server(**store.server))
    assert not store.issued
    ours = client(**store.client)
    exchange(ours, server())
    assert not store.kept


def _new_ticket(lifetime: int, *, early: bytes = b"") -> bytes:
    extensions = b"\0\x2a" + len(early).to_bytes(2, "big") + early if early else b""
    body = lifetime.to_bytes(4, "big") + bytes(4) + b"\x01n" + b"\0\x01t" + len(extensions).to_bytes(2, "big")
    return message(4, body + extensions)


def _finished(store: Store) -> VerifiedContext:
    ours = client(**store.client)
    exchange(ours, server())
    return ours


@pytest.mark.parametrize(("lifetime", "kept"), [(0, 0), (1, 1), (604800, 1), (604801, 0), (2**32 - 1, 0)])
def test_the_lifetime_of_a_ticket(lifetime: int, kept: int) -> None:
    """From 1 second to 7 days (RFC 8446 section 4.6.1)."""
    store = Store()
    feed(_finished(store), {Epoch.ONE_RTT: _new_ticket(lifetime)})
    assert len(store.kept) == kept


def test_a_flood_of_tickets() -> None:
    """A bounded number is kept."""
    store = Store()
    ours = _finished(store)
    for _ in range(3 * MAX_TICKETS):
        feed(ours, {Epoch.ONE_RTT: _new_ticket(3600)})
    assert len(store.kept) == MAX_TICKETS


def test_early_data_in_a_ticket() -> None:
    """It is not kept with the ticket; a size that QUIC does not allow: PROTOCOL_VIOLATION (RFC 9001 section 4.6.1)."""
    store = Store()
    ours = _finished(store)
    feed(ours, {Epoch.ONE_RTT: _new_ticket(3600, early=b"\xff" * 4)})
    assert store.kept[0].ticket.max_early_data_size is None
    with pytest.raises(QuicConnectionError) as caught:
        feed(ours, {Epoch.ONE_RTT: _new_ticket(3600, early=b"\0\0\0\1")})
    assert caught.value.error_code == QuicErrorCode.PROTOCOL_VIOLATION


@pytest.mark.parametrize("spoil", [b"", b"x", b"\0" * 8, b"\0" * 12])
def test_a_ticket_that_is_malformed(spoil: bytes) -> None:
    """decode_error."""
    assert failure_of(_finished(Store()), {Epoch.ONE_RTT: message(4, spoil)}) is Failure.GARBAGE


def test_a_server_that_claims_to_resume() -> None:
    """A pre_shared_key that was not offered, or another than the one offered."""
    from tests.unit.quic.tls_support import also

    store = Store()
    session = ticket(store)
    ours = client(resume=session)
    flight = feed(server(), start(ours))
    assert failure_of(ours, replaced(flight, 2, also(41, b"\0\1"))) is Failure.ILLEGAL_PARAMETER
    ours = client(resume=session)
    flight = feed(server(), start(ours))
    # It says that it resumes, and goes on with a certificate: its keys are others by then.
    assert failure_of(ours, replaced(flight, 2, also(41, b"\0\0"))) is Failure.UNEXPECTED_MESSAGE


def test_secrets_are_not_shown() -> None:
    """Neither a session nor its ticket says its secret."""
    store = Store()
    session = ticket(store)
    assert session.ticket.resumption_secret.hex() not in repr(session)
    assert repr(session.ticket.resumption_secret) not in repr(session)


def test_the_key_log() -> None:
    """Four lines of each side, the same ones (NSS key log format)."""
    lines: list[list[str]] = [[], []]
    ours, theirs = client(key_log=lines[0].append), server(key_log=lines[1].append)
    exchange(ours, theirs)
    assert sorted(lines[0]) == sorted(lines[1])
    labels = {line.split(" ")[0] for line in lines[0]}
    assert labels == {
        f"{side}_{what}" for side in ("CLIENT", "SERVER") for what in ("HANDSHAKE_TRAFFIC_SECRET", "TRAFFIC_SECRET_0")
    }


def test_buffers_that_are_too_small() -> None:
    """A chain of ours that does not fit is our own failure and no crash."""
    chain = ROOT.issue(["server.example"]).identity
    long = replace(chain, chain=(*chain.chain, *[ROOT.certificate] * 60))
    ours = server(identities=(long,))
    ours.level = Epoch.INITIAL
    with pytest.raises(tls.Alert):
        ours.handle_message(start(client())[Epoch.INITIAL], {level: Buffer(capacity=16384) for level in LEVELS})
    assert getattr(ours.failure, "failure", None) is Failure.NO_KEY
