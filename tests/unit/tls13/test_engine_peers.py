"""Peers that break TLS or speak an older version, at the engine; and the end of a handshake from outside."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from OpenSSL import SSL

from hsframework.failures import Failure, HandshakeFailed
from hsframework_tls13.engine import ClientEngine, Engine
from hsframework_tls13.records import plaintext_alert, with_versions_ignored
from tests.unit.tls13.engines import bare_peer, client_engine, first_alert, peer_output, peer_takes, server_engine
from tests.unit.tls13.support import CLIENT, KEY_256, SERVER, failed, feed, records, refusal


@pytest.mark.parametrize("several", [False, True], ids=["openssl reads", "we read first"])
def test_a_client_that_stops_at_tls_1_2(several: bool) -> None:
    """protocol_version (70), EPROTONOSUPPORT, as OpenSSL gets it; also where we read the ClientHello ourselves."""
    peer = bare_peer(SSL.TLS_CLIENT_METHOD, version=SSL.TLS1_2_VERSION)
    server = server_engine(identities=(SERVER, CLIENT) if several else (SERVER,))
    error = failed(server, peer_output(peer))
    assert error.failure is Failure.VERSION
    assert server.data_to_send() == plaintext_alert(70)


def test_a_server_that_stops_at_tls_1_2() -> None:
    """Such a server refuses us with protocol_version; one that answers in TLS 1.2 all the same is refused by us."""
    client = client_engine()
    peer = bare_peer(SSL.TLS_SERVER_METHOD, version=SSL.TLS1_2_VERSION)
    peer_takes(peer, client.data_to_send())
    with pytest.raises(SSL.Error):
        peer.do_handshake()
    error = failed(client, peer.bio_read(1 << 16))
    assert (error.failure, error.peer_alert) == (Failure.PEER_REFUSED, 70)
    hello = b"\x03\x03" + bytes(32) + b"\0" + b"\xc0\x2f" + b"\0"
    message = b"\x02" + len(hello).to_bytes(3, "big") + hello
    client = client_engine()
    error = failed(client, b"\x16\x03\x03" + len(message).to_bytes(2, "big") + message)
    assert error.failure is Failure.VERSION
    assert client.data_to_send()[-7:] == plaintext_alert(70)


FIRST_RECORDS: dict[str, tuple[bytes, Failure]] = {
    "data": (b"\x17\x03\x03\x00\x05hello", Failure.UNEXPECTED_MESSAGE),
    "finished": (b"\x16\x03\x03\x00\x08\x14\x00\x00\x04abcd", Failure.UNEXPECTED_MESSAGE),
    "alert": (plaintext_alert(40), Failure.PEER_REFUSED),
    "close_notify": (b"\x15\x03\x03\x00\x02\x01\x00", Failure.PEER_GONE),
}


@pytest.mark.parametrize("role", [client_engine, server_engine])
@pytest.mark.parametrize("first", FIRST_RECORDS)
def test_a_first_record_that_is_none(role: Callable[[], Engine], first: str) -> None:
    """Well-formed records that nothing can begin with: failure, alert in plain text, errno."""
    record, expected = FIRST_RECORDS[first]
    engine = role()
    engine.data_to_send()
    error = failed(engine, record)
    assert error.failure is expected
    assert engine.data_to_send() == (b"" if expected.alert is None else plaintext_alert(expected.alert))
    assert error.peer_alert == (record[-1] if record[0] == 21 else None)


@pytest.mark.parametrize("alert", [10, 40, 42, 46, 48, 49, 70, 80, 86, 109, 112, 115, 116, 120, 200, 255])
def test_the_peers_alert_is_told(alert: int) -> None:
    """PEER_REFUSED with the number, also of alerts that have no name; nothing is answered."""
    for engine in (client_engine(), server_engine(), server_engine(psk=True)):
        engine.data_to_send()
        error = failed(engine, plaintext_alert(alert))
        assert (error.failure, error.peer_alert) == (Failure.PEER_REFUSED, alert)
        assert engine.data_to_send() == b""
        assert failed(engine, b"\x16\x03\x03\x00\x01\x01").peer_alert == alert


def test_a_flipped_bit_in_a_protected_record() -> None:
    """bad_record_mac on both sides."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    flight = bytearray(server.data_to_send())
    flight[-1] ^= 1
    assert refusal(client, server, bytes(flight)).failure is Failure.BAD_RECORD_MAC
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    feed(client, server.data_to_send())
    spoilt = bytearray(client.data_to_send())
    spoilt[-1] ^= 1
    error = failed(server, bytes(spoilt))
    assert first_alert(client, server.data_to_send()) == error.failure.alert == 20


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mangled_client_hello_is_a_documented_failure(data: st.DataObject) -> None:
    """A ClientHello with bytes changed, cut out or put in: it goes on or fails as documented, never otherwise."""
    hello = bytearray(client_engine(alpn=("h2",)).data_to_send())
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(5, len(hello) - 1))
        hello[position] = data.draw(st.integers(0, 255))
    for server in (server_engine(), server_engine(identities=(SERVER, CLIENT)), server_engine(psk=True)):
        try:
            feed(server, bytes(hello), KEY_256)
        except HandshakeFailed as error:
            assert error.failure is not Failure.INTERNAL, error
            expected = b"" if error.failure.alert is None else plaintext_alert(error.failure.alert)
            assert server.data_to_send() == expected


