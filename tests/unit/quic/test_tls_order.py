"""Handshake data at the wrong level, out of order, in pieces, changed or random, at the TLS engine."""

from __future__ import annotations

from typing import Any

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode
from aioquic.tls import Epoch
from hypothesis import given, settings, strategies as st

from hsframework.failures import Failure
from hsframework.interface import CertificateDemand
from hsframework_quic.aioquic_adapter.tls import Refused, VerifiedContext
from tests.unit.quic.tls_support import (
    CERTIFICATE,
    CERTIFICATE_REQUEST,
    CLIENT,
    CLIENT_HELLO,
    FINISHED,
    KEY_UPDATE,
    LEVELS,
    SERVER_HELLO,
    Flight,
    bare_client,
    bare_server,
    client,
    exchange,
    failure_of,
    feed,
    message,
    messages,
    replaced,
    server,
    start,
    with_extensions,
)


@pytest.mark.parametrize("level", [Epoch.HANDSHAKE, Epoch.ONE_RTT])
def test_a_client_hello_at_another_level(level: Epoch) -> None:
    """RFC 9001 section 4.1.3: each message has its level."""
    assert failure_of(server(), {level: start(client())[Epoch.INITIAL]}) is Failure.UNEXPECTED_MESSAGE


def test_encrypted_extensions_that_are_not_encrypted() -> None:
    """The server's flight in Initial packets, behind the ServerHello or later."""
    ours = client()
    flight = feed(server(), start(ours))
    together: Flight = {Epoch.INITIAL: flight[Epoch.INITIAL] + flight[Epoch.HANDSHAKE]}
    buffers = {level: Buffer(capacity=1 << 16) for level in LEVELS}
    ours.level = Epoch.INITIAL
    with pytest.raises(QuicConnectionError) as caught:
        ours.handle_message(together[Epoch.INITIAL], buffers)
    assert caught.value.error_code == QuicErrorCode.PROTOCOL_VIOLATION
    ours = client()
    flight = feed(server(), start(ours))
    feed(ours, {Epoch.INITIAL: flight[Epoch.INITIAL]})
    assert failure_of(ours, {Epoch.INITIAL: flight[Epoch.HANDSHAKE]}) is Failure.UNEXPECTED_MESSAGE


def test_a_level_must_be_set() -> None:
    """An engine that is not told the level takes nothing."""
    ours, flight = server(), start(client())
    with pytest.raises(Refused):
        ours.handle_message(flight[Epoch.INITIAL], {level: Buffer(capacity=1 << 16) for level in LEVELS})


@pytest.mark.parametrize(("kind", "size"), [(1, 1 << 17), (1, (1 << 24) - 1)])
def test_a_message_that_is_too_large(kind: int, size: int) -> None:
    """Refused by its header: nothing of it is kept."""
    ours = server()
    assert failure_of(ours, {Epoch.INITIAL: bytes((kind,)) + size.to_bytes(3, "big")}) is Failure.GARBAGE


@pytest.mark.parametrize("kind", [0, 2, 3, 5, 8, 11, 15, 20, 24, 254])
def test_another_message_first(kind: int) -> None:
    """A server's first message is a ClientHello; another is refused by its first byte."""
    assert failure_of(server(), {Epoch.INITIAL: bytes((kind,))}) is Failure.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("kind", [KEY_UPDATE, CERTIFICATE, SERVER_HELLO, FINISHED])
def test_after_the_handshake(kind: int) -> None:
    """RFC 9001 section 6: no KeyUpdate; nor anything else but tickets."""
    ours, theirs = client(), server()
    exchange(ours, theirs)
    for context in (ours, theirs):
        assert failure_of(context, {Epoch.ONE_RTT: message(kind, b"\0")}) is Failure.UNEXPECTED_MESSAGE


def test_a_certificate_request_after_the_handshake() -> None:
    """RFC 9001 section 4.4: PROTOCOL_VIOLATION."""
    ours = client()
    exchange(ours, server())
    ours.level = Epoch.ONE_RTT
    with pytest.raises(QuicConnectionError) as caught:
        ours.handle_message(message(CERTIFICATE_REQUEST, b"\0"), {level: Buffer(capacity=64) for level in LEVELS})
    assert caught.value.error_code == QuicErrorCode.PROTOCOL_VIOLATION


def test_early_data_is_neither_sent_nor_accepted() -> None:
    """A client that offers 0-RTT gets a full handshake, and no key for reading it is made."""
    levels: list[Epoch] = []
    ours = server(find=lambda ticket: pytest.fail("0-RTT is offered, and a session is looked for"))
    ours.update_traffic_key_cb = lambda direction, epoch, suite, secret: levels.append(epoch)
    offer = with_extensions(
        lambda found: [*found, (45, b"\x01\x01"), (42, b""), (41, b"\0\x07\0\x01x\0\0\0\0\0\x21\x20" + b"b" * 32)]
    )
    answer = feed(ours, replaced(start(client()), CLIENT_HELLO, offer))
    assert CERTIFICATE in {whole[0] for whole in messages(answer[Epoch.HANDSHAKE])}
    assert Epoch.ZERO_RTT not in levels
    assert not ours.early_data_accepted


