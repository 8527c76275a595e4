"""Trust anchors and revocation lists from files."""

from __future__ import annotations

import os
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import pkcs7, pkcs12

from hsframework.credentials.chain import ChainVerifier
from hsframework.credentials.findings import TrustExamination
from hsframework.credentials.serials import RevokedSerials
from hsframework.credentials.trust import SYSTEM_BUNDLES, load_trust, system_trust
from hsframework.errors import ConfigurationError
from hsframework.testing.certificates import Authority, to_pem

ROOTS = [Authority(f"Root {n}") for n in range(3)]
ANCHORS = tuple(root.certificate for root in ROOTS)
_PARSED = [x509.load_der_x509_certificate(der) for der in ANCHORS]
PKCS7 = pkcs7.serialize_certificates(_PARSED, serialization.Encoding.DER)
PKCS12 = pkcs12.serialize_key_and_certificates(b"name", None, _PARSED[0], None, serialization.NoEncryption())


def test_bundle(tmp_path: Path) -> None:
    """A bundle with comments, other blocks, CRLF lines and duplicates gives each certificate once, in order."""
    key = ROOTS[0].credential.private_key_pem
    data = b"# Root 0\n" + b"\ntext: text\n".join(map(to_pem, (*ANCHORS, ANCHORS[0]))) + key
    for name, content in (("unix.pem", data), ("dos.pem", data.replace(b"\n", b"\r\n"))):
        (tmp_path / name).write_bytes(content)
        assert load_trust([tmp_path / name]).anchors == ANCHORS


def test_der_and_several_paths(tmp_path: Path) -> None:
    """DER files, and several files one after the other."""
    for number, der in enumerate(ANCHORS):
        (tmp_path / f"{number}.der").write_bytes(der)
    paths = [str(tmp_path / f"{number}.der") for number in (2, 0, 1)]
    assert load_trust(paths).anchors == (ANCHORS[2], ANCHORS[0], ANCHORS[1])
    assert load_trust([]).anchors == ()


@pytest.mark.parametrize("one", ["ca.pem", Path("ca.pem")])
def test_one_path_in_place_of_a_list(one: Any) -> None:
    """A text's letters are no paths."""
    for paths, crls in ((one, ()), ((), one)):
        with pytest.raises(ConfigurationError, match=r"one path was given, 'ca.pem': give a list"):
            load_trust(paths, crls)