def server_flight() -> tuple[ClientEngine, bytes]:
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    return client, server.data_to_send()


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_mangled_server_hello_is_a_documented_failure(data: st.DataObject) -> None:
    """The same for what a server sends."""
    client, flight = server_flight()
    mangled = bytearray(flight)
    hello = 5 + int.from_bytes(flight[3:5], "big")
    for _ in range(data.draw(st.integers(1, 4))):
        mangled[data.draw(st.integers(5, hello - 1))] = data.draw(st.integers(0, 255))
    try:
        feed(client, bytes(mangled))
    except HandshakeFailed as error:
        assert error.failure is not Failure.INTERNAL, error


@pytest.mark.parametrize("cut", [1, 3])
def test_giving_up_in_the_middle(cut: int) -> None:
    """``abort`` under handshake keys: the peer reads our alert, which is our first protected record."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    for record in list(records(server.data_to_send()))[:cut]:
        client.feed(record)
    client.abort(HandshakeFailed(Failure.RECORD_OVERFLOW))
    error = failed(server, client.data_to_send())
    assert (error.failure, error.peer_alert) == (Failure.PEER_REFUSED, 22)


def test_a_server_gives_up_while_it_waits() -> None:
    """The same for a server: its alert is under its application keys, which the client has by then."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    feed(client, server.data_to_send())
    server.abort(HandshakeFailed(Failure.INTERNAL))
    assert first_alert(client, server.data_to_send()) == 80


@pytest.mark.parametrize("version", [b"\3\0", b"\3\1", b"\3\4"])
@pytest.mark.parametrize("together", [True, False])
def test_a_change_cipher_spec_of_another_version_is_passed_over(version: bytes, together: bool) -> None:
    """legacy_record_version is ignored (RFC 8446 section 5.1): behind the ClientHello, and behind the ServerHello."""
    client, server = client_engine(), server_engine()
    spec = b"\x14" + version + b"\0\1\1"
    hello = client.data_to_send()
    if together:
        assert server.feed(hello + spec) == len(hello + spec)
    else:
        feed(server, hello + spec)
    flight = list(records(server.data_to_send()))
    flight[1:2] = [b"\x14" + version + b"\0\1\1"]
    feed(client, b"".join(flight))
    feed(server, b"".join(record for record in records(client.data_to_send()) if record[0] == 23))
    assert client.finished
    assert server.finished


def test_other_records_are_left_as_they_are() -> None:
    """Bytes within a record that look like a change_cipher_spec are no record."""
    record = b"\x16\3\1\0\x0a" + b"\x14\3\1\0\1\1" + bytes(4)
    assert with_versions_ignored(record) == record
    assert with_versions_ignored(record + b"\x14\3\1\0\1\1") == record + b"\x14\3\3\0\1\1"
