"""Certificates in both roles: those that the peer sent, all of them, and those that we show."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from OpenSSL import SSL
from OpenSSL._util import lib

from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.credentials.identities import load_identity
from hsframework.errors import ConfigurationError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, Secret, Trust
from hsframework.testing.certificates import Authority, Credential
from hsframework_tls13 import openssl_callbacks
from hsframework_tls13.ciphers import BY_NAME
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.protection import Opener
from hsframework_tls13.records import APPLICATION_DATA
from hsframework_tls13.settings import Settings
from tests.unit.credentials.test_cost import with_a_huge_exponent
from tests.unit.tls13.engines import client_engine, server_engine
from tests.unit.tls13.support import exchange, feed, records

DATA = Path(__file__).parent / "data"
OLD, NEW = Authority("Old Root"), Authority("New Root")
ISSUING = NEW.intermediate("Issuing")
BY_OLD = OLD.cross_sign(ISSUING)
EXPIRED_BY_OLD = OLD.cross_sign(ISSUING, not_after=datetime.now(UTC) - timedelta(days=1))
LEAF = ISSUING.issue(["server.example"])


def shown(*others: bytes) -> Identity:
    """Return the leaf and ``others``, in this order."""
    return Identity((LEAF.certificate, *others), LEAF.identity.private_key)


@pytest.mark.parametrize(
    ("others", "anchor"),
    [((BY_OLD, ISSUING.certificate), OLD), ((BY_OLD, ISSUING.certificate), NEW),
     ((ISSUING.certificate, BY_OLD), OLD), ((ISSUING.certificate, BY_OLD), NEW),
     ((EXPIRED_BY_OLD, ISSUING.certificate), NEW), ((OLD.certificate, ISSUING.certificate), NEW)],
    ids=["first", "dead end first", "last", "dead end last", "expired first", "unrelated first"],
)  # fmt: skip
def test_every_path_is_tried_in_both_roles(others: tuple[bytes, ...], anchor: Authority) -> None:
    """A cross-signed intermediate, in any order: the judge of either role has all certificates as they were sent."""
    seen: list[tuple[bytes, ...]] = []

    def judge(purpose: Purpose, chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        seen.append(chain)
        trust = Trust((anchor.certificate,))
        return verify_chain(chain, trust, purpose=purpose, peer_name=None, now=datetime.now(UTC))

    identity = shown(*others)
    client, server = exchange(
        client_engine(identities=(identity,), verify=lambda chain: judge(Purpose.SERVER_AUTH, chain)),
        server_engine(
            identities=(identity,),
            client_certificate=CertificateDemand.REQUIRE,
            verify=lambda chain: judge(Purpose.CLIENT_AUTH, chain),
        ),
    )
    assert seen == [identity.chain] * 2
    assert client.peer.certificates[-1] == server.peer.certificates[-1] == anchor.certificate


class Careless(Contexts):
    """Contexts of a server that shows weak certificates."""

    def _make(self, *arguments: object) -> SSL.Context:
        context = super()._make(*arguments)  # type: ignore[arg-type]
        context.set_cipher_list(b"DEFAULT@SECLEVEL=0")
        return context


def test_openssl_verifies_no_signature_of_a_clients_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks for no issuer of the leaf, whose key may be one that takes long: the judge has a budget for these."""
    found: list[int] = []

    def path(store: Any) -> tuple[bytes, ...]:
        chain = lib.X509_STORE_CTX_get1_chain(store)
        found.append(lib.sk_X509_num(chain))
        return shown_leaf(store)

    shown_leaf = openssl_callbacks._shown
    monkeypatch.setattr(openssl_callbacks, "_shown", path)
    sent = shown(ISSUING.certificate).chain
    client = client_engine(identities=(shown(ISSUING.certificate),))
    server = server_engine(client_certificate=CertificateDemand.REQUIRE)
    exchange(client, server)
    assert server.established.peer.certificates == sent
    assert set(found) == {1}


def test_a_client_whose_key_takes_long_is_refused_before_it_is_used() -> None:
    """The refusal is OpenSSL's answer, before it verifies the client's signature; with it the handshake has failed."""
    server = server_engine(client_certificate=CertificateDemand.REQUIRE)
    slow = with_a_huge_exponent("A", 1)
    assert server.on_certificate(lambda: (slow,)) is Failure.BAD_CERTIFICATE
    assert server.on_certificate(lambda: (LEAF.certificate,)) is Failure.BAD_CERTIFICATE


