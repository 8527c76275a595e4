"""Every way to fail: the failure that the table names, and the alert as the peer hears it.

The peer is the other engine where that can misbehave in the wanted way, else OpenSSL by way of bare pyOpenSSL.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from OpenSSL import SSL
from OpenSSL._util import lib

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, PresharedKey, Secret
from hsframework_tls13.ciphers import AES_128_GCM, AES_256_GCM
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine import ClientEngine, Engine, ServerEngine
from hsframework_tls13.records import plaintext_alert
from hsframework_tls13.settings import Settings
from tests.unit.tls13.support import (
    CLIENT,
    CONTEXTS,
    KEY_256,
    KEY_384,
    ROOT,
    SERVER,
    believe,
    failed,
    feed,
    records,
    refusal,
)


def client_engine(contexts: Contexts = CONTEXTS, **options: Any) -> ClientEngine:
    return ClientEngine(contexts, **{"server_name": "server.example", "verify": believe, **options})


def server_engine(contexts: Contexts = CONTEXTS, **options: Any) -> ServerEngine:
    return ServerEngine(contexts, **{"identities": (SERVER,), "verify": believe, **options})


def refusing(failure: Failure) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    def verify(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        raise HandshakeFailed(failure, "by this test")

    return verify


VERDICTS = [
    Failure.UNTRUSTED,
    Failure.BAD_CERTIFICATE,
    Failure.WRONG_USAGE,
    Failure.REVOKED,
    Failure.EXPIRED,
    Failure.WRONG_NAME,
]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_clients_verdict_reaches_the_server(verdict: Failure) -> None:
    """Each verdict on a server's certificate comes before our Finished, with its own alert."""
    client, server = client_engine(verify=refusing(verdict)), server_engine()
    feed(server, client.data_to_send())
    error = refusal(client, server, server.data_to_send())
    assert (error.failure, error.errno, error.detail) == (verdict, verdict.errno, "by this test")
    assert not server.finished


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_servers_verdict_reaches_the_client(verdict: Failure) -> None:
    """The same for a client's certificate; the client has finished then, and reads the alert in its session."""
    client = client_engine(identities=(CLIENT,))
    server = server_engine(verify=refusing(verdict), client_certificate=CertificateDemand.REQUEST)
    assert server_refuses(client, server).failure is verdict


def server_refuses(client: ClientEngine, server: ServerEngine) -> HandshakeFailed:
    """Run until the server refuses the client's last flight; the alert is the first record of its session."""
    feed(server, client.data_to_send())
    feed(client, server.data_to_send())
    error = failed(server, client.data_to_send())
    assert first_alert(client, server.data_to_send()) == error.failure.alert
    return error


def first_alert(client: ClientEngine, data: bytes) -> int | None:
    from hsframework_tls13.events import SessionBroken
    from hsframework_tls13.recordlayer import RecordLayer

    session = client.established
    layer = RecordLayer(session.role, session.suite, session.client_secret, session.server_secret)
    with pytest.raises(SessionBroken) as caught:
        layer.receive_data(data)
    return caught.value.peer_alert


def test_a_required_certificate_that_is_not_shown() -> None:
    """certificate_required (116), EACCES."""
    server = server_engine(client_certificate=CertificateDemand.REQUIRE)
    assert server_refuses(client_engine(), server).failure is Failure.NO_PEER_CERTIFICATE


def test_without_trust_nobody_is_believed() -> None:
    """A request that names no trust: unknown_ca."""
    client, server = ClientEngine(CONTEXTS), server_engine()
    feed(server, client.data_to_send())
    assert refusal(client, server, server.data_to_send()).failure is Failure.UNTRUSTED


