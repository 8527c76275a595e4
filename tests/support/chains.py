"""Chains of certificates by the thousand, from a seed: roll-overs, cross-signing, constraints, lists, odd encodings.

A case has a shape (:data:`SHAPES`) and up to two features (:data:`~tests.support.chain_features.FEATURES`), each at one
level of the chain.  Keys come from a small pool, and certificates are written byte by byte, so that a thousand of them
take a second.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsframework.credentials.distinguished import comparable
from hsframework.credentials.rules import Purpose
from hsframework.interface import Trust
from tests.support.der import BITS, SEQUENCE, SET, TRUE, element, extension, identifier, integer

NAME = "server.example"
NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
_UTF8, _PRINTABLE, _TELETEX, _BMP, _UNIVERSAL = 0x0C, 0x13, 0x14, 0x1E, 0x1C

_serials = itertools.count(1000)
"""So that no two certificates of one name have the same number, by which some tell certificates apart."""

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@cache
def keys() -> dict[str, Key]:
    """Return the pool."""
    pool: dict[str, Key] = {f"p256-{number}": ec.generate_private_key(ec.SECP256R1()) for number in range(6)}
    pool["p384"] = ec.generate_private_key(ec.SECP384R1())
    pool["p521"] = ec.generate_private_key(ec.SECP521R1())
    pool["k1"] = ec.generate_private_key(ec.SECP256K1())
    pool["rsa"] = rsa.generate_private_key(65537, 2048)
    pool["rsa1024"] = rsa.generate_private_key(65537, 1024)
    pool["ed25519"] = ed25519.Ed25519PrivateKey.generate()
    return pool


@cache
def _public(name: str) -> bytes:
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return keys()[name].public_key().public_bytes(*form)


@cache
def _key_id(name: str) -> bytes:
    return x509.SubjectKeyIdentifier.from_public_key(keys()[name].public_key()).digest


def name_of(text: str, tag: int = _UTF8, attribute: str = "2.5.4.3") -> bytes:
    """Return a distinguished name of one attribute, in a string type."""
    encoding = {_UTF8: "utf-8", _PRINTABLE: "ascii", _TELETEX: "latin-1", _BMP: "utf-16-be", _UNIVERSAL: "utf-32-be"}
    value = element(tag, text.encode(encoding[tag]))
    return element(SEQUENCE, element(SET, element(SEQUENCE, identifier(attribute), value)))


def _time(moment: datetime) -> bytes:
    if moment.year < 2050:
        return element(0x17, moment.strftime("%y%m%d%H%M%SZ").encode())
    return element(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode())


_ALGORITHMS = {
    "ecdsa-sha256": "1.2.840.10045.4.3.2",
    "ecdsa-sha384": "1.2.840.10045.4.3.3",
    "ecdsa-sha1": "1.2.840.10045.4.1",
    "rsa-sha256": "1.2.840.113549.1.1.11",
    "rsa-sha1": "1.2.840.113549.1.1.5",
    "ed25519": "1.3.101.112",
}
_HASHES: dict[str, hashes.HashAlgorithm] = {"1": hashes.SHA1(), "256": hashes.SHA256(), "384": hashes.SHA384()}


def _sign(name: str, content: bytes, weak: bool) -> tuple[bytes, bytes]:
    """Return the algorithm, DER, and the signature."""
    key = keys()[name]
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return element(SEQUENCE, identifier(_ALGORITHMS["ed25519"])), key.sign(content)
    size = "1" if weak else "384" if name == "p384" else "256"
    kind = "rsa" if isinstance(key, rsa.RSAPrivateKey) else "ecdsa"
    algorithm = identifier(_ALGORITHMS[f"{kind}-sha{size}"]) + (b"\x05\x00" if kind == "rsa" else b"")
    if isinstance(key, rsa.RSAPrivateKey):
        signature = key.sign(content, padding.PKCS1v15(), _HASHES[size])
    else:
        signature = key.sign(content, ec.ECDSA(_HASHES[size]))
    return element(SEQUENCE, algorithm), signature


@dataclass
class Certificate:
    """The contents of a certificate before it is signed."""

    subject: bytes
    issuer: bytes
    key: str
    signer: str
    authority: bool
    serial: bytes = field(default_factory=lambda: integer(next(_serials)))
    begin: datetime = NOW - DAY
    end: datetime = NOW + 30 * DAY
    version: int | None = 2
    extensions: dict[str, bytes] = field(default_factory=dict)
    """Encoded extensions, by dotted object identifier; a further one of the same may have a mark behind it."""
    weak: bool = False
    """True: signed with SHA-1."""
    spoiled: bool = False
    trailing: bytes = b""
    issuer_id: bytes | None = None
    """Authority key identifier in place of the signer's."""

    def basic(self) -> None:
        """Give it the extensions of its kind."""
        usage = dict.fromkeys(
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign "
            "crl_sign encipher_only decipher_only".split(),
            False,
        )
        wanted = ("key_cert_sign", "crl_sign") if self.authority else ("digital_signature",)
        self.put(x509.KeyUsage(**{**usage, **dict.fromkeys(wanted, True)}), critical=True)
        self.put(x509.BasicConstraints(self.authority, None), critical=True)
        self.put(x509.SubjectKeyIdentifier(_key_id(self.key)))
        self.put(x509.AuthorityKeyIdentifier(_key_id(self.signer), None, None))
        if not self.authority:
            self.put(x509.SubjectAlternativeName([x509.DNSName(NAME)]))
            self.put(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]))

    def put(self, value: x509.ExtensionType, *, critical: bool = False, mark: str = "") -> None:
        """Add or replace an extension."""
        oid = value.oid.dotted_string
        self.extensions[oid + mark] = extension(oid, value.public_bytes(), TRUE if critical else b"")

    def drop(self, kind: type[x509.ExtensionType]) -> None:
        """Remove an extension."""
        self.extensions.pop(kind.oid.dotted_string, None)

    def der(self) -> bytes:
        """Sign it."""
        algorithm, _ = _sign(self.signer, b"", self.weak)
        version = b"" if self.version is None else element(0xA0, integer(self.version))
        further = element(0xA3, element(SEQUENCE, *self.extensions.values())) if self.extensions else b""
        signed = element(
            SEQUENCE,
            version,
            self.serial,
            algorithm,
            self.issuer,
            element(SEQUENCE, _time(self.begin), _time(self.end)),
            self.subject,
            _public(self.key),
            further,
        )
        _, signature = _sign(self.signer, signed, self.weak)
        if self.spoiled:
            signature = signature[:-1] + bytes((signature[-1] ^ 1,))
        return element(SEQUENCE, signed, algorithm, element(BITS, b"\0" + signature), self.trailing)