def test_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a directory every file is read once; links by hash are the same file, directories do not count."""
    for number, der in enumerate(ANCHORS):
        (tmp_path / f"root{number}.pem").write_bytes(to_pem(der))
        os.symlink(f"root{number}.pem", tmp_path / f"0000000{number}.0")
    (tmp_path / "README").write_text("0 CA certificates")
    (tmp_path / "java").mkdir()
    os.symlink("missing.pem", tmp_path / "dangling.0")
    opened: list[str] = []
    real_open = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened.append(str(path)) or real_open(path, *rest))  # type: ignore[func-returns-value]
    assert load_trust([tmp_path]).anchors == ANCHORS
    assert len(opened) == len(set(opened)) == 4


def test_revocation_lists(tmp_path: Path) -> None:
    """Lists are read in PEM and DER form, several in a file, and from directories."""
    crls = tuple(root.crl() for root in ROOTS)
    (tmp_path / "ca.pem").write_bytes(to_pem(ANCHORS[0]))
    (tmp_path / "bundle.crl").write_bytes(to_pem(crls[0], "X509 CRL") + to_pem(crls[1], "X509 CRL"))
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "2.crl").write_bytes(crls[2])
    assert load_trust([tmp_path / "ca.pem"], [tmp_path / "bundle.crl", lists]).crls == crls


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no certificate"),
        (b"nothing here\n", "holds no certificate"),
        (to_pem(ANCHORS[0]) + b"\n" + to_pem(ANCHORS[1][:-3]), "line 1[0-9]: the certificate is damaged"),
        (ANCHORS[0][:-3], "the certificate is damaged"),
        (ANCHORS[0] + b"x", "the certificate is damaged"),
        (to_pem(ANCHORS[0])[:-10], "line 1: .*no matching END line"),
        (to_pem(ANCHORS[0]) + to_pem(ANCHORS[1])[12:], "line [0-9]+: .*END CERTIFICATE.*no matching"),
        (to_pem(ANCHORS[0]) + to_pem(ANCHORS[1])[1:], "line 1[0-9]: '----BEGIN CERTIFICATE-----' has no matching"),
        (to_pem(ANCHORS[0])[:-26] + to_pem(ANCHORS[1]), "line 1: the CERTIFICATE block has no matching END line"),
        (to_pem(ANCHORS[0]).replace(b"CERT", b"TRUSTED CERT"), "line 1: a TRUSTED CERTIFICATE block.*openssl x509"),
        (to_pem(ANCHORS[0]) + to_pem(PKCS7, "PKCS7"), "line 1[0-9]: a PKCS7 block.*openssl pkcs7"),
        (PKCS7, "PKCS#7.*openssl pkcs7"),
        (PKCS12, "PKCS#12.*openssl pkcs12"),
        (to_pem(ANCHORS[0]).decode().encode("utf-16"), "UTF-16"),
        (to_pem(ANCHORS[0]).replace(b"M", b"*", 1), "line 1: the CERTIFICATE block is not base64"),
        (to_pem(ROOTS[0].crl(), "X509 CRL"), "line 1: a X509 CRL block, where a certificate belongs"),
    ],
)
def test_mistakes(content: bytes, message: str, tmp_path: Path) -> None:
    """A broken file is a ConfigurationError with its name and line, not a smaller trust."""
    path = tmp_path / "ca.pem"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        load_trust([path])
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbf" + to_pem(ANCHORS[0]) + to_pem(ANCHORS[1]),
        to_pem(ANCHORS[0]).rstrip() + to_pem(ANCHORS[1]),
        b"".join(b"    " + line for line in (to_pem(ANCHORS[0]) + to_pem(ANCHORS[1])).splitlines(keepends=True)),
        (to_pem(ANCHORS[0]) + to_pem(ANCHORS[1])).replace(b"\n", b"\r\n"),
        b"subject: /CN=x\n" + to_pem(ANCHORS[0]) + b"some words\n" + to_pem(ANCHORS[1]) + b"more",
    ],
)
def test_every_block_is_read(text: bytes, tmp_path: Path) -> None:
    """A byte-order mark, joined blocks, indentation, other line ends and comments lose no block."""
    (tmp_path / "ca.pem").write_bytes(text)
    assert load_trust([tmp_path / "ca.pem"]).anchors == ANCHORS[:2]


def test_loading_a_list_looks_nobody_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a list and examining its trust searches for no number, which takes long in a long list."""
    for name in ("_extend", "_find", "_names"):
        monkeypatch.setattr(RevokedSerials, name, lambda *_: pytest.fail("a number was searched for"))
    (tmp_path / "ca.pem").write_bytes(to_pem(ANCHORS[0]))
    (tmp_path / "a.crl").write_bytes(ROOTS[0].crl([7]))
    trust = load_trust([tmp_path / "ca.pem"], [tmp_path / "a.crl"])
    assert list(TrustExamination("trust.a", trust).findings(datetime.now(UTC))) == []


def test_mistakes_in_lists(tmp_path: Path) -> None:
    """So is a broken revocation list, and a file with none."""
    (tmp_path / "ca.pem").write_bytes(to_pem(ANCHORS[0]))
    (tmp_path / "bad.crl").write_bytes(to_pem(ROOTS[0].crl()[:-3], "X509 CRL"))
    with pytest.raises(ConfigurationError, match=r"bad.crl, line 1: the revocation list is damaged"):
        load_trust([tmp_path / "ca.pem"], [tmp_path / "bad.crl"])
    with pytest.raises(ConfigurationError, match=r"ca.pem, line 1: a CERTIFICATE block, where a revocation list"):
        load_trust([tmp_path / "ca.pem"], [tmp_path / "ca.pem"])


def test_paths_that_hold_nothing(tmp_path: Path) -> None:
    """A missing path and a directory without certificates are errors."""
    with pytest.raises(ConfigurationError, match="cannot be opened: No such file"):
        load_trust([tmp_path / "missing"])
    with pytest.raises(ConfigurationError, match="holds no certificate"):
        load_trust([tmp_path])


def test_system_trust(tmp_path: Path) -> None:
    """The first bundle that exists is taken, without what in it cannot be read."""
    first, second = tmp_path / "a.crt", tmp_path / "b.crt"
    second.write_bytes(to_pem(ANCHORS[0]))
    assert system_trust([first, second]).anchors == ANCHORS[:1]
    first.write_bytes(to_pem(ANCHORS[1]) + to_pem(ANCHORS[2][:-4]))
    assert system_trust([first, second]).anchors == (ANCHORS[1],)
    with pytest.raises(ConfigurationError, match="install the package ca-certificates"):
        system_trust([tmp_path / "none"])
    first.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="reinstall"):
        system_trust([first])


@pytest.mark.skipif(not any(map(os.path.isfile, SYSTEM_BUNDLES)), reason="this system has no bundle of CA certificates")
def test_the_real_system_bundle() -> None:
    """This system's bundle is read whole, and without a warning, though some old roots deserve one."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trust = system_trust()
        verifier = ChainVerifier(trust)
        labels = [anchor.facts.label for anchor in verifier._anchors]
    assert len(labels) == len(trust.anchors) > 20
