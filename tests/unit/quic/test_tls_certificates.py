"""The peer's certificate in either role: every row of the table by a certificate that is bad in that way."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aioquic import tls
from aioquic.tls import Epoch
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from hsframework.credentials.chain import Purpose
from hsframework.credentials.identities import load_identity
from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, PeerIdentity, Secret, Trust
from hsframework.testing.certificates import (
    CLIENT as CLIENT_AUTH,
    KEY_TYPES,
    SERVER as SERVER_AUTH,
    Authority,
    Credential,
    self_signed,
)
from hsframework.tls.signatures import CLIENT_CONTEXT, SERVER_CONTEXT, schemes_for, sign
from hsframework_quic.aioquic_adapter.tls import VerifiedContext
from tests.unit.quic.tls_support import (
    CLIENT,
    ROOT,
    SERVER,
    bare_client,
    bare_server,
    client,
    exchange,
    failed,
    failure_of,
    feed,
    judge,
    of_type,
    replaced,
    server,
    start,
)

LONG_AGO = datetime.now(UTC) - timedelta(days=9)
OTHER_ROOT = Authority("Another Root")
CERTIFICATE_VERIFY, CERTIFICATE = 15, 11


def old(name: str) -> Credential:
    return ROOT.issue([name], not_before=LONG_AGO, not_after=LONG_AGO + timedelta(days=1))


BAD: dict[str, tuple[Failure, Callable[[str], Credential]]] = {
    "self-signed": (Failure.UNTRUSTED, lambda name: self_signed([name])),
    "another authority": (Failure.UNTRUSTED, lambda name: OTHER_ROOT.issue([name])),
    "spoilt signature": (Failure.BAD_CERTIFICATE, lambda name: ROOT.issue([name], spoil_signature=True)),
    "weak key": (Failure.BAD_CERTIFICATE, lambda name: ROOT.issue([name], "rsa-1024")),
    "expired": (Failure.EXPIRED, old),
    "not yet valid": (
        Failure.EXPIRED,
        lambda name: ROOT.issue([name], not_before=datetime.now(UTC) + timedelta(days=1)),
    ),
    "no digital signature": (Failure.WRONG_USAGE, lambda name: ROOT.issue([name], key_usage=["key_agreement"])),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_server(case: str) -> None:
    """A client refuses each before it says its Finished."""
    failure, make = BAD[case]
    ours, theirs = client(), server(identities=(make("server.example").identity,))
    assert failure_of(ours, feed(theirs, start(ours))) is failure


@pytest.mark.parametrize("demand", [CertificateDemand.REQUEST, CertificateDemand.REQUIRE])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_client(case: str, demand: CertificateDemand) -> None:
    """A server refuses each, also where it only asked."""
    failure, make = BAD[case]
    theirs, ours = client(identities=(make("client.example").identity,)), server(client_certificate=demand)
    flight = feed(theirs, feed(ours, start(theirs)))
    assert failure_of(ours, flight) is failure


def test_the_wrong_usage() -> None:
    """A client's certificate serves nobody, and a server's lets nobody in (extended key usage)."""
    usages = {"client": ROOT.issue(["server.example"], usages=(CLIENT_AUTH,)), "server": None}
    ours, theirs = client(), server(identities=(usages["client"].identity,))  # type: ignore[union-attr]
    assert failure_of(ours, feed(theirs, start(ours))) is Failure.WRONG_USAGE
    shown = ROOT.issue(["client.example"], usages=(SERVER_AUTH,))
    theirs, ours = client(identities=(shown.identity,)), server(client_certificate=CertificateDemand.REQUIRE)
    assert failure_of(ours, feed(theirs, feed(ours, start(theirs)))) is Failure.WRONG_USAGE


def test_the_wrong_name() -> None:
    """The certificate must name the peer that was asked for."""
    ours = client(verify=judge(Purpose.SERVER_AUTH, "other.example"))
    assert failure_of(ours, feed(server(), start(ours))) is Failure.WRONG_NAME


@pytest.mark.parametrize("role", ["client", "server"])
def test_revoked(role: str) -> None:
    """A revocation list counts in both roles."""
    trust = ROOT.trust(ROOT.crl([SERVER, CLIENT]))
    if role == "client":
        ours = client(verify=judge(Purpose.SERVER_AUTH, "server.example", trust))
        flight = feed(server(), start(ours))
    else:
        theirs = client(identities=(CLIENT.identity,))
        ours = server(client_certificate=CertificateDemand.REQUIRE, verify=judge(Purpose.CLIENT_AUTH, None, trust))
        flight = feed(theirs, feed(ours, start(theirs)))
    assert failure_of(ours, flight) is Failure.REVOKED


def test_a_required_certificate_that_is_not_shown() -> None:
    """An empty Certificate: certificate_required where it is, and nobody where it is only asked for."""
    for demand in (CertificateDemand.REQUIRE, CertificateDemand.REQUEST):
        theirs, ours = client(), server(client_certificate=demand)
        flight = feed(theirs, feed(ours, start(theirs)))
        if demand is CertificateDemand.REQUIRE:
            assert failure_of(ours, flight) is Failure.NO_PEER_CERTIFICATE
        else:
            feed(ours, flight)
            assert ours.agreed.peer == PeerIdentity()


def test_no_trust() -> None:
    """Server authentication is never optional: without a word on whom to believe, nobody is believed."""
    from hsframework.interface import Role
    from hsframework_quic.aioquic_adapter.tls_options import TlsOptions

    ours = VerifiedContext(TlsOptions(role=Role.CLIENT, alpn=("h3",)))
    ours.handshake_extensions = [(0x39, b"")]
    assert failure_of(ours, feed(server(), start(ours))) is Failure.UNTRUSTED


def test_a_server_without_a_certificate() -> None:
    """NO_KEY, before anything is sent."""
    with pytest.raises(HandshakeFailed) as caught:
        server(identities=())
    assert caught.value.failure is Failure.NO_KEY


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_certificate_that_is_none(role: str) -> None:
    """Bytes that cannot be parsed are a bad certificate."""
    spoil = lambda whole: whole[:12] + b"\xff" * 8 + whole[20:]  # noqa: E731
    if role == "client":
        ours = client()
        flight = feed(server(), start(ours))
    else:
        theirs, ours = client(identities=(CLIENT.identity,)), server(client_certificate=CertificateDemand.REQUIRE)
        flight = feed(theirs, feed(ours, start(theirs)))
    assert failure_of(ours, replaced(flight, CERTIFICATE, spoil)) is Failure.BAD_CERTIFICATE


def test_somebody_elses_certificate() -> None:
    """A peer that shows a good certificate and does not have its key."""
    stolen = Identity(SERVER.identity.chain, CLIENT.identity.private_key)
    ours, theirs = client(), server(identities=(stolen,))
    assert failure_of(ours, feed(theirs, start(ours))) is Failure.BAD_SIGNATURE
    theirs = client(identities=(Identity(CLIENT.identity.chain, SERVER.identity.private_key),))
    ours = server(client_certificate=CertificateDemand.REQUIRE)
    assert failure_of(ours, feed(theirs, feed(ours, start(theirs)))) is Failure.BAD_SIGNATURE


@pytest.mark.parametrize("refusal", [HandshakeFailed(Failure.NOT_AUTHORIZED, "here"), HandshakeError("no", errno=13)])
def test_a_refusal_by_policy(refusal: HandshakeError) -> None:
    """It comes with the peer's identity, before our last word, and the consumer gets the policy's own error."""
    asked: list[PeerIdentity] = []

    def refuse(peer: PeerIdentity) -> None:
        asked.append(peer)
        raise refusal

    secrets: list[Epoch] = []
    ours = client(authorize=refuse)
    ours.update_traffic_key_cb = lambda direction, epoch, suite, secret: secrets.append(epoch)
    error = failed(ours, feed(server(), start(ours)))
    assert str(error) == str(refusal)
    assert asked[0].certificates[0] == SERVER.certificate
    assert Epoch.ONE_RTT not in secrets
    theirs = client(identities=(CLIENT.identity,))
    ours = server(client_certificate=CertificateDemand.REQUIRE, authorize=refuse)
    assert str(failed(ours, feed(theirs, feed(ours, start(theirs))))) == str(refusal)
    assert asked[1].certificates[0] == CLIENT.certificate


@pytest.mark.parametrize("key_type", KEY_TYPES)
def test_every_kind_of_key(key_type: str) -> None:
    """Both roles with a key of each kind; the signatures are those of ``cryptography`` over RFC 8446's content."""
    serving, shown = ROOT.issue(["server.example"], key_type), ROOT.issue(["client.example"], key_type)
    ours = client(identities=(shown.identity,))
    theirs = server(identities=(serving.identity,), client_certificate=CertificateDemand.REQUIRE)
    exchange(ours, theirs)
    assert ours.agreed.peer.certificates[0] == serving.certificate
    assert theirs.agreed.peer.certificates[0] == shown.certificate