@dataclass
class RevocationList:
    """The contents of a revocation list before it is signed."""

    issuer: bytes
    signer: str
    serials: Sequence[bytes] = ()
    begin: datetime = NOW - DAY
    end: datetime | None = NOW + 7 * DAY
    extensions: Sequence[bytes] = ()
    spoiled: bool = False

    def der(self) -> bytes:
        """Sign it."""
        algorithm, _ = _sign(self.signer, b"", False)
        entries = [element(SEQUENCE, serial, _time(self.begin)) for serial in self.serials]
        number = extension("2.5.29.20", integer(1))
        key = extension("2.5.29.35", x509.AuthorityKeyIdentifier(_key_id(self.signer), None, None).public_bytes())
        signed = element(
            SEQUENCE,
            integer(1),
            algorithm,
            self.issuer,
            _time(self.begin),
            b"" if self.end is None else _time(self.end),
            element(SEQUENCE, *entries) if entries else b"",
            element(0xA0, element(SEQUENCE, number, key, *self.extensions)),
        )
        _, signature = _sign(self.signer, signed, False)
        if self.spoiled:
            signature = signature[:-1] + bytes((signature[-1] ^ 1,))
        return element(SEQUENCE, signed, algorithm, element(BITS, b"\0" + signature))


@dataclass
class Plan:
    """A case in the making: the path, what else is sent, and the lists."""

    path: list[Certificate]
    """The leaf first; the anchor last."""
    sent: list[Certificate] = field(default_factory=list)
    """Sent beside the path."""
    sent_first: bool = False
    """True: ``sent`` comes before the path's own authorities."""
    anchors: list[Certificate] = field(default_factory=list)
    """Trusted beside the path's last certificate."""
    lists: list[RevocationList] = field(default_factory=list)
    purpose: Purpose = Purpose.SERVER_AUTH


@dataclass(frozen=True)
class Case:
    """A case: what the peer sends, what is trusted, and the words that say how it was made."""

    labels: tuple[str, ...]
    chain: tuple[bytes, ...]
    trust: Trust
    purpose: Purpose
    listed: tuple[bool, ...]
    """For each certificate of the path below the anchor: True if a list of its issuer's name is there."""

    def __str__(self) -> str:
        return " + ".join(self.labels)


def authority(name: str, key: str, above: Certificate | None = None) -> Certificate:
    """Return an authority with this key of the pool: a root, or one below ``above``."""
    issuer, signer = (name_of(name), key) if above is None else (above.subject, above.key)
    made = Certificate(name_of(name), issuer, key, signer, authority=True)
    made.basic()
    return made


def _leaf(above: Certificate) -> Certificate:
    made = Certificate(name_of("a leaf"), above.subject, "p256-4", above.key, authority=False)
    made.basic()
    return made


def straight(*names: str) -> Plan:
    """Return a plan with a root, authorities below it, and a leaf."""
    authorities = [authority("Root", "p256-0")]
    for number, name in enumerate(names, start=1):
        authorities.append(authority(name, f"p256-{number}", authorities[-1]))
    return Plan([_leaf(authorities[-1]), *reversed(authorities)])


