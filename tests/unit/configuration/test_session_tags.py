"""tlshd's session tags: files, the mistakes in them, and the tags that certificates get."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from hsframework.configuration.files import named_files, prints
from hsframework.configuration.session_tags import MOST_BYTES, load_session_tags
from hsframework.configuration.settings import Configuration
from hsframework.configuration.tlshd import load_tlshd_configuration
from hsframework.credentials import session_tags as module
from hsframework.credentials.session_tags import LONGEST, LONGEST_NAME, LONGEST_SERIAL, tags_of
from hsframework.credentials.tags import KINDS, SessionTags
from hsframework.errors import ConfigurationError
from hsframework.process.snapshot import freeze, thaw
from hsframework.testing.certificates import Authority, self_signed

ROOT = Authority("Monsters University")


def name(*attributes: tuple[x509.ObjectIdentifier, str]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


SUBJECT = name(
    (NameOID.COUNTRY_NAME, "US"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "Roar Omega Roar"),
    (NameOID.EMAIL_ADDRESS, "randall@example.org"),
    (NameOID.COMMON_NAME, "randall"),
)
LEAF = ROOT.issue(
    ["randall.example"],
    subject=SUBJECT,
    serial_number=0x80AB,
    not_before=datetime(2026, 1, 2, tzinfo=UTC),
    not_after=datetime(2030, 1, 2, tzinfo=UTC),
    key_usage=["digital_signature", "content_commitment"],
)


def loaded(folder: Path, text: str, file: str = "a.yml") -> SessionTags:
    (folder / file).write_text(text)
    found = load_session_tags(folder)
    assert found is not None
    return found


def one(folder: Path, kind: str, rest: str = "") -> SessionTags:
    """Return a tag ``t`` with one filter."""
    return loaded(folder, f"filters:\n  f:\n    type: {kind}\n{rest}\ntags:\n  t:\n    filter: [f]\n")


def pattern(text: str) -> str:
    return f'    pattern: "{text}"'


EXPECTED: list[tuple[str, str, bool]] = [
    ("x509.tbs.issuer", pattern("CN=Monsters*"), True),
    ("x509.tbs.issuer", pattern("Monsters"), False),
    ("x509.tbs.subject", pattern("*,OU=Roar Omega Roar,*"), True),
    ("x509.tbs.subject", pattern("CN=randall,EMAIL=randall@example.org,OU=Roar Omega Roar,C=US"), True),
    ("x509.tbs.subject", pattern("*,OU=Roar Omega Roa?,*"), True),
    ("x509.tbs.subject", pattern("*,ou=roar omega roar,*"), False),
    ("x509.tbs.subject", pattern("[*"), False),
    ("x509.cert.signatureAlgorithm", pattern("ECDSA-SHA256"), True),
    ("x509.cert.signatureAlgorithm", pattern("1.2.840.10045.4.3.2"), True),
    ("x509.cert.signatureAlgorithm", pattern("RSA*"), False),
    ("x509.tbs.version", pattern("3"), True),
    ("x509.tbs.version", pattern("1"), False),
    ("x509.tbs.serialNumber", pattern("0080ab"), True),
    ("x509.tbs.serialNumber", pattern("80ab"), False),
    ("x509.tbs.validity.notBefore", pattern("2026-01-01 00:00:00"), True),
    ("x509.tbs.validity.notBefore", pattern("2026-02-01 00:00:00"), False),
    ("x509.tbs.validity.notAfter", pattern("2030-02-01 00:00:00"), True),
    ("x509.tbs.validity.notAfter", pattern("2029-01-01 00:00:00"), False),
    ("x509.extension.keyUsage", "    purpose: [digitalSignature, nonRepudiation]", True),
    ("x509.extension.keyUsage", "    purpose: [digitalSignature, keyAgreement]", False),
    ("x509.extension.keyUsage", "    purpose: [encipherOnly]", False),
    ("x509.derived.fingerprint", pattern("*"), True),
    ("x509.derived.fingerprint", pattern("x*"), False),
    ("x509.derived.selfSigned", "", False),
]


@pytest.mark.parametrize(("kind", "rest", "matches"), EXPECTED)
def test_a_filter(tmp_path: Path, kind: str, rest: str, matches: bool) -> None:
    """Each type, with a certificate that it matches and one that it does not."""
    assert tags_of(one(tmp_path, kind, rest), LEAF.certificate) == (("t",) if matches else ())


def test_every_type_is_asked() -> None:
    """The reader knows the types that are evaluated, and each is tried above; the last one alone needs another
    certificate."""
    assert set(KINDS) == set(module._KINDS) == {kind for kind, *_ in EXPECTED}


def test_fingerprints_and_the_self_signed(tmp_path: Path) -> None:
    """Both fingerprints count, as OpenSSL shows them, and a certificate of its own is told apart."""
    own = self_signed(["own.example"])
    assert tags_of(one(tmp_path, "x509.derived.selfSigned"), own.certificate) == ("t",)
    if shutil.which("openssl") is None:
        return
    for digest in ("-sha1", "-sha256"):
        command = ["openssl", "x509", "-inform", "DER", "-noout", "-fingerprint", digest]
        shown = subprocess.run(command, input=own.certificate, capture_output=True, check=True).stdout.decode()
        text = shown.partition("=")[2].strip().replace(":", "").lower()
        assert tags_of(one(tmp_path, "x509.derived.fingerprint", pattern(text)), own.certificate) == ("t",)


def _named(length: int) -> bytes:
    return ROOT.issue(["a.example"], subject=name(*[(NameOID.COMMON_NAME, "a" * 64)] * (length // 75))).certificate


def test_a_certificate_beyond_the_bounds_gets_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with a long name, a long serial number or many names is not evaluated, as the peer has chosen its length; the
    longest that are evaluated still get theirs."""
    tags = one(tmp_path, "x509.tbs.version", pattern("3"))
    many = [f"{number:060}.example" for number in range(LONGEST // 60)]
    long_serial = 1 << 8 * LONGEST_SERIAL
    assert tags_of(tags, _named(LONGEST_NAME - 75)) == ("t",)
    assert tags_of(tags, ROOT.issue(many[: LONGEST // 120]).certificate) == ("t",)
    monkeypatch.setattr(module, "_is_given", None)
    assert tags_of(tags, _named(LONGEST_NAME + 150)) == ()
    assert tags_of(tags, ROOT.issue(many).certificate) == ()
    monkeypatch.setattr(module, "load_certificate", lambda _: SimpleNamespace(serial_number=long_serial))
    assert tags_of(tags, ROOT.issue(["other.example"]).certificate) == ()


def test_a_tag_of_several_filters(tmp_path: Path) -> None:
    """All of them match and none of those with `not`; filters may stand in another file, read later."""
    (tmp_path / "z.yaml").write_text(
        "filters:\n  us: {type: x509.tbs.subject, pattern: '*C=US'}\n"
        "  rsa: {type: x509.cert.signatureAlgorithm, pattern: 'RSA*'}\n"
    )
    (tmp_path / "ignored.txt").write_text("nonsense: [")
    tags = loaded(
        tmp_path,
        "tags:\n  both: {filter: [us, not rsa]}\n  neither: {filter: [us, rsa]}\n  never: {filter: [not us]}\n",
    )
    assert tags_of(tags, LEAF.certificate) == ("both",)
    assert tags_of(tags, b"no certificate") == ()


def test_many_wildcards_are_quick(tmp_path: Path) -> None:
    """A pattern with as many as are allowed ends at a long name: the limit of the test's time shows it."""
    subject = name((NameOID.COMMON_NAME, "a" * 64))
    leaf = ROOT.issue(["a.example"], subject=subject)
    assert tags_of(one(tmp_path, "x509.tbs.subject", pattern("*a" * 15 + "*b")), leaf.certificate) == ()


@pytest.mark.parametrize("seed", range(4))
def test_patterns_as_an_expression_has_them(seed: int) -> None:
    """On short texts, of two letters each, the answer is that of a regular expression."""
    choose = random.Random(seed)
    for _ in range(500):
        text = "".join(choose.choices("ab", k=choose.randrange(7)))
        wanted = "".join(choose.choices("ab*?", k=choose.randrange(6)))
        expression = wanted.replace("*", ".*").replace("?", ".")
        assert module._is_like(text, wanted) == bool(re.fullmatch(expression, text)), (text, wanted)


MISTAKES: list[tuple[str, str]] = [
    ("filters: [", "a.yml:1: it is not YAML"),
    ("filter:\n  f: {}\n", "a.yml:1: 'filter' is neither 'filters' nor 'tags'"),
    ("- 1\n", "a.yml:1: names with values are wanted"),
    ("filters:\n  f:\n    pattern: x\n", "a.yml:2: f: there is no 'type'"),
    (
        "filters:\n  f: {type: x509.tbs.subjct, pattern: x}\n",
        "a.yml:2: filters: f: type 'x509.tbs.subjct': write",
    ),
    ("filters:\n  f: {type: x509.extension.extendedKeyUsage}\n", "tlshd has none of this type yet"),
    ("filters:\n  f: {type: x509.tbs.subject}\n", "a.yml:2: filters: f: pattern: a text is wanted"),
    ("filters:\n  f: {type: x509.tbs.subject, pattern: [x]}\n", "a.yml:2: a text is wanted"),
    ("filters:\n  f: {type: x509.tbs.subject, patern: x}\n", "a.yml:2: f: 'patern' is none of type, pattern, purpose"),
    (f"filters:\n  f: {{type: x509.tbs.subject, pattern: '{'*?' * 9}'}}\n", "more than 16 wildcards"),
    ("filters:\n  f: {type: x509.tbs.validity.notAfter, pattern: soon}\n", "write a local time as"),
    ("filters:\n  f: {type: x509.extension.keyUsage}\n", "a list of key usages is wanted"),
    (
        "filters:\n  f: {type: x509.extension.keyUsage, purpose: [sign]}\n",
        "a.yml:2: 'sign' is none of digital",
    ),
    ("filters:\n  f f: {type: x509.derived.selfSigned}\n", "a.yml:2: a name has 1 to 255 of the characters"),
    ("filters:\n  f: {type: x509.derived.selfSigned}\n  f: {type: x509.derived.selfSigned}\n", "a.yml:3: filters: 'f'"),
    ("tags:\n  t: {filter: [not f]}\n", "a.yml:2: tags: t: there is no filter 'f'"),
    ("tags:\n  t: {filter: f}\n", "a.yml:2: a list is wanted"),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES)
def test_a_mistake(tmp_path: Path, text: str, said: str) -> None:
    """It is refused with file and line, as the whole configuration is."""
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, text)
    assert said in str(caught.value)


def test_they_come_with_tlshds_file(tmp_path: Path) -> None:
    """Beside a file with the name of tlshd's own; the folder is watched, also while it is not there."""
    file = tmp_path / "config"
    file.write_text("[debug]\nloglevel=0\n")
    without = load_tlshd_configuration(file).onto(Configuration())
    assert without.session_tags is None
    folder = tmp_path / "tags.d"
    assert folder in set(named_files(without))
    before = prints(without)
    folder.mkdir()
    one(folder, "x509.tbs.version", pattern("3"))
    with_tags = load_tlshd_configuration(file).onto(Configuration())
    assert prints(with_tags) != before
    assert with_tags.session_tags is not None
    assert tags_of(with_tags.session_tags, LEAF.certificate) == ("t",)
    kept: Any = thaw(freeze("configuration", with_tags))
    assert kept.session_tags == with_tags.session_tags
    (folder / "a.yml").write_text("tags: [")
    with pytest.raises(ConfigurationError):
        load_tlshd_configuration(file)


def test_what_is_no_file_or_too_long_is_refused_and_not_read(tmp_path: Path) -> None:
    """A pipe, a device without an end, and a file that would keep the reader for minutes are errors that name them."""
    place = tmp_path / "x.yml"
    os.mkfifo(place)
    with pytest.raises(ConfigurationError, match=r"x\.yml is not a regular file"):
        load_session_tags(tmp_path)
    place.unlink()
    place.symlink_to("/dev/zero")
    with pytest.raises(ConfigurationError, match=r"x\.yml is not a regular file"):
        load_session_tags(tmp_path)
    place.unlink()
    place.write_bytes(b"#" * (MOST_BYTES + 1))
    with pytest.raises(ConfigurationError, match=r"x\.yml has 262145 bytes, more than"):
        load_session_tags(tmp_path)