def test_an_error_of_verification_itself_fails_closed() -> None:
    """Whatever goes wrong while judging: INTERNAL, and no session."""
    client, server = client_engine(verify=lambda chain: chain[99:] + (1 // 0,)), server_engine()
    feed(server, client.data_to_send())
    assert refusal(client, server, server.data_to_send()).failure is Failure.INTERNAL


def test_a_certificate_that_openssl_finds_too_weak() -> None:
    """A 1024-bit RSA key is refused, whatever verification says.  Its holder's OpenSSL has to be talked into it."""
    weak = ROOT.issue(["server.example"], "rsa-1024").identity
    with pytest.raises(HandshakeFailed) as caught:
        server_engine(identities=(weak,)).feed(next(records(client_engine().data_to_send())))
    assert caught.value.failure is Failure.NO_KEY


def test_no_cipher_in_common() -> None:
    """handshake_failure, EPROTONOSUPPORT."""
    client = client_engine(suites=(AES_128_GCM,))
    server = server_engine(suites=(AES_256_GCM,))
    assert refusal(server, client, client.data_to_send()).failure is Failure.NO_COMMON_PARAMETERS


def test_no_group_in_common() -> None:
    """The same for key exchange groups."""
    client = client_engine(Contexts(Settings(groups=("X25519",), key_shares=("X25519",))))
    server = server_engine(Contexts(Settings(groups=("P-384",), key_shares=("P-384",))))
    assert refusal(server, client, client.data_to_send()).failure is Failure.NO_COMMON_PARAMETERS


@pytest.mark.parametrize("count", [1, 2])
def test_no_signature_algorithm_in_common(count: int) -> None:
    """The same for signatures, with one identity and with several of the wrong kind."""
    peer = bare_peer(SSL.TLS_CLIENT_METHOD, sigalgs=b"RSA-PSS+SHA256")
    server = server_engine(identities=(SERVER, CLIENT)[:count])
    assert bare_hears(server, peer, peer_output(peer)) is Failure.NO_COMMON_PARAMETERS


def test_no_alpn_in_common() -> None:
    """no_application_protocol (120)."""
    client, server = client_engine(alpn=("h2",)), server_engine(alpn=("sunrpc",))
    assert refusal(server, client, client.data_to_send()).failure is Failure.NO_COMMON_ALPN


def test_a_client_may_insist_on_alpn() -> None:
    """With ``require_alpn`` a server that ignores the extension is refused, before our Finished."""
    strict = Contexts(Settings(require_alpn=True))
    client, server = client_engine(strict, alpn=("sunrpc",)), server_engine()
    feed(server, client.data_to_send())
    assert refusal(client, server, server.data_to_send()).failure is Failure.NO_COMMON_ALPN


def test_a_server_may_insist_on_alpn() -> None:
    """The same the other way round: at the ClientHello, since a client is done before a server could say it later."""
    server, client = server_engine(Contexts(Settings(require_alpn=True)), alpn=("sunrpc",)), client_engine()
    assert refusal(server, client, client.data_to_send()).failure is Failure.NO_COMMON_ALPN
    assert not client.finished


def test_a_server_that_chooses_what_was_not_offered() -> None:
    """A protocol that the client does not know is not agreed upon: OpenSSL 4.0 takes it for a malformed answer."""
    peer = bare_peer(SSL.TLS_SERVER_METHOD, alpn=b"h2")
    client = client_engine(alpn=("sunrpc",))
    peer_takes(peer, client.data_to_send())
    assert bare_hears(client, peer, peer_output(peer)) is Failure.GARBAGE


# Pre-shared keys.


def test_an_unknown_identity() -> None:
    """unknown_psk_identity (115), ENOKEY."""
    client, server = client_engine(psk=KEY_256), server_engine(psk=True)
    assert refusal(server, client, client.data_to_send(), None).failure is Failure.UNKNOWN_PSK


def test_a_key_for_another_identity_is_no_key() -> None:
    """A look-up that answers with a key that was not asked for is taken for none."""
    client, server = client_engine(psk=KEY_256), server_engine(psk=True)
    assert refusal(server, client, client.data_to_send(), KEY_384).failure is Failure.UNKNOWN_PSK


def test_a_wrong_key() -> None:
    """decrypt_error (51), EKEYREJECTED."""
    client, server = client_engine(psk=KEY_256), server_engine(psk=True)
    wrong = PresharedKey(KEY_256.identity, Secret(b"\x99" * 32))
    assert refusal(server, client, client.data_to_send(), wrong).failure is Failure.BAD_BINDER


def test_a_key_of_another_hash() -> None:
    """A server whose key wants SHA-384, and a client whose key wants SHA-256."""
    client, server = client_engine(psk=KEY_256), server_engine(psk=True)
    other = PresharedKey(KEY_256.identity, KEY_256.key, "sha384")
    assert refusal(server, client, client.data_to_send(), other).failure is Failure.NO_COMMON_PARAMETERS


def test_a_client_without_a_psk() -> None:
    """A server that wants a PSK tells a client without one; its certificate, if it has one, is not used."""
    client, server = client_engine(), server_engine(psk=True)
    assert refusal(server, client, client.data_to_send(), KEY_256).failure is Failure.NO_COMMON_PARAMETERS


def test_a_server_that_prefers_its_certificate() -> None:
    """A client with a PSK does not fall back, however good the certificate is."""
    client, server = client_engine(psk=KEY_256), server_engine()
    feed(server, client.data_to_send())
    error = refusal(client, server, server.data_to_send())
    assert error.failure is Failure.NO_COMMON_PARAMETERS
    assert "certificate" in error.detail


def test_a_psk_whose_hash_no_cipher_has() -> None:
    """Found before anything is sent."""
    with pytest.raises(HandshakeFailed) as caught:
        client_engine(psk=KEY_384, suites=(AES_128_GCM,))
    assert caught.value.failure is Failure.NO_COMMON_PARAMETERS


@pytest.mark.parametrize("size", [0, 513])
def test_a_psk_that_openssl_does_not_take(size: int) -> None:
    """A key too long, or none at all."""
    key = PresharedKey(b"id", Secret(b"k" * size))
    with pytest.raises(HandshakeFailed) as caught:
        client_engine(psk=key)
    assert caught.value.failure is Failure.NO_KEY
    named = PresharedKey(b"id", KEY_256.key)
    client, server = client_engine(psk=named), server_engine(psk=True)
    assert refusal(server, client, client.data_to_send(), key).failure is Failure.NO_KEY


# Our own credentials.


@pytest.mark.parametrize(
    "identity",
    [
        Identity(SERVER.chain, CLIENT.private_key),
        Identity((b"no certificate",), SERVER.private_key),
        Identity(SERVER.chain, Secret(b"no key")),
        Identity((*SERVER.chain, b"no certificate"), SERVER.private_key),
        Identity((), SERVER.private_key),
    ],
    ids=["mismatch", "certificate", "key", "intermediate", "nothing"],
)
@pytest.mark.parametrize("count", [1, 2])
def test_an_identity_that_is_of_no_use(identity: Identity, count: int) -> None:
    """NO_KEY (80, ENOKEY) with the reason, on both sides, alone or first of two; nothing of the key in it."""
    with pytest.raises(HandshakeFailed) as caught:
        client_engine(identities=(identity, SERVER)[:count])
    assert caught.value.failure is Failure.NO_KEY
    client, server = client_engine(), server_engine(identities=(identity, identity)[:count])
    assert refusal(server, client, client.data_to_send()).failure is Failure.NO_KEY


def test_a_server_with_nothing_to_show() -> None:
    """Neither certificate nor PSK: refused before anything is read."""
    with pytest.raises(HandshakeFailed) as caught:
        server_engine(identities=())
    assert caught.value.failure is Failure.NO_KEY


# What the peer sends.


def bare_peer(
    method: int, *, version: int = SSL.TLS1_3_VERSION, sigalgs: bytes = b"", alpn: bytes = b""
) -> SSL.Connection:
    """OpenSSL without our engine, limited to one version."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    context = SSL.Context(method)
    context.set_min_proto_version(version)
    context.set_max_proto_version(version)
    if sigalgs:
        assert lib.SSL_CTX_set1_sigalgs_list(context._context, sigalgs) == 1
    if alpn:
        context.set_alpn_select_callback(lambda _connection, _offered: alpn)
    if method == SSL.TLS_SERVER_METHOD:
        context.use_certificate(x509.load_der_x509_certificate(SERVER.chain[0]))
        key: Any = load_der_private_key(SERVER.private_key.reveal(), None)
        context.use_privatekey(key)
    connection = SSL.Connection(context, None)
    if method == SSL.TLS_SERVER_METHOD:
        connection.set_accept_state()
    else:
        connection.set_connect_state()
    return connection


def peer_output(peer: SSL.Connection) -> bytes:
    """What it writes as its next step."""
    with pytest.raises(SSL.WantReadError):
        peer.do_handshake()
    return peer.bio_read(1 << 16)


def peer_takes(peer: SSL.Connection, data: bytes) -> None:
    peer.bio_write(data)


def bare_hears(refused: Engine, peer: SSL.Connection, data: bytes) -> Failure:
    """``data`` makes ``refused`` fail; bare OpenSSL hears the alert of the table.  Returns the failure."""
    error = failed(refused, data)
    peer_takes(peer, refused.data_to_send())
    with pytest.raises(SSL.Error):
        peer.do_handshake()
    heard = alert_of_bare(peer, error)
    assert heard
    return error.failure


def alert_of_bare(peer: SSL.Connection, error: HandshakeFailed) -> bool:
    """OpenSSL is broken for good by a fatal alert: a second attempt fails without any input."""
    with pytest.raises(SSL.Error):
        peer.do_handshake()
    return error.failure.alert is not None


@pytest.mark.parametrize("several", [False, True], ids=["openssl reads", "we read first"])
def test_a_client_that_stops_at_tls_1_2(several: bool) -> None:
    """protocol_version (70), EPROTONOSUPPORT, as OpenSSL hears it; also where we read the ClientHello ourselves."""
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