def _roll_over(*, both: bool) -> Plan:
    """Make a root with a new key, which the old one certifies under the same name."""
    old, new = authority("Root", "p256-0"), authority("Root", "p256-5")
    between = Certificate(new.subject, old.subject, new.key, old.key, authority=True)
    between.basic()
    issuing = authority("Issuing", "p256-1", new)
    path = [_leaf(issuing), issuing, between, old]
    return Plan([path[0], issuing, new], sent=[between], anchors=[old]) if both else Plan(path, sent=[new])


def _crossed(*, dead_end_first: bool) -> Plan:
    """Make an authority with certificates of two roots, of which one is trusted; both are sent."""
    strange = authority("Strange Root", "p256-3")
    plan = straight("Issuing")
    issuing = plan.path[1]
    other = Certificate(issuing.subject, strange.subject, issuing.key, strange.key, authority=True)
    other.basic()
    return replace(plan, sent=[other], sent_first=dead_end_first)


def _cross_root() -> Plan:
    """Have the peer's root certified by the trusted one, and sent in both forms."""
    trusted, other = authority("Root", "p256-0"), authority("Other Root", "p256-3")
    between = Certificate(other.subject, trusted.subject, other.key, trusted.key, authority=True)
    between.basic()
    issuing = authority("Issuing", "p256-1", other)
    return Plan([_leaf(issuing), issuing, between, trusted], sent=[other], sent_first=True)


def _loop() -> Plan:
    """Have two authorities certify each other, neither of them trusted."""
    one, two = authority("One", "p256-1"), authority("Two", "p256-2")
    by_two = Certificate(one.subject, two.subject, one.key, two.key, authority=True)
    by_one = Certificate(two.subject, one.subject, two.key, one.key, authority=True)
    for each in (by_one, by_two):
        each.basic()
    return Plan([_leaf(one), by_two, by_one, authority("Root", "p256-0")])


def _untrusted() -> Plan:
    plan = straight("Issuing")
    plan.path.append(authority("Root", "p256-3"))  # of the same name, with another key
    plan.sent, plan.path = [plan.path[2]], [*plan.path[:2], plan.path[3]]
    return plan


SHAPES: dict[str, Callable[[], Plan]] = {
    "direct": straight,
    "one authority": lambda: straight("Issuing"),
    "two authorities": lambda: straight("Middle", "Issuing"),
    "roll-over": lambda: _roll_over(both=False),
    "roll-over, both trusted": lambda: _roll_over(both=True),
    "cross-signed": lambda: _crossed(dead_end_first=False),
    "cross-signed, dead end first": lambda: _crossed(dead_end_first=True),
    "cross-signed root": _cross_root,
    "loop": _loop,
    "another root of the name": _untrusted,
    "an authority is the anchor": lambda: replace(plan := straight("Middle", "Issuing"), path=plan.path[:3]),
    "pinned leaf": lambda: replace(plan := straight(), path=plan.path[:1]),
}


def finished(labels: tuple[str, ...], plan: Plan, order: random.Random) -> Case:
    """Sign the certificates of a plan."""
    certificates = [certificate.der() for certificate in plan.path]
    others = [certificate.der() for certificate in plan.sent]
    sent = [*others, *certificates[1:-1]] if plan.sent_first else [*certificates[1:-1], *others]
    if "shuffled" in labels:
        order.shuffle(sent)
    if "with the root" in labels:
        sent.append(certificates[-1])
    if "twice" in labels:
        sent = [*sent, *sent]
    anchors = (certificates[-1], *(each.der() for each in plan.anchors))
    names = {comparable(each.issuer) for each in plan.lists}
    return Case(
        labels,
        (certificates[0], *sent),
        Trust(anchors, tuple(each.der() for each in plan.lists)),
        plan.purpose,
        tuple(comparable(each.issuer) in names for each in plan.path[:-1]),
    )


ORDERS = ("shuffled", "with the root", "twice")


def cases(number: int, seed: int = 15) -> Iterator[Case]:
    """Yield so many cases: each feature alone at each of its levels, then random ones."""
    from tests.support.chain_features import FEATURES, LEVELS

    choose = random.Random(seed)
    alone: list[tuple[str, tuple[tuple[str, str], ...]]] = [
        (shape, ((name, level),))
        for name, feature in FEATURES.items()
        for level in feature.levels
        for shape in ("one authority", "two authorities", "roll-over")
    ]
    plans = [*((shape, ()) for shape in SHAPES), *alone]
    while len(plans) < number:
        picked = choose.sample(sorted(FEATURES), choose.choice((1, 1, 2)))
        plans.append(
            (choose.choice(sorted(SHAPES)), tuple((name, choose.choice(FEATURES[name].levels)) for name in picked))
        )
    for shape, features in plans[:number]:
        plan = SHAPES[shape]()
        plan.purpose = choose.choice((Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH))
        labels = [shape, *choose.sample(ORDERS, choose.choice((0, 0, 1)))]
        for name, level in features:
            at = LEVELS[level](plan)
            if at is not None:
                FEATURES[name].change(plan, at)
                labels.append(f"{name} ({level})" if len(FEATURES[name].levels) > 1 else name)
        yield finished(tuple(labels), plan, choose)