def test_what_has_failed_stays_failed() -> None:
    """The same error again, and no message is taken."""
    ours = client()
    flight = feed(server(), start(ours))
    spoilt = replaced(flight, FINISHED, lambda whole: whole[:-1] + bytes([whole[-1] ^ 1]))
    assert failure_of(ours, spoilt) is Failure.BAD_SIGNATURE
    assert failure_of(ours, flight) is Failure.BAD_SIGNATURE


def test_an_error_of_our_own_fails_closed() -> None:
    """An error of any kind while judging: internal_error, and no session."""

    def broken(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        raise ZeroDivisionError

    ours = client(verify=broken)
    assert failure_of(ours, feed(server(), start(ours))) is Failure.INTERNAL


def test_nobody_is_believed_who_was_not_judged() -> None:
    """A judge that believes nothing in particular is not taken for one that believes."""
    ours = client(verify=lambda chain: ())
    assert failure_of(ours, feed(server(), start(ours))) is Failure.INTERNAL


def _split(flight: Flight, at: int) -> tuple[Flight, Flight]:
    data = flight[Epoch.HANDSHAKE]
    return {Epoch.INITIAL: flight[Epoch.INITIAL], Epoch.HANDSHAKE: data[:at]}, {Epoch.HANDSHAKE: data[at:]}


def test_in_two_pieces_and_byte_by_byte() -> None:
    """A flight that is cut anywhere ends as it does whole."""
    theirs = server(client_certificate=CertificateDemand.REQUIRE)
    size = len(feed(server(), start(client()))[Epoch.HANDSHAKE])
    for at in [*range(1, size, 97), size - 1]:
        ours = client()
        for part in _split(feed(server(), start(ours)), at):
            feed(ours, part)
        assert ours.finished
    ours = client(identities=(CLIENT.identity,))
    flight = start(ours)
    receiver: VerifiedContext = theirs
    while flight:
        answer: Flight = {}
        for level, data in flight.items():
            for byte in data:
                for where, more in feed(receiver, {level: bytes((byte,))}).items():
                    answer[where] = answer.get(where, b"") + more
        flight, receiver = answer, (ours if receiver is theirs else theirs)
    assert ours.finished
    assert theirs.finished


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_byte_of_a_servers_flight(data: st.DataObject) -> None:
    """The transcript covers every byte: a client never finishes, and fails in one of the documented ways."""
    ours = client()
    flight = feed(server(client_certificate=CertificateDemand.REQUEST), start(ours))
    level = data.draw(st.sampled_from([Epoch.INITIAL, Epoch.HANDSHAKE]))
    assert_fails_or_waits(ours, _spoil(data, flight, level))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_any_changed_byte_of_a_clients_flights(data: st.DataObject) -> None:
    """The same for a server, in either of the client's flights."""
    theirs, ours = client(identities=(CLIENT.identity,)), server(client_certificate=CertificateDemand.REQUIRE)
    first = start(theirs)
    if data.draw(st.booleans()):
        changed = _spoil(data, first, Epoch.INITIAL)
        try:
            answer = feed(ours, changed)
        except (tls.Alert, QuicConnectionError):
            return
        try:
            flight = feed(theirs, answer)
        except (tls.Alert, QuicConnectionError):
            return
        assert_fails_or_waits(ours, flight)
    else:
        flight = feed(theirs, feed(ours, first))
        assert_fails_or_waits(ours, _spoil(data, flight, Epoch.HANDSHAKE))


def _spoil(data: st.DataObject, flight: Flight, level: Epoch) -> Flight:
    spoilt = bytearray(flight[level])
    # Signatures differ in size from one run to the next: where to spoil is drawn without regard to it.
    spoilt[data.draw(st.integers(0, (1 << 14) - 1)) % len(spoilt)] ^= data.draw(st.integers(1, 255))
    return {**flight, level: bytes(spoilt)}


def assert_fails_or_waits(context: VerifiedContext, flight: Flight) -> None:
    try:
        feed(context, flight)
    except (tls.Alert, QuicConnectionError):
        assert context.failure is not None
        assert getattr(context.failure, "failure", None) is not Failure.INTERNAL
    assert not context.finished


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from(LEVELS))
def test_random_input(data: bytes, level: Epoch) -> None:
    """Nothing but the documented errors."""
    for context in (server(), client()):
        if context.options.role == 1:
            start(context)
        assert_fails_or_waits(context, {level: data})


def test_a_peer_of_the_same_role() -> None:
    """Two clients, two servers: nothing comes of it."""
    assert failure_of(_started(client()), start(client())) is Failure.UNEXPECTED_MESSAGE
    flight: Any = feed(server(), start(client()))
    assert failure_of(server(), flight) is Failure.UNEXPECTED_MESSAGE


def _started(context: VerifiedContext) -> VerifiedContext:
    start(context)
    return context


def test_bare_aioquic_takes_what_we_refuse() -> None:
    """The reason for all this: aioquic's own engine goes on where ours stops."""
    theirs = bare_client()
    flight = feed(bare_server(), start(theirs))
    theirs.handle_message(
        flight[Epoch.INITIAL] + flight[Epoch.HANDSHAKE], {level: Buffer(capacity=1 << 16) for level in LEVELS}
    )
    assert theirs.state is tls.State.CLIENT_POST_HANDSHAKE
