"""Every way to fail: the failure that the table names, and the alert as the peer gets it.

The peer is the other engine where that can misbehave in the wanted way, else OpenSSL by way of bare pyOpenSSL.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from OpenSSL import SSL

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, PresharedKey, Secret
from hsframework_tls13.ciphers import AES_128_GCM, AES_256_GCM
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine import ClientEngine, ServerEngine
from hsframework_tls13.settings import Settings
from tests.unit.tls13.engines import (
    bare_hears,
    bare_peer,
    client_engine,
    first_alert,
    peer_output,
    peer_takes,
    server_engine,
)
from tests.unit.tls13.support import CLIENT, CONTEXTS, KEY_256, KEY_384, ROOT, SERVER, failed, feed, records, refusal


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
    Failure.WRONG_KEY,
]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_clients_verdict_reaches_the_server(verdict: Failure) -> None:
    """Each verdict on a server's certificate comes before our Finished, with its own alert."""
    client, server = client_engine(verify=refusing(verdict)), server_engine()
    feed(server, client.data_to_send())
    error = refusal(client, server, server.data_to_send())
    assert (error.failure, error.errno, error.detail) == (verdict, verdict.errno, "by this test")
    assert not server.finished


def test_a_clients_alert_comes_behind_its_change_cipher_spec() -> None:
    """Its first protected record does, also an alert in place of its Finished (RFC 8446 section D.4)."""
    client, server = client_engine(verify=refusing(Failure.UNTRUSTED)), server_engine()
    feed(server, client.data_to_send())
    failed(client, server.data_to_send())
    assert [record[0] for record in records(client.data_to_send())] == [20, 23]
    again = Contexts(Settings(groups=("P-256",), key_shares=("P-256",)))
    client, server = client_engine(verify=refusing(Failure.UNTRUSTED)), server_engine(again)
    feed(server, client.data_to_send())
    feed(client, server.data_to_send())
    second = client.data_to_send()
    assert [record[0] for record in records(second)] == [20, 22]
    feed(server, second)
    failed(client, server.data_to_send())
    assert [record[0] for record in records(client.data_to_send())] == [23]


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
    """An error of any kind while judging: INTERNAL with its own alert, on either side, and no session."""

    def faulty(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        raise ZeroDivisionError

    client, server = client_engine(verify=faulty), server_engine()
    feed(server, client.data_to_send())
    assert refusal(client, server, server.data_to_send()).failure is Failure.INTERNAL
    client = client_engine(identities=(CLIENT,))
    server = server_engine(verify=faulty, client_certificate=CertificateDemand.REQUEST)
    assert server_refuses(client, server).failure is Failure.INTERNAL


def test_a_certificate_that_openssl_finds_too_weak() -> None:
    """A 1024-bit RSA key is refused, whatever verification says.  Its holder's OpenSSL has to be talked into it."""
    weak = ROOT.issue(["server.example"], "rsa-1024").identity
    with pytest.raises(HandshakeFailed) as caught:
        server_engine(identities=(weak,)).feed(next(records(client_engine().data_to_send())))
    assert caught.value.failure is Failure.NO_KEY


def test_a_change_cipher_spec_waits_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One moves nothing by itself; a second in its place does, so that none can come without end."""
    client, server = client_engine(), server_engine()
    feed(server, client.data_to_send())
    steps: list[object] = []
    monkeypatch.setattr(server, "_step", steps.append)
    spec = b"\x14\3\3\0\1\1"
    counts = []
    for _ in range(4):
        assert server.feed(spec) == len(spec)
        counts.append(len(steps))
    assert counts == [0, 1, 1, 2]


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
    # OpenSSL's reason alone, and no list of Python's.
    assert "[" not in str(caught.value.detail)
    client, server = client_engine(), server_engine(identities=(identity, identity)[:count])
    assert refusal(server, client, client.data_to_send()).failure is Failure.NO_KEY


def test_a_server_with_nothing_to_show() -> None:
    """Neither certificate nor PSK: refused before anything is read."""
    with pytest.raises(HandshakeFailed) as caught:
        server_engine(identities=())
    assert caught.value.failure is Failure.NO_KEY
