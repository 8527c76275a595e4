"""Throw-away certificates for tests and demonstrations.  Never use them for anything else.

::

    root = Authority("Example Root")
    server = root.intermediate("Example Issuing").issue(["server.example", "192.0.2.1"])
    verify_chain(server.chain, root.trust(), purpose=Purpose.SERVER_AUTH, peer_name="server.example", now=now)
    files = server.write(directory)      # files.certificate, files.private_key, files.ca: for openssl, gnutls-cli …

Certificates are well-formed, and valid from one hour ago until 30 days from now, unless an argument changes that: each
argument of :class:`CertificateOptions` can also break a rule.
"""

from __future__ import annotations

import base64
import ipaddress
import itertools
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hsframework.credentials.identities import PrivateKey
from hsframework.interface import Identity, Secret, Trust

SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH

KEY_TYPES = (
    "rsa-2048", "rsa-3072", "rsa-4096", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "ed25519", "ed448",
    "ml-dsa-44", "ml-dsa-65", "ml-dsa-87",
)  # fmt: skip
"""Key types that hsframework accepts; ``rsa-1024`` and ``ecdsa-p224`` can be made too, for tests of their refusal."""

_GENERATORS: dict[str, Any] = {
    "ecdsa-p224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "ml-dsa-44": mldsa.MLDSA44PrivateKey.generate,
    "ml-dsa-65": mldsa.MLDSA65PrivateKey.generate,
    "ml-dsa-87": mldsa.MLDSA87PrivateKey.generate,
}
_RSA_KEYS_OF_A_SIZE = 4
_rsa_keys: dict[int, list[rsa.RSAPrivateKey]] = {}
_rsa_turn: dict[int, Iterator[int]] = {}
_rsa_lock = threading.Lock()
_common_names = itertools.count(1)

_SERVER_KEY_USAGE = frozenset({"digital_signature"})
_AUTHORITY_KEY_USAGE = frozenset({"key_cert_sign", "crl_sign"})
_KEY_USAGES = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip


def generate_key(key_type: str = "ecdsa-p256") -> PrivateKey:
    """Generate a private key; ``key_type``: one of :data:`KEY_TYPES`.

    RSA keys are taken in turn from four of each size, which the process keeps, because generating one takes long.
    """
    if not key_type.startswith("rsa-"):
        key: PrivateKey = _GENERATORS[key_type]()
        return key
    size = int(key_type.removeprefix("rsa-"))
    with _rsa_lock:
        keys = _rsa_keys.setdefault(size, [])
        turn = next(_rsa_turn.setdefault(size, itertools.cycle(range(_RSA_KEYS_OF_A_SIZE))))
        if turn >= len(keys):
            keys.append(rsa.generate_private_key(public_exponent=65537, key_size=size))
        return keys[turn]


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateOptions:
    """The contents of one certificate.  :class:`Authority` has other defaults for leaves and for authorities."""

    names: Sequence[str] = ()
    """DNS names and IP literals for the subjectAltName; empty: no such extension."""
    subject: x509.Name | str | None = None
    """A name, or a common name; None: the first of ``names``, or an unused one."""
    key_type: str = "ecdsa-p256"
    """Type of the new key, see :data:`KEY_TYPES`."""
    key: PrivateKey | None = None
    """Key to use instead of a new one."""
    ca: bool | None = None
    """Basic constraints; None: no such extension."""
    path_length: int | None = None
    """Path length in the basic constraints; None: unlimited."""
    usages: Sequence[x509.ObjectIdentifier] | None = None
    """Extended key usage; None: no such extension."""
    key_usage: Iterable[str] | None = None
    """Names of ``x509.KeyUsage`` arguments; None: no such extension."""
    not_before: datetime | None = None
    not_after: datetime | None = None
    serial_number: int | None = None
    """None: a random one."""
    key_identifiers: bool = True
    """True: add subject and authority key identifiers."""
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = ()
    """Further extensions, each with its critical bit."""
    hash: hashes.SHA224 | hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None = None
    """Hash of an RSA or ECDSA signature; None: SHA-384 for P-384, SHA-512 for P-521, else SHA-256."""
    pss: bool = False
    """True: sign with RSA-PSS."""
    spoil_signature: bool = False
    """True: flip one bit of the signature."""