def test_certificates_beyond_the_anchor_judge_nothing() -> None:
    """A root that is trusted, and a cross certificate for it by an old root with a key of 1,024 bits."""
    old = Authority("Weak Root", "rsa-1024")
    identity = shown(ISSUING.certificate, old.cross_sign(NEW), old.certificate)
    trust = Trust((NEW.certificate,))

    def judge(chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return verify_chain(chain, trust, purpose=Purpose.SERVER_AUTH, peer_name=None, now=datetime.now(UTC))

    careless = Careless(Settings())
    client, _ = exchange(client_engine(verify=judge), server_engine(careless, identities=(identity,)))
    assert client.peer.certificates == (LEAF.certificate, ISSUING.certificate, NEW.certificate)


class Accepting(Contexts):
    """Contexts of a server that accepts one signature algorithm."""

    algorithm = b""

    def _make(self, *arguments: object) -> SSL.Context:
        context = super()._make(*arguments)  # type: ignore[arg-type]
        assert lib.SSL_CTX_set1_sigalgs_list(context._context, self.algorithm) == 1
        return context


P256, P384, RSA = (
    Authority(f"{kind} Root", kind).intermediate(f"{kind} Issuing", kind).issue(["client.example"], kind)
    for kind in ("ecdsa-p256", "ecdsa-p384", "rsa-2048")
)


@pytest.mark.parametrize(
    ("algorithm", "expected"), [(b"ECDSA+SHA256", P256), (b"ECDSA+SHA384", P384), (b"RSA-PSS+SHA256", RSA)],
    ids=["P-256", "P-384", "RSA"],
)  # fmt: skip
@pytest.mark.parametrize("order", [(P256, P384, RSA), (RSA, P384, P256)], ids=["P-256 first", "RSA first"])
def test_a_client_shows_the_key_that_the_server_takes(
    algorithm: bytes, expected: Credential, order: tuple[Credential, ...]
) -> None:
    """Two keys on elliptic curves have one place in OpenSSL: the one that fits is put there, with its own chain."""
    contexts = Accepting(Settings())
    contexts.algorithm = algorithm
    _, server = exchange(
        client_engine(identities=tuple(credential.identity for credential in order)),
        server_engine(contexts, identities=(expected.identity,), client_certificate=CertificateDemand.REQUIRE),
    )
    assert server.peer.certificates == expected.chain


def test_an_rsa_pss_key_serves_in_both_roles(tmp_path: Path) -> None:
    """A certificate with an id-RSASSA-PSS key, made by openssl."""
    files = [tmp_path / "pss.pem", tmp_path / "pss.key"]
    for file in files:
        file.write_bytes((DATA / file.name).read_bytes())
    files[1].chmod(0o600)
    identity = load_identity(*files)
    client, server = exchange(
        client_engine(identities=(identity,)),
        server_engine(identities=(identity,), client_certificate=CertificateDemand.REQUIRE),
    )
    assert client.peer.certificates == server.peer.certificates == identity.chain


def test_an_rsa_pss_key_with_parameters_is_refused_when_it_is_read(tmp_path: Path) -> None:
    """A key that is bound to one hash, made by openssl: the text names the file and the remedy."""
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_bytes((DATA / "pss-bound.key").read_bytes())
    with pytest.raises(ConfigurationError, match=r"pss-bound.pem: the RSA-PSS key .* without such parameters"):
        load_identity(DATA / "pss-bound.pem", key)


def test_a_client_without_a_fitting_key_shows_none() -> None:
    """The server that requires a certificate refuses the handshake."""
    contexts = Accepting(Settings())
    contexts.algorithm = b"RSA-PSS+SHA256"
    with pytest.raises(HandshakeFailed):
        exchange(
            client_engine(identities=(P256.identity, P384.identity)),
            server_engine(contexts, identities=(RSA.identity,), client_certificate=CertificateDemand.REQUIRE),
        )


@pytest.mark.parametrize(
    ("count", "name", "acknowledged"),
    [(2, "server.example", True), (2, None, False), (1, "server.example", False)],
    ids=["used", "not there", "not used"],
)
def test_a_server_name_that_was_used_is_acknowledged(count: int, name: str | None, acknowledged: bool) -> None:
    """EncryptedExtensions have an empty server_name where it guided the choice (RFC 6066 section 3)."""
    client = client_engine(server_name=name)
    server = server_engine(identities=(LEAF.identity, NEW.issue(["other.example"]).identity)[:count])
    feed(server, client.data_to_send())
    flight = list(records(server.data_to_send()))
    client.feed(flight[0])
    (line,) = [line for line in client.key_log if line.startswith(b"SERVER_HANDSHAKE_TRAFFIC_SECRET")]
    assert client._connection is not None
    opener = Opener(BY_NAME[client._connection.cipher], Secret(bytes.fromhex(line.split(b" ")[2].decode())))
    record = next(record for record in flight if record[0] == APPLICATION_DATA)
    _, content = opener.open(record[:5], record[5:])
    assert content[0] == 8
    assert (b"\0\0\0\0" in content[4 : 4 + int.from_bytes(content[1:4], "big")]) is acknowledged
