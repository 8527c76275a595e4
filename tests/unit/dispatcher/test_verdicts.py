"""Verdicts on sessions by later terms: who is out, and above all who is not."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from hsframework.configuration.rules import Rule
from hsframework.configuration.settings import Configuration, KernelSettings, Profile, PskSettings, TrustSettings
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.sessions.book import Session
from hsframework.dispatcher.sessions.verdicts import Verdicts
from hsframework.interface import AuthMode, Role
from hsframework.testing.certificates import Authority, to_pem
from tests.unit.dispatcher.sessions import session

ROOT, OTHER = Authority("Root"), Authority("Another Root")
ALICE, BOB = (ROOT.issue([f"{name}.example"]) for name in ("alice", "bob"))
NOW = datetime.now(UTC)


def path_of(credential: Any) -> tuple[bytes, ...]:
    return (*credential.chain, ROOT.anchor)


class Terms:
    """A configuration whose files are in ``folder``."""

    def __init__(self, folder: Path, *, admit: tuple[str, ...] | None = None, rule: tuple[Rule, ...] = ()) -> None:
        self._folder = folder
        (folder / "ca.pem").write_bytes(to_pem(ROOT.anchor))
        self.crl: tuple[Path, ...] = ()
        self.admit = admit
        self.rule = rule
        self.crl_check = "if-present"

    def trusts(self, authority: Authority) -> None:
        (self._folder / "ca.pem").write_bytes(to_pem(authority.anchor))

    def revokes(self, *credentials: Any, **options: Any) -> None:
        file = self._folder / "list.pem"
        file.write_bytes(to_pem(ROOT.crl(credentials, **options), "X509 CRL"))
        self.crl = (file,)

    def reason(self, credential: Any, **changed: Any) -> str:
        """Return the reason why a client with this certificate is out."""
        configuration = Configuration(
            trust={"ours": TrustSettings(bundle=(self._folder / "ca.pem",), crl=self.crl, crl_check=self.crl_check)},
            profiles={"exports": Profile(trust="ours", admit=self.admit)},
            kernel=KernelSettings(server_profile="exports"),
            rule=self.rule,
        )
        made = session(**({"certificates": path_of(credential)} | changed))
        return Verdicts(Vault(configuration), configuration).reason(made)


@pytest.fixture
def terms(tmp_path: Path) -> Terms:
    return Terms(tmp_path)


def test_a_revoked_certificate(terms: Terms) -> None:
    """Its peer is out, and nobody else is."""
    terms.revokes(BOB)
    assert "revoked" in terms.reason(BOB)
    assert terms.reason(ALICE) == ""


def test_a_list_that_is_newer_than_the_session(terms: Terms) -> None:
    """The handshake's moment is before the list's first one: a serial number in it counts all the same."""
    minutes_ago = (NOW - timedelta(minutes=10)).timestamp()
    terms.revokes(BOB, this_update=NOW - timedelta(minutes=1))
    assert "revoked" in terms.reason(BOB, made_at=minutes_ago)
    assert terms.reason(ALICE, made_at=minutes_ago) == ""


@pytest.mark.parametrize("days", [-400, 400])
def test_a_clock_that_was_wrong(terms: Terms, days: int) -> None:
    """A session whose moment is outside the time of every certificate: a revocation counts, and nothing else does."""
    made_at = (NOW + timedelta(days=days)).timestamp()
    terms.revokes(BOB)
    assert "revoked" in terms.reason(BOB, made_at=made_at)
    assert terms.reason(ALICE, made_at=made_at) == ""


@pytest.mark.parametrize("check", ["if-present", "require"])
def test_time_ends_no_session(terms: Terms, check: str) -> None:
    """A list that is over, none at all where one is required, and a certificate that is over: nobody is out."""
    terms.crl_check = check
    terms.revokes(BOB, this_update=NOW - timedelta(days=3), next_update=NOW - timedelta(days=1))
    assert terms.reason(ALICE) == ""
    assert "revoked" in terms.reason(BOB)
    terms.crl = ()
    expired = ROOT.issue(["e.example"], not_before=NOW - timedelta(days=9), not_after=NOW - timedelta(days=1))
    assert terms.reason(expired, made_at=(NOW - timedelta(days=2)).timestamp()) == ""


def test_an_authority_that_is_trusted_no_longer(terms: Terms) -> None:
    """Its peers are out."""
    terms.trusts(OTHER)
    assert "does not lead to a trusted authority" in terms.reason(ALICE)


def test_an_admission_list(terms: Terms) -> None:
    """A peer on it stays, another is out, and so is one that has shown nothing."""
    terms.admit = ("dns:alice.example",)
    assert terms.reason(ALICE) == ""
    assert "no entry of the admission list is for CN=bob.example" in terms.reason(BOB)
    assert "has shown no certificate" in terms.reason(BOB, certificates=())
    terms.admit = None
    assert terms.reason(BOB, certificates=()) == ""


def test_rules_that_refuse(terms: Terms) -> None:
    """A request that would be refused now puts its peer out; one that another rule serves is judged by that."""
    terms.rule = (Rule(role="server", networks=("192.0.2.1",), refuse=True), Rule(role="server", profile="exports"))
    assert "refuse" in terms.reason(ALICE)
    terms.rule = terms.rule[1:]
    assert terms.reason(ALICE) == ""


def test_a_client_keeps_the_name(terms: Terms) -> None:
    """The peer of a client is judged as a server of the name that it had to prove."""
    as_client = {
        "role": Role.CLIENT,
        "facts": None,
        "auth_mode": AuthMode.UNAUTHENTICATED,
        "peer_name": "alice.example",
    }
    assert terms.reason(ALICE, **as_client) == ""
    terms.revokes(ALICE)
    assert "revoked" in terms.reason(ALICE, **as_client)


def test_a_program_with_authorities_of_its_own(terms: Terms) -> None:
    """The configuration does not concern its peers, nor those of a profile that is gone."""
    terms.revokes(ALICE)
    assert terms.reason(ALICE, facts=None, own_trust=True) == ""
    assert terms.reason(ALICE, facts=None, profile="gone") == ""


def test_a_pre_shared_key_that_is_gone(tmp_path: Path) -> None:
    """The session of a program whose profile has other keys now is out; one whose key is there stays."""
    file = tmp_path / "keys"
    file.write_text("one:" + "00" * 32 + "\n")
    file.chmod(0o600)
    configuration = Configuration(psks={"ours": PskSettings(file=file)}, profiles={"p": Profile(psks=("ours",))})
    verdicts = Verdicts(Vault(configuration), configuration)
    by_key = {"facts": None, "profile": "p", "auth_mode": AuthMode.PSK}
    assert verdicts.reason(session(psk_identity=b"one", **by_key)) == ""
    assert "no longer in the profile" in verdicts.reason(session(psk_identity=b"two", **by_key))


def test_one_verdict_for_the_same_peer(terms: Terms, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand sessions with one peer are judged once, and those with another apart."""
    asked = []

    def judge(each: Session) -> str:
        asked.append(each)
        return "out"

    configuration = Configuration(kernel=KernelSettings())
    verdicts = Verdicts(Vault(configuration), configuration)
    monkeypatch.setattr(verdicts, "_reason", judge)
    many = [session(certificates=(b"one",), made_at=time.time() + number) for number in range(1000)]
    assert len(verdicts.out([*many, session(certificates=(b"two",))])) == 1001
    assert len(asked) == 2