def test_rsa_pss_keys(tmp_path: Path) -> None:
    """A key that is for RSA-PSS alone (id-RSASSA-PSS, made by OpenSSL) signs with the schemes for such keys."""
    command = "openssl req -x509 -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -nodes -sha256 -days 2 -subj /CN=pinned"
    names = ["-addext", "subjectAltName=DNS:server.example", "-addext", "keyUsage=digitalSignature"]
    paths = ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run([*command.split(), *names, *paths], check=True, capture_output=True)
    (tmp_path / "key.pem").chmod(0o600)
    identity = load_identity(tmp_path / "certificate.pem", tmp_path / "key.pem")
    ours = client(verify=judge(Purpose.SERVER_AUTH, "server.example", Trust(identity.chain)))
    theirs = server(identities=(identity,))
    flight = feed(theirs, start(ours))
    assert of_type(flight[Epoch.HANDSHAKE], CERTIFICATE_VERIFY)[4:6] == b"\x08\x09"
    feed(theirs, feed(ours, flight))
    assert ours.finished
    assert theirs.finished


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "ed25519", "ed448"])
def test_aioquics_own_engine_believes_our_signatures(key_type: str) -> None:
    """Against a peer that is not ours, both ways."""
    serving = ROOT.issue(["server.example"], key_type)
    theirs: tls.Context = bare_client()
    exchange(theirs, server(identities=(serving.identity,)))
    assert theirs.state is tls.State.CLIENT_POST_HANDSHAKE
    theirs = bare_server(serving)
    theirs._request_client_certificate = True
    ours = client(identities=(ROOT.issue(["client.example"], key_type).identity,))
    exchange(ours, theirs)
    assert theirs.state is tls.State.SERVER_POST_HANDSHAKE
    assert theirs._peer_certificate is not None


