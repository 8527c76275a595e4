"""Facts of a session under the names of ssl, against ssl itself and against the plugin's own key schedule."""

from __future__ import annotations

import socket
import ssl
import tempfile
from typing import Any

import pytest

from hsframework.adapters.facts import SessionFacts, certificate_fields
from hsframework.adapters.template import MOST, OptionsTemplate
from hsframework.client import BaseSession
from hsframework.errors import ConfigurationError, StreamError
from hsframework.interface import Role, Secret
from hsframework.testing.certificates import Authority
from hsframework_tls13.ciphers import SUITES
from hsframework_tls13.keyschedule import export_keying_material

ROOT = Authority("Facts Root")


@pytest.mark.parametrize("names", [["server.example", "*.server.example"], ["10.0.0.1", "::1", "server.example"]])
def test_a_certificates_fields_are_those_of_ssl(names: list[str]) -> None:
    """OpenSSL's own reading of the same certificate, as Python's ssl gives it."""
    credential = ROOT.issue(names)
    with tempfile.NamedTemporaryFile("wb", suffix=".pem") as file:
        file.write(credential.certificate_pem)
        file.flush()
        theirs: dict[str, Any] = ssl._ssl._test_decode_cert(file.name)  # type: ignore[attr-defined]
    ours = certificate_fields(credential.chain[0])
    wanted = ("subject", "issuer", "version", "serialNumber", "notBefore", "notAfter")
    assert {name: ours[name] for name in wanted} == {name: theirs[name] for name in wanted}
    assert {str(item) for item in ours["subjectAltName"] if item[1] != "::1"} == {
        str(item) for item in theirs["subjectAltName"] if item[1] != "0:0:0:0:0:0:0:1"
    }


class Exporting(BaseSession):
    """A session that has an exporter's secret, or none."""

    parameters: Any = None


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.name)
@pytest.mark.parametrize("size", [1, 32, 100])
def test_the_exporter_is_that_of_tls(suite: Any, size: int) -> None:
    """For each hash, as the plugin's key schedule computes it (RFC 8446 section 7.5)."""
    secret = bytes(range(48 if suite.hash == "sha384" else 32))
    with socket.socket() as sock:
        session = Exporting(sock, Role.CLIENT, {"protocol": "tls13"})
        session.parameters = {"exporter-secret": Secret(secret)}
        found = SessionFacts(session).export_keying_material("EXPORTER-Test", size, b"context")
        assert found == export_keying_material(suite, secret, b"EXPORTER-Test", b"context", size)
        session.parameters = {}
        with pytest.raises(StreamError, match="no exporter"):
            SessionFacts(session).get_channel_binding()


def test_a_template_names_each_peer() -> None:
    """The host is the name that the peer must prove; a name of one's own goes first; options are kept for the next."""
    template = OptionsTemplate(trust=ROOT.trust())
    first = template.for_peer("a.example", ("h2",))
    assert (first.peer_name, first.any_peer_name, first.alpn) == ("a.example", False, ("h2",))
    assert template.for_peer("a.example", ("h2",)) is first
    for number in range(MOST):
        template.for_peer(f"{number}.example")
    assert template.for_peer("a.example", ("h2",)) is not first
    assert OptionsTemplate(trust=ROOT.trust(), peer_name="one.example").for_peer("b").peer_name == "one.example"
    assert OptionsTemplate(trust=ROOT.trust(), alpn=("imap",)).for_peer("b", ("h2",)).alpn == ("imap",)
    server = OptionsTemplate(role=Role.SERVER, profile="web")
    assert (server.role, server.for_peer(None).peer_name) == (Role.SERVER, None)


def test_a_template_needs_a_name_for_its_peer() -> None:
    """A connection without a host, under a trust, is refused before it is made; so are fields that fit no peer."""
    with pytest.raises(ConfigurationError, match="peer_name is not set"):
        OptionsTemplate(trust=ROOT.trust()).for_peer(None)
    with pytest.raises(ConfigurationError, match="timeout"):
        OptionsTemplate(trust=ROOT.trust(), timeout=-1)
