"""Odd certificates make no warning: none reaches a terminal, a log or ``--json``, and none is read from elsewhere."""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hsframework.cli.options.facts import certificate_facts, summary
from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.selection import select_identity
from hsframework.credentials.trust import certificates_in
from hsframework.failures import HandshakeFailed
from hsframework.interface import Identity, Secret
from hsframework.tls.parsing import load_certificate
from tests.support.chain_features import FEATURES
from tests.support.chains import name_of, straight

ROOT = Path(__file__).parents[3]
READERS: dict[str, Callable[[bytes], object]] = {
    "facts": lambda der: ParsedCertificate(der).facts,
    "report": certificate_facts,
    "selection": lambda der: select_identity((Identity((der,), Secret(b"")),), (0x0403,), "server.example"),
}


def odd_leaves() -> dict[str, bytes]:
    """Return a leaf for each feature of generated chains, and for odd countries, which cryptography warns about."""
    found = {}
    for name, feature in FEATURES.items():
        plan = straight()
        if "leaf" in feature.levels:
            feature.change(plan, 0)
            found[name] = plan.path[0].der()
    for name, subject in {
        "a long country": name_of("Nowhere", 0x13, "2.5.4.6"),
        "an empty common name": name_of(""),
        "a BMPString": name_of("a leaf", 0x1E),
        "a TeletexString in latin-1": name_of("caf\u00e9", 0x14),
    }.items():
        plan = straight()
        plan.path[0].subject = subject
        found[name] = plan.path[0].der()
    return found


ODD = odd_leaves()


def test_some_of_them_deserve_a_warning() -> None:
    """cryptography itself warns about several of these."""
    warned = set()
    for name, der in ODD.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                certificate = x509.load_der_x509_certificate(der)
                certificate.subject.rfc4514_string()
                list(certificate.extensions)
            except (ValueError, x509.DuplicateExtension, x509.InvalidVersion):
                pass
        if caught:
            warned.add(name)
    assert {"serial negative", "serial zero"} <= warned


@pytest.mark.parametrize("reader", READERS)
def test_they_are_read_in_silence(reader: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Or refused with the error that the reader documents; warnings are errors here."""
    for name, der in ODD.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                READERS[reader](der)
            except (HandshakeFailed, ValueError) as error:
                assert reader != "report", (name, error)
        assert not caught, name
    assert capfd.readouterr() == ("", "")


def test_the_report_escapes_what_a_terminal_would_obey() -> None:
    """A subject with an escape sequence is shown as text."""
    plan = straight()
    plan.path[0].subject = name_of("\x1b[2Jgone")
    facts: dict[str, Any] = {
        "certificates": [certificate_facts(plan.path[0].der())],
        "tags": {},
        "protocol": "tls13",
        "alpn": None,
        "in_kernel": False,
        "milliseconds": 1,
        "peer_address": "192.0.2.1:1",
    }
    assert "\\x1b[2Jgone" in summary(facts)
    assert "\x1b" not in summary(facts)


def test_nobody_else_reads_certificates() -> None:
    """Only hsframework/tls/parsing.py calls cryptography's readers, so that each reading is a silent one."""
    found = []
    for path in [*(ROOT / "hsframework").rglob("*.py"), *(ROOT / "plugins").glob("*/hsframework_*/**/*.py")]:
        name = str(path.relative_to(ROOT))
        if name.startswith(("hsframework/testing/", "hsframework/scaffold/", "hsframework/tls/parsing.py")):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr.startswith(("load_der_x509", "load_pem_x509")):
                found.append(f"{name}:{node.lineno}")
    assert not found
    assert load_certificate(straight().path[0].der()).version is x509.Version.v3


def test_odd_anchors_load_in_silence() -> None:
    """A bundle with odd certificates is read without a warning; those that nobody can read are left out if asked."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for der in ODD.values():
            assert len(certificates_in(der, "the bundle", tolerant=True)) <= 1