def test_the_content_that_is_signed() -> None:
    """64 spaces, the context of the role, a zero, the transcript (RFC 8446 section 4.4.3), checked by hand."""
    ours, theirs = client(), server()
    first = start(ours)
    flight = feed(theirs, first)
    whole = first[Epoch.INITIAL] + flight[Epoch.INITIAL] + flight[Epoch.HANDSHAKE]
    verify = of_type(flight[Epoch.HANDSHAKE], CERTIFICATE_VERIFY)
    transcript = hashes.Hash(hashes.SHA256())
    transcript.update(whole[: whole.index(verify)])
    content = b" " * 64 + b"TLS 1.3, server CertificateVerify\0" + transcript.finalize()
    key = x509.load_der_x509_certificate(SERVER.certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(verify[8:], content, ec.ECDSA(hashes.SHA256()))


def test_a_signature_of_the_other_role() -> None:
    """A client's signature proves no server: the context string is part of it."""
    content = b" " * 64 + CLIENT_CONTEXT + b"\0" + b"h" * 32
    signature = sign(SERVER.identity, 0x0403, content)
    key = x509.load_der_x509_certificate(SERVER.certificate).public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(signature, content, ec.ECDSA(hashes.SHA256()))
    from hsframework.tls.signatures import verify

    with pytest.raises(HandshakeFailed) as caught:
        verify(SERVER.certificate, 0x0403, signature, content.replace(CLIENT_CONTEXT, SERVER_CONTEXT))
    assert caught.value.failure is Failure.BAD_SIGNATURE


@pytest.mark.parametrize("scheme", [0x0401, 0x0201, 0x0203, 0x0503, 0x0804, 0x0807, 0x1234])
def test_a_scheme_that_does_not_fit_the_key(scheme: int) -> None:
    """PKCS#1, SHA-1, another curve's, another kind of key's, an unknown one: illegal_parameter."""
    ours = client()
    flight = feed(server(), start(ours))
    flight = replaced(flight, CERTIFICATE_VERIFY, lambda whole: whole[:4] + scheme.to_bytes(2, "big") + whole[6:])
    assert failure_of(ours, flight) is Failure.ILLEGAL_PARAMETER


def test_the_identity_that_the_peer_can_check() -> None:
    """Of several identities the client's signature schemes choose, then the name that it asks for."""
    rsa_identity = ROOT.issue(["server.example"], "rsa-2048").identity
    named = ROOT.issue(["other.example"]).identity

    class OnlyRsa(tls.Context):
        def _client_send_hello(self, output_buf: Any) -> None:
            self._signature_algorithms = [0x0804]
            super()._client_send_hello(output_buf)

    theirs = bare_client(kind=OnlyRsa)
    ours = server(identities=(named, SERVER.identity, rsa_identity))
    exchange(theirs, ours)
    assert theirs._peer_certificate is not None
    assert theirs._peer_certificate == x509.load_der_x509_certificate(rsa_identity.chain[0])
    mine = client()
    exchange(mine, server(identities=(named, SERVER.identity, rsa_identity)))
    assert mine.agreed.peer.certificates[0] == SERVER.certificate


def test_no_signature_in_common() -> None:
    """A client that takes none of ours: handshake_failure."""

    class OnlyRsa(tls.Context):
        def _client_send_hello(self, output_buf: Any) -> None:
            self._signature_algorithms = [0x0804]
            super()._client_send_hello(output_buf)

    assert failure_of(server(), start(bare_client(kind=OnlyRsa))) is Failure.NO_COMMON_PARAMETERS


def test_a_server_that_takes_no_signature_of_ours() -> None:
    """A client then shows nothing, and the server decides."""
    theirs = bare_server()
    theirs._request_client_certificate = True
    theirs._signature_algorithms = [0x0804]
    ours = client(identities=(CLIENT.identity,))
    flight = feed(ours, feed(theirs, start(ours)))
    assert of_type(flight[Epoch.HANDSHAKE], CERTIFICATE) == bytes((11, 0, 0, 4, 0, 0, 0, 0))


def test_a_key_that_is_damaged() -> None:
    """Our own key that cannot be read is our own failure, told as internal_error."""
    broken = Identity(SERVER.identity.chain, Secret(b"no key"))
    theirs, ours = client(), server(identities=(broken,))
    assert failure_of(ours, start(theirs)) is Failure.NO_KEY


def test_every_scheme_is_one_keys() -> None:
    """No key fits two kinds of scheme, and each kind of key that the service takes has one."""
    for key_type in KEY_TYPES:
        certificate = x509.load_der_x509_certificate(ROOT.issue(["x.example"], key_type).certificate)
        assert schemes_for(certificate)
