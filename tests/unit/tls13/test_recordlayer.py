"""The record layer: published records, every split, and each limit of RFC 8446 section 5."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from hsframework.failures import Failure
from hsframework.interface import Role, Secret
from hsframework_tls13.allowance import BURST, TICKETS
from hsframework_tls13.ciphers import AES_128_CCM, AES_128_GCM, CHACHA20_POLY1305, MAX_SEQUENCE, SUITES, CipherSuite
from hsframework_tls13.events import Closed, Data, Event, KeyUpdated, SessionBroken, SessionTruncated, TicketIgnored
from hsframework_tls13.inbound import MAX_MESSAGE
from hsframework_tls13.protection import Sealer
from hsframework_tls13.recordlayer import RecordLayer
from hsframework_tls13.records import ALERT, APPLICATION_DATA, HANDSHAKE, MAX_CIPHERTEXT, MAX_PLAINTEXT
from tests.unit.tls13.support import rfc8448, session_layers

KEY_UPDATE = b"\x18\x00\x00\x01"
TICKET = b"\x04\x00\x00\x03abc"


def rfc8448_layer(role: Role) -> RecordLayer:
    secrets = [Secret(rfc8448(f"{side}_application_traffic_secret_0")) for side in ("client", "server")]
    return RecordLayer(role, AES_128_GCM, secrets[0], secrets[1])


def data_of(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events if isinstance(event, Data))


def hostile_server() -> tuple[RecordLayer, Sealer]:
    """Make a client's layer, and the means to write anything under the keys of its server."""
    client, _ = session_layers(AES_128_GCM)
    return client, Sealer(AES_128_GCM, Secret(b"s" * 32))


def broken_by(records: bytes, layer: RecordLayer) -> SessionBroken:
    with pytest.raises(SessionBroken) as caught:
        layer.receive_data(records)
    return caught.value


def alert_heard(client: RecordLayer) -> int | None:
    """Return the alert that ``client`` sends, as its server reads it."""
    _, server = session_layers(AES_128_GCM)
    with pytest.raises(SessionBroken) as caught:
        server.receive_data(client.data_to_send())
    return caught.value.peer_alert


def test_a_client_reads_and_writes_the_records_of_rfc_8448() -> None:
    """Ticket, data and close_notify of section 3, byte for byte."""
    client = rfc8448_layer(Role.CLIENT)
    server_side = [rfc8448(f"server_{name}_record") for name in ("new_session_ticket", "application_data", "alert")]
    assert client.encrypt(rfc8448("application_data")) == rfc8448("client_application_data_record")
    assert client.receive_data(b"".join(server_side)) == [TicketIgnored(), Data(rfc8448("application_data")), Closed()]
    assert client.close() == rfc8448("client_alert_record")
    assert client.peer_closed


def test_a_server_reads_the_records_of_rfc_8448() -> None:
    """The client's direction of the same session."""
    server = rfc8448_layer(Role.SERVER)
    sent = rfc8448("client_application_data_record") + rfc8448("client_alert_record")
    assert server.receive_data(sent) == [Data(rfc8448("application_data")), Closed()]


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("size", [0, 1, MAX_PLAINTEXT, MAX_PLAINTEXT + 1, 100_000])
def test_data_passes_under_every_suite(suite: CipherSuite, size: int) -> None:
    """Both directions, in one record and in several."""
    client, server = session_layers(suite)
    payload = bytes(index % 251 for index in range(size))
    assert data_of(server.receive_data(client.encrypt(payload))) == payload
    assert data_of(client.receive_data(server.encrypt(payload))) == payload


def conversation() -> bytes:
    """Encrypt data, a KeyUpdate with a wish, data, a KeyUpdate without, data, close_notify."""
    client, _ = session_layers()
    said = client.encrypt(b"one") + client.update_keys(True) + client.encrypt(b"two" * 100)
    return said + client.update_keys() + client.encrypt(b"three") + client.close()


CONVERSATION = conversation()
EVENTS = [Data(b"one"), KeyUpdated(True), Data(b"two" * 100), KeyUpdated(False), Data(b"three"), Closed()]


@pytest.mark.parametrize("split", range(len(CONVERSATION) + 1))
def test_input_may_be_split_anywhere(split: int) -> None:
    """The same events, at every split in two."""
    _, server = session_layers()
    assert server.receive_data(CONVERSATION[:split]) + server.receive_data(CONVERSATION[split:]) == EVENTS