_LEAF = CertificateOptions(ca=False, usages=(SERVER, CLIENT), key_usage=_SERVER_KEY_USAGE)
_AUTHORITY = CertificateOptions(ca=True, key_usage=_AUTHORITY_KEY_USAGE)


@dataclass(frozen=True, slots=True)
class CredentialFiles:
    """Paths of the PEM files of a credential."""

    certificate: Path
    """The chain without its anchor."""
    private_key: Path
    """The private key, mode 0600."""
    ca: Path
    """The anchor."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate chain (DER, leaf first, without its anchor), its private key, and the anchor (DER)."""

    chain: tuple[bytes, ...]
    key: PrivateKey = field(repr=False)
    anchor: bytes = field(repr=False)

    @property
    def certificate(self) -> bytes:
        """The leaf, DER."""
        return self.chain[0]

    @property
    def serial_number(self) -> int:
        """Serial number of the leaf."""
        return x509.load_der_x509_certificate(self.certificate).serial_number

    @property
    def identity(self) -> Identity:
        """Chain and key in the form that a request takes."""
        form = (serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return Identity(self.chain, Secret(self.key.private_bytes(*form)))

    @property
    def certificate_pem(self) -> bytes:
        """The chain as a PEM bundle."""
        return b"".join(to_pem(der) for der in self.chain)

    @property
    def private_key_pem(self) -> bytes:
        """The private key, PKCS#8 PEM."""
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        return self.key.private_bytes(*form)

    def write(self, directory: str | os.PathLike[str], name: str = "identity") -> CredentialFiles:
        """Write ``NAME.crt``, ``NAME.key`` and ``NAME-ca.crt`` into an existing directory."""
        base = Path(directory)
        files = CredentialFiles(base / f"{name}.crt", base / f"{name}.key", base / f"{name}-ca.crt")
        files.certificate.write_bytes(self.certificate_pem)
        descriptor = os.open(files.private_key, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(self.private_key_pem)
        files.ca.write_bytes(to_pem(self.anchor))
        return files


class Authority:
    """A certificate authority: a root, or an intermediate one with a ``parent``.

    ``options``: fields of :class:`CertificateOptions`, for the authority's own certificate.
    """

    def __init__(
        self, name: str = "Test Root", key_type: str = "ecdsa-p256", *, parent: Authority | None = None, **options: Any
    ) -> None:
        wanted = replace(_AUTHORITY, subject=name, key_type=key_type, **options)
        self.subject = _subject(wanted)
        self.key = wanted.key or generate_key(key_type)
        issuer = (self.subject, self.key) if parent is None else (parent.subject, parent.key)
        self.certificate = _sign(wanted, self.subject, self.key, *issuer)
        """The authority's certificate, DER."""
        self.chain: tuple[bytes, ...] = () if parent is None else (self.certificate, *parent.chain)
        """DER certificates that follow a leaf in its chain: this authority first, without the anchor."""
        self.anchor: bytes = self.certificate if parent is None else parent.anchor
        """The root's certificate, DER."""

    @property
    def certificate_pem(self) -> bytes:
        """The authority's certificate, PEM."""
        return to_pem(self.certificate)

    @property
    def serial_number(self) -> int:
        """Serial number of the authority's certificate."""
        return x509.load_der_x509_certificate(self.certificate).serial_number

    @property
    def credential(self) -> Credential:
        """The authority's own certificate and key, in the form of a leaf's."""
        return Credential(self.chain or (self.certificate,), self.key, self.anchor)

    def trust(self, *crls: bytes) -> Trust:
        """Return a trust in the root above this authority, with DER revocation lists."""
        return Trust((self.anchor,), crls)

    def issue(self, names: Sequence[str] = ("localhost",), key_type: str = "ecdsa-p256", **options: Any) -> Credential:
        """Issue a leaf for TLS servers and clients; ``options``: fields of :class:`CertificateOptions`."""
        wanted = replace(_LEAF, names=tuple(names), key_type=key_type, **options)
        key = wanted.key or generate_key(key_type)
        leaf = _sign(wanted, _subject(wanted), key, self.subject, self.key)
        return Credential((leaf, *self.chain), key, self.anchor)

    def intermediate(self, name: str = "Test Issuing", key_type: str = "ecdsa-p256", **options: Any) -> Authority:
        """Make an authority below this one; ``options``: fields of :class:`CertificateOptions`."""
        return Authority(name, key_type, parent=self, **options)

    def cross_sign(self, other: Authority, **options: Any) -> bytes:
        """Issue a certificate (DER) for the name and key of another authority."""
        wanted = replace(_AUTHORITY, subject=other.subject, key=other.key, **options)
        return _sign(wanted, other.subject, other.key, self.subject, self.key)

    def crl(
        self,
        revoked: Iterable[Credential | Authority | int] = (),
        *,
        this_update: datetime | None = None,
        next_update: datetime | None = None,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
        key: PrivateKey | None = None,
    ) -> bytes:
        """Make a revocation list (DER) of certificates or serial numbers.

        ``extensions``: each with its critical bit.  ``key``: signs the list instead of the authority's key.
        """
        begin, end = _interval(this_update, next_update)
        builder = x509.CertificateRevocationListBuilder().issuer_name(self.subject).last_update(begin).next_update(end)
        for item in revoked:
            number = item if isinstance(item, int) else item.serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(number).revocation_date(begin).build()
            builder = builder.add_revoked_certificate(entry)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        signer = key or self.key
        return builder.sign(signer, _hash_for(signer)).public_bytes(serialization.Encoding.DER)

    def write(self, directory: str | os.PathLike[str], name: str = "ca") -> Path:
        """Write the root's certificate as ``NAME.crt`` into an existing directory, and return its path."""
        path = Path(directory) / f"{name}.crt"
        path.write_bytes(to_pem(self.anchor))
        return path


def self_signed(names: Sequence[str] = ("localhost",), key_type: str = "ecdsa-p256", **options: Any) -> Credential:
    """Make a self-signed leaf, as for pinning, which is its own ``anchor``."""
    wanted = replace(_LEAF, names=tuple(names), key_type=key_type, **options)
    key, subject = wanted.key or generate_key(key_type), _subject(wanted)
    leaf = _sign(wanted, subject, key, subject, key)
    return Credential((leaf,), key, leaf)


def to_pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    """Encode a PEM block (RFC 7468)."""
    text = base64.b64encode(der)
    lines = (text[start : start + 64] for start in range(0, len(text), 64))
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label.encode(), b"\n".join(lines), label.encode())


def _subject(options: CertificateOptions) -> x509.Name:
    if isinstance(options.subject, x509.Name):
        return options.subject
    name = options.subject or (options.names[0] if options.names else f"test {next(_common_names)}")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _interval(begin: datetime | None, end: datetime | None) -> tuple[datetime, datetime]:
    now = datetime.now(UTC).replace(microsecond=0)
    end = end or now + timedelta(days=30)
    return begin or min(now - timedelta(hours=1), end - timedelta(hours=1)), end


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if key.key_size > 384:
            return hashes.SHA512()
        return hashes.SHA384() if key.key_size == 384 else hashes.SHA256()
    return hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None


def _extensions(options: CertificateOptions) -> Iterator[tuple[x509.ExtensionType, bool]]:
    if options.ca is not None:
        yield x509.BasicConstraints(ca=options.ca, path_length=options.path_length), True
    if options.key_usage is not None:
        wanted = set(options.key_usage)
        yield x509.KeyUsage(**{name: name in wanted for name in _KEY_USAGES}), True
    if options.usages is not None:
        yield x509.ExtendedKeyUsage(options.usages), False
    if options.names:
        yield x509.SubjectAlternativeName([_general_name(name) for name in options.names]), False
    yield from options.extensions


def _sign(
    options: CertificateOptions, subject: x509.Name, key: PrivateKey, issuer: x509.Name, issuer_key: PrivateKey
) -> bytes:
    begin, end = _interval(options.not_before, options.not_after)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(options.serial_number or x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
    )
    for extension, critical in _extensions(options):
        builder = builder.add_extension(extension, critical)
    if options.key_identifiers:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        builder = builder.add_extension(authority, False)
    algorithm = (options.hash or _hash_for(issuer_key)) if _hash_for(issuer_key) else None
    salted = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH) if options.pss and algorithm else None
    certificate = builder.sign(issuer_key, algorithm, rsa_padding=salted)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return der[:-1] + bytes([der[-1] ^ 1]) if options.spoil_signature else der
