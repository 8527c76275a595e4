"""Credentials that load and do not serve: each kind is found, and good ones are not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from hsframework.configuration.settings import Configuration, IdentitySettings, Profile, TrustSettings
from hsframework.credentials.findings import CredentialFinding, TrustExamination, identity_findings
from hsframework.dispatcher.keys.vault import Vault
from hsframework.interface import Role, Trust
from hsframework.testing.certificates import CLIENT, SERVER, Authority, to_pem

NOW = datetime.now(UTC)
ROOT, OTHER = Authority("Findings Root"), Authority("Other Root")


@pytest.mark.parametrize(
    ("crl", "words"),
    [
        (ROOT.crl(), None),
        (ROOT.crl(next_update=NOW - timedelta(days=1)), "it was to be replaced by"),
        (OTHER.crl(), "the trust has no authority of this name"),
        (Authority("Findings Root").crl(), "whose key did not sign it"),
    ],
    ids=["good", "expired", "of no authority", "of another key"],
)
def test_lists(crl: bytes, words: str | None) -> None:
    """A list that cannot clear a certificate is named, with its issuer and the reason."""
    found = list(TrustExamination("trust.t", Trust((ROOT.certificate,), (crl,))).findings(NOW))
    assert [finding.where for finding in found] == ["trust.t"] * (words is not None)
    assert words is None or words in found[0].detail


def test_a_list_whose_name_cannot_be_read() -> None:
    """Found by the fuzz target: the name is damaged in a way that only its text shows."""
    crl = ROOT.crl()
    damaged = crl.replace(b"\x0c\x0dFindings Root", b"\x00\x0dFindings Root", 1)
    assert damaged != crl
    found = list(TrustExamination("trust.t", Trust((ROOT.certificate,), (damaged,))).findings(NOW))
    assert "(a name that cannot be read)" in found[0].detail


def test_a_list_expires_while_the_service_runs() -> None:
    """The findings of one examination are those of the time that is asked about."""
    examination = TrustExamination("trust.t", Trust((ROOT.certificate,), (ROOT.crl(),)))
    assert not list(examination.findings(NOW))
    assert "replaced" in next(examination.findings(NOW + timedelta(days=40))).detail


@pytest.mark.parametrize(
    ("usages", "roles", "words"),
    [
        ((SERVER, CLIENT), (Role.SERVER, Role.CLIENT), []),
        ((SERVER,), (), []),
        ((SERVER,), (Role.SERVER,), []),
        ((SERVER,), (Role.CLIENT,), ["CLIENT_AUTH"]),
        ((ExtendedKeyUsageOID.EMAIL_PROTECTION,), (), ["SERVER_AUTH"]),
    ],
)
def test_usage(usages: list[object], roles: tuple[Role, ...], words: list[str]) -> None:
    """The role of an identity's profiles has to be among its usages; without a known role, one of both."""
    identity = ROOT.issue(usages=usages).identity
    found = identity_findings("identities.i", identity, roles, NOW)
    assert len(found) == len(words)
    assert all(word in finding.detail for word, finding in zip(words, found, strict=True))


def test_expired_and_not_yet_valid() -> None:
    """A certificate of the chain outside its time is named."""
    credential = ROOT.issue(["a.example"])
    assert "expired" in identity_findings("i", credential.identity, (), NOW + timedelta(days=40))[0].detail
    assert "valid from" in identity_findings("i", credential.identity, (), NOW - timedelta(days=1))[0].detail


def test_the_vault_names_the_tables(tmp_path: Path) -> None:
    """An identity of another authority than its profile's trust, and the trust's expired list."""
    files = OTHER.issue(["a.example"]).write(tmp_path)
    (tmp_path / "crl").write_bytes(to_pem(ROOT.crl(next_update=NOW - timedelta(days=1)), "X509 CRL"))
    trust = TrustSettings(bundle=(ROOT.write(tmp_path),), crl=(tmp_path / "crl",))
    configuration = replace(
        Configuration(),
        identities={"web": IdentitySettings(certificate=files.certificate, private_key=files.private_key)},
        trust={"ours": trust},
        profiles={"p": Profile(identities=("web",), trust="ours")},
    )
    found = Vault(configuration).findings(NOW)
    assert [finding.where for finding in found] == ["trust.ours", "identities.web"]
    assert "profiles.p trusts 'ours'" in found[1].detail
    certified = replace(configuration, trust={"ours": TrustSettings(bundle=(OTHER.write(tmp_path, "other"),))})
    assert not Vault(certified).findings(NOW)


def test_metrics_compute_nothing_until_a_date_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Findings are computed once, and again at each date of a certificate or of a list, as if computed each time."""
    ends = [NOW + timedelta(days=days) for days in (1, 2, 3)]
    files = ROOT.issue(["a.example"], not_before=ends[0], not_after=ends[2]).write(tmp_path)
    (tmp_path / "crl").write_bytes(to_pem(ROOT.crl(next_update=ends[1]), "X509 CRL"))
    configuration = replace(
        Configuration(),
        identities={"web": IdentitySettings(certificate=files.certificate, private_key=files.private_key)},
        trust={"ours": TrustSettings(bundle=(ROOT.write(tmp_path),), crl=(tmp_path / "crl",))},
        profiles={"p": Profile(identities=("web",), trust="ours")},
    )
    vault = Vault(configuration)
    computed: list[datetime] = []
    examine = TrustExamination.findings

    def findings(examination: TrustExamination, now: datetime) -> Iterator[CredentialFinding]:
        computed.append(now)
        return examine(examination, now)

    monkeypatch.setattr(TrustExamination, "findings", findings)
    shown = []
    for day in (0.0, 0.5, 1.5, 1.9, 2.5, 2.6, 3.5, 9, 0.1):
        now = NOW + timedelta(days=day)
        assert vault.findings(now) == Vault(configuration)._findings(now)
        shown.append(len(vault.findings(now)))
    assert shown == [1, 1, 0, 0, 1, 1, 2, 2, 1]
    assert len(computed) == 9 + 5