@hypothesis_settings(deadline=None)
@given(st.lists(st.integers(0, len(CONVERSATION)), max_size=30))
def test_input_may_be_split_into_many(cuts: list[int]) -> None:
    """The same events, in pieces of any size, trailing bytes ignored after close_notify."""
    _, server = session_layers()
    edges = [0, *sorted(cuts), len(CONVERSATION)]
    events = [event for start, end in zip(edges, edges[1:], strict=False)
              for event in server.receive_data(CONVERSATION[start:end])]  # fmt: skip
    assert events == EVENTS
    assert server.receive_data(b"whatever comes after") == []
    server.receive_eof()


@hypothesis_settings(deadline=None)
@given(st.integers(0, len(CONVERSATION) * 8 - 1))
def test_a_flipped_bit_is_never_accepted(bit: int) -> None:
    """A change on the way is a documented error, and no event comes from the changed record on."""
    _, server = session_layers()
    spoilt = bytearray(CONVERSATION)
    spoilt[bit // 8] ^= 1 << bit % 8
    events: list[Event] = []
    with pytest.raises(SessionBroken):
        for index in range(len(spoilt)):
            events += server.receive_data(bytes(spoilt[index : index + 1]))
        server.receive_eof()
    assert events == EVENTS[: len(events)]
    assert len(events) < len(EVENTS)


@hypothesis_settings(deadline=None)
@given(st.binary(max_size=200))
def test_garbage_is_a_documented_error(data: bytes) -> None:
    """Random input: nothing but SessionBroken ever comes out, and never data."""
    _, server = session_layers()
    with pytest.raises(SessionBroken):
        assert server.receive_data(data) == []
        server.receive_eof()


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
def test_key_updates_in_both_directions(suite: CipherSuite) -> None:
    """A requested update is answered, in front of the next data, and both sides go on under new keys."""
    client, server = session_layers(suite)
    for round_number in range(3):
        text = b"round %d" % round_number
        assert server.receive_data(client.update_keys(True) + client.encrypt(text)) == [KeyUpdated(True), Data(text)]
        assert server.owes_output
        assert client.receive_data(server.encrypt(text)) == [KeyUpdated(False), Data(text)]
        assert not server.owes_output


def test_many_requests_have_one_answer() -> None:
    """Section 4.6.3: an implementation that was silent answers several requests with one update."""
    client, server = session_layers()
    server.receive_data(b"".join(client.update_keys(True) for _ in range(5)))
    assert client.receive_data(server.data_to_send()) == [KeyUpdated(False)]
    assert server.data_to_send() == b""


def test_a_worn_key_is_replaced() -> None:
    """Section 5.5: past its limit a key protects nothing but a KeyUpdate; the peer follows."""
    suite = replace(AES_128_GCM, record_limit=3)
    client, server = session_layers(suite)
    events = server.receive_data(b"".join(client.encrypt(b"x") for _ in range(8)))
    assert [type(event) for event in events] == [*[Data] * 3, KeyUpdated, *[Data] * 3, KeyUpdated, *[Data] * 2]


@pytest.mark.parametrize(
    ("suite", "limit"), [(AES_128_GCM, int(2**24.5)), (AES_128_CCM, 2**23), (CHACHA20_POLY1305, MAX_SEQUENCE - 1)]
)
def test_the_limits_of_the_suites(suite: CipherSuite, limit: int) -> None:
    """At the documented limit, counted from where the session was handed over, a KeyUpdate comes first."""
    client, server = session_layers(suite, sequence=limit - 1)
    assert server.receive_data(client.encrypt(b"a") + client.encrypt(b"b")) == [
        Data(b"a"),
        KeyUpdated(False),
        Data(b"b"),
    ]


def test_sequence_numbers_end() -> None:
    """A peer that never changes its keys: the number after the last is not used."""
    client, server = session_layers(CHACHA20_POLY1305, sequence=MAX_SEQUENCE)
    last = server.update_keys()
    assert client.receive_data(last) == [KeyUpdated(False)]
    stuck, _ = session_layers(CHACHA20_POLY1305, sequence=MAX_SEQUENCE)
    sealer = Sealer(CHACHA20_POLY1305, Secret(b"s" * 32), MAX_SEQUENCE)
    assert stuck.receive_data(sealer.seal(APPLICATION_DATA, b"the last one")) == [Data(b"the last one")]
    assert broken_by(last, stuck).failure is Failure.INTERNAL
    with pytest.raises(ValueError, match="sequence"):
        Sealer(CHACHA20_POLY1305, Secret(b"s" * 32), MAX_SEQUENCE + 1)


def sealed(*inner: tuple[int, bytes]) -> Callable[[Sealer], bytes]:
    return lambda sealer: b"".join(sealer.seal(kind, content) for kind, content in inner)


def asking_updates(count: int) -> Callable[[Sealer], bytes]:
    """Seal KeyUpdates that ask for an answer, each under the keys of the one before."""

    def make(sealer: Sealer) -> bytes:
        made = b""
        for _ in range(count):
            made += sealer.seal(HANDSHAKE, KEY_UPDATE + b"\x01")
            sealer.next_generation()
        return made

    return make


def padded(content: bytes, padding: int) -> Callable[[Sealer], bytes]:
    """Seal a record whose plaintext ends in zeros: ``content`` has its type as its last byte."""

    def make(sealer: Sealer) -> bytes:
        inner = content + bytes(padding)
        header = b"\x17\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
        protected = sealer._aead.encrypt(sealer._nonce(), inner, header)
        sealer.sequence += 1
        return header + protected

    return make


VIOLATIONS: dict[str, tuple[Callable[[Sealer], bytes], Failure]] = {
    "plain alert": (lambda _: b"\x15\x03\x03\x00\x02\x02\x28", Failure.UNEXPECTED_MESSAGE),
    "change cipher spec": (lambda _: b"\x14\x03\x03\x00\x01\x01", Failure.UNEXPECTED_MESSAGE),
    "plain text": (lambda _: b"HTTP/1.1 400 Bad", Failure.UNEXPECTED_MESSAGE),
    "record version": (lambda _: b"\x17\x03\x01\x00\x20" + bytes(32), Failure.GARBAGE),
    "too long": (lambda _: b"\x17\x03\x03" + (MAX_CIPHERTEXT + 1).to_bytes(2, "big"), Failure.RECORD_OVERFLOW),
    "no room for a tag": (lambda _: b"\x17\x03\x03\x00\x10" + bytes(16), Failure.BAD_RECORD_MAC),
    "wrong key": (
        lambda _: Sealer(AES_128_GCM, Secret(b"x" * 32)).seal(APPLICATION_DATA, b"data"),
        Failure.BAD_RECORD_MAC,
    ),
    "long plaintext": (padded(bytes(MAX_PLAINTEXT + 1) + b"\x17", 0), Failure.RECORD_OVERFLOW),
    "long padding": (padded(b"x\x17", MAX_PLAINTEXT), Failure.RECORD_OVERFLOW),
    "padding alone": (padded(b"", 40), Failure.UNEXPECTED_MESSAGE),
    "empty handshake": (sealed((HANDSHAKE, b"")), Failure.UNEXPECTED_MESSAGE),
    "empty alert": (sealed((ALERT, b"")), Failure.UNEXPECTED_MESSAGE),
    "short alert": (sealed((ALERT, b"\x02")), Failure.GARBAGE),
    "two alerts in a record": (sealed((ALERT, b"\x01\x00\x01\x00")), Failure.GARBAGE),
    "inner change cipher spec": (sealed((20, b"\x01")), Failure.UNEXPECTED_MESSAGE),
    "unknown inner type": (sealed((99, b"\x01")), Failure.UNEXPECTED_MESSAGE),
    "data inside a message": (sealed((HANDSHAKE, TICKET[:5]), (APPLICATION_DATA, b"x")), Failure.UNEXPECTED_MESSAGE),
    "key update 2": (sealed((HANDSHAKE, KEY_UPDATE + b"\x02")), Failure.ILLEGAL_PARAMETER),
    "empty key update": (sealed((HANDSHAKE, b"\x18\x00\x00\x00")), Failure.GARBAGE),
    "key update and more": (sealed((HANDSHAKE, KEY_UPDATE + b"\x00" + TICKET)), Failure.UNEXPECTED_MESSAGE),
    "certificate request": (sealed((HANDSHAKE, b"\x0d\x00\x00\x00")), Failure.UNEXPECTED_MESSAGE),
    "client hello": (sealed((HANDSHAKE, b"\x01\x00\x00\x00")), Failure.UNEXPECTED_MESSAGE),
    "endless ticket": (
        sealed((HANDSHAKE, b"\x04" + (MAX_MESSAGE + 1).to_bytes(3, "big"))),
        Failure.ILLEGAL_PARAMETER,
    ),
    "empty data": (sealed(*[(APPLICATION_DATA, b"")] * (BURST + 1)), Failure.UNEXPECTED_MESSAGE),
    "alert after alert": (sealed(*[(ALERT, b"\x01\x5a")] * (BURST + 1)), Failure.UNEXPECTED_MESSAGE),
}


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_what_the_peer_must_not_do(violation: str) -> None:
    """Each violation: the failure of the table, its alert to the peer, and the session is over."""
    client, sealer = hostile_server()
    make, failure = VIOLATIONS[violation]
    error = broken_by(make(sealer), client)
    assert error.failure is failure
    assert error.errno == failure.errno
    assert alert_heard(client) == failure.alert
    assert broken_by(b"", client).failure is failure
    with pytest.raises(SessionBroken):
        client.encrypt(b"more")
    assert client.data_to_send() == client.close() == b""


def test_a_flood_of_key_updates_is_refused() -> None:
    """More than a few in a row without data are an attack; with data between them they are not."""
    client, server = session_layers()
    for _ in range(3):
        client.receive_data(b"".join(server.update_keys() for _ in range(BURST)) + server.encrypt(b"data"))
    flood = b"".join(server.update_keys() for _ in range(BURST + 1))
    events = client.receive_data(flood)
    assert events == [KeyUpdated(False)] * BURST
    assert broken_by(b"", client).failure is Failure.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(
    "flood",
    [sealed(*[(HANDSHAKE, TICKET)] * (BURST * TICKETS + 1)), asking_updates(BURST + 1)],
    ids=["tickets", "key updates that ask"],
)
def test_other_floods_are_refused(flood: Callable[[Sealer], bytes]) -> None:
    """Tickets without end, and KeyUpdates that ask for an answer each."""
    client, sealer = hostile_server()
    client.receive_data(flood(sealer))
    assert broken_by(b"", client).failure is Failure.UNEXPECTED_MESSAGE


@pytest.mark.parametrize(("alert", "number"), [(48, errno.EACCES), (116, errno.EACCES), (20, errno.ECONNABORTED)])
def test_an_alert_in_a_session_is_no_refused_handshake(alert: int, number: int) -> None:
    """A server refuses a client's certificate after the client is done (EACCES); other alerts end a session."""
    client, sealer = hostile_server()
    error = broken_by(sealer.seal(ALERT, bytes((2, alert))), client)
    assert (error.errno, error.peer_alert) == (number, alert)
    assert "refused the handshake" not in str(error)


def test_answers_to_our_own_key_updates_do_not_count() -> None:
    """One way only: we send and ask for new keys, the peer answers each time and has no data of its own."""
    client, server = session_layers()
    for _ in range(5 * BURST):
        server.receive_data(client.encrypt(b"data") + client.update_keys(request_peer=True))
        assert client.receive_data(server.data_to_send()) == [KeyUpdated(False)]
    flood = b"".join(server.update_keys() for _ in range(BURST + 1))
    client.receive_data(flood)
    assert broken_by(b"", client).failure is Failure.UNEXPECTED_MESSAGE


def test_a_silent_peer_that_changes_its_keys_now_and_then_lives_for_ever() -> None:
    """Hourly, for a week; the same number at once is refused."""
    now = [0.0]
    secrets = Secret(b"c" * 32), Secret(b"s" * 32)
    client = RecordLayer(Role.CLIENT, AES_128_GCM, *secrets, clock=lambda: now[0])
    server = RecordLayer(Role.SERVER, AES_128_GCM, *secrets)
    for _ in range(7 * 24):
        now[0] += 3600
        assert client.receive_data(server.update_keys()) == [KeyUpdated(False)]
    client.receive_data(b"".join(server.update_keys() for _ in range(BURST + 1)))
    assert broken_by(b"", client).failure is Failure.UNEXPECTED_MESSAGE


def test_tickets_take_nothing_from_the_allowance_of_others() -> None:
    """As many empty records as are taken without tickets before them."""
    client, sealer = hostile_server()
    records = sealed(*[(HANDSHAKE, TICKET)] * 2, *[(APPLICATION_DATA, b"")] * BURST, (APPLICATION_DATA, b"x"))
    assert client.receive_data(records(sealer)) == [TicketIgnored(), TicketIgnored(), Data(b"x")]


def test_tickets_are_no_misuse() -> None:
    """More of them than OpenSSL sends, and one of 60,000 bytes in records of 16."""
    client, sealer = hostile_server()
    assert client.receive_data(sealed(*[(HANDSHAKE, TICKET)] * 100)(sealer)) == [TicketIgnored()] * 100
    long = b"\x04" + (60_000).to_bytes(3, "big") + bytes(60_000)
    parts = [(HANDSHAKE, long[at : at + 16]) for at in range(0, len(long), 16)]
    assert client.receive_data(sealed(*parts)(sealer)) == [TicketIgnored()]


def test_padding_is_taken_off() -> None:
    """Section 5.4, up to a full record."""
    client, sealer = hostile_server()
    for padding in (1, 100, MAX_PLAINTEXT - 4):
        assert client.receive_data(padded(b"data\x17", padding)(sealer)) == [Data(b"data")]
    assert client.receive_data(padded(b"\x17", 30)(sealer)) == []


def test_messages_may_span_records() -> None:
    """Section 5.1: a ticket in pieces of one byte, and two in one record."""
    client, sealer = hostile_server()
    pieces = b"".join(sealer.seal(HANDSHAKE, TICKET[index : index + 1]) for index in range(len(TICKET)))
    assert client.receive_data(pieces) == [TicketIgnored()]
    assert client.receive_data(sealer.seal(HANDSHAKE, TICKET + TICKET)) == [TicketIgnored(), TicketIgnored()]


def test_a_client_has_no_tickets_to_give() -> None:
    """A server that is sent a NewSessionTicket refuses it."""
    _, server = session_layers(AES_128_GCM)
    record = Sealer(AES_128_GCM, Secret(b"c" * 32)).seal(HANDSHAKE, TICKET)
    assert broken_by(record, server).failure is Failure.UNEXPECTED_MESSAGE


def test_the_peers_alert_is_reported_and_not_answered() -> None:
    """A fatal alert ends the session with its number; nothing is sent back."""
    client, sealer = hostile_server()
    error = broken_by(sealer.seal(ALERT, b"\x02\x30"), client)
    assert (error.failure, error.peer_alert, error.errno) == (Failure.PEER_REFUSED, 48, Failure.PEER_REFUSED.errno)
    assert client.data_to_send() == client.close() == b""


def test_user_canceled_is_passed_over() -> None:
    """Section 6.1: user_canceled is followed by close_notify, which is what counts."""
    client, sealer = hostile_server()
    assert client.receive_data(sealer.seal(ALERT, b"\x01\x5a") + sealer.seal(ALERT, b"\x01\x00")) == [Closed()]


def test_truncation_is_not_a_clean_end() -> None:
    """An end of the connection is an error without close_notify, also in mid-record, and none after it."""
    client, server = session_layers()
    client.receive_data(server.encrypt(b"data")[:10])
    with pytest.raises(SessionTruncated) as caught:
        client.receive_eof()
    assert caught.value.failure is Failure.PEER_GONE
    other, server = session_layers()
    assert other.receive_data(server.close()) == [Closed()]
    other.receive_eof()


def test_closing_is_one_direction() -> None:
    """After our close_notify we still read, and send nothing more."""
    client, server = session_layers()
    assert server.receive_data(client.close()) == [Closed()]
    assert client.close() == b""
    assert client.closed
    assert client.receive_data(server.encrypt(b"still here") + server.update_keys(True)) == [
        Data(b"still here"),
        KeyUpdated(True),
    ]
    assert client.data_to_send() == b""
    with pytest.raises(SessionBroken):
        client.encrypt(b"x")
    with pytest.raises(SessionBroken):
        client.update_keys()


def test_an_alert_of_the_callers_choice() -> None:
    """``abort`` says it once, and the session is closed."""
    client, server = session_layers()
    assert broken_by(client.abort(80), server).peer_alert == 80
    assert client.abort(80) == b""


def test_secrets_stay_hidden() -> None:
    """Nothing of a key in the repr of what holds it."""
    client, _ = session_layers()
    assert "cccc" not in repr(vars(client._sealer)["secret"])
