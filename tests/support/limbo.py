"""Cases of C2SP's x509-limbo, given to our judges, to cryptography's verifier and to OpenSSL in its strict form."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.x509 import verification
from OpenSSL import crypto
from OpenSSL._util import lib as _lib

from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.errors import HsframeworkError
from hsframework.interface import Trust
from hsframework.tls.parsing import PARSE_ERRORS, no_warnings

LIMBO = Path(
    os.environ.get("X509_LIMBO")
    or Path(__file__).resolve().parents[2].parent / "shared" / "data" / "x509-limbo" / "limbo.json"
)
"""The cases: a file that is not part of this project, or the one that the environment variable names."""

_BLOCK = re.compile(r"-----BEGIN [^-]+-----(.*?)-----END", re.DOTALL)


@dataclass(frozen=True)
class LimboCase:
    """One case."""

    content: dict[str, Any]

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.content["id"])

    @property
    def good(self) -> bool:
        """True if the case expects that the chain is accepted."""
        return bool(self.content["expected_result"] == "SUCCESS")

    @property
    def server(self) -> bool:
        """True if a server's chain is judged."""
        return bool(self.content["validation_kind"] == "SERVER")

    @property
    def now(self) -> datetime:
        """Time of the verification."""
        moment = self.content.get("validation_time")
        return datetime.fromisoformat(moment) if moment else datetime.now(UTC)

    @property
    def name(self) -> str | None:
        """The DNS name or IP literal that the peer should have."""
        name = self.content.get("expected_peer_name")
        return str(name["value"]) if self.server and name and name["kind"] in ("DNS", "IP") else None

    @property
    def leaf(self) -> bytes:
        """The peer's certificate, DER."""
        return _der(self.content["peer_certificate"])

    @property
    def intermediates(self) -> tuple[bytes, ...]:
        """The other certificates that the peer sends, DER."""
        return tuple(map(_der, self.content["untrusted_intermediates"]))

    @property
    def trust(self) -> Trust:
        """The authorities and the revocation lists."""
        return Trust(tuple(map(_der, self.content["trusted_certs"])), tuple(map(_der, self.content.get("crls") or ())))

    def ours(self) -> str:
        """Return the words of our refusal, or an empty text."""
        purpose = Purpose.SERVER_AUTH if self.server else Purpose.CLIENT_AUTH
        try:
            ChainVerifier(self.trust).verify(
                (self.leaf, *self.intermediates), purpose=purpose, peer_name=self.name, now=self.now
            )
        except HsframeworkError as error:
            return str(error)
        return ""

    def cryptographys(self) -> str:
        """Return the words of the refusal by cryptography's verifier, or an empty text."""
        with no_warnings():
            try:
                store = verification.Store([x509.load_der_x509_certificate(der) for der in self.trust.anchors])
                builder = verification.PolicyBuilder().store(store).time(self.now.astimezone(UTC).replace(tzinfo=None))
                leaf = x509.load_der_x509_certificate(self.leaf)
                others = [x509.load_der_x509_certificate(der) for der in self.intermediates]
                if self.name is None:
                    builder.build_client_verifier().verify(leaf, others)
                else:
                    builder.build_server_verifier(_general_name(self.name)).verify(leaf, others)
            except (verification.VerificationError, *PARSE_ERRORS) as error:
                return str(error) or type(error).__name__
        return ""

    def openssls(self) -> str:
        """Return the words of the refusal by OpenSSL with ``X509_STRICT``, or an empty text; names are not compared."""
        store = crypto.X509Store()
        flags = crypto.X509StoreFlags.PARTIAL_CHAIN | crypto.X509StoreFlags.X509_STRICT
        try:
            for der in self.trust.anchors:
                store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
            for der in self.trust.crls:
                store.add_crl(x509.load_der_x509_crl(der))
                flags |= crypto.X509StoreFlags.CRL_CHECK
            store.set_flags(flags)
            store.set_time(self.now)
            purpose = _lib.X509_PURPOSE_SSL_SERVER if self.server else _lib.X509_PURPOSE_SSL_CLIENT
            _lib.X509_STORE_set_purpose(store._store, purpose)
            leaf = crypto.load_certificate(crypto.FILETYPE_ASN1, self.leaf)
            others = [crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in self.intermediates]
            crypto.X509StoreContext(store, leaf, others).verify_certificate()
        except crypto.X509StoreContextError as error:
            return str(error)
        except crypto.Error:
            return "cannot be read"
        return ""


def _der(pem: str) -> bytes:
    found = _BLOCK.search(pem)
    assert found is not None
    return base64.b64decode("".join(found.group(1).split()))


def _general_name(name: str) -> x509.DNSName | x509.IPAddress:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
