"""Findings of ``doctor``, and its advice."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import pytest

from hsframework.cli.checks.credentials import check_credentials
from hsframework.cli.commands import doctor
from hsframework.configuration.settings import (
    AgentSettings,
    AllowRule,
    Configuration,
    GroupSettings,
    IdentitySettings,
    KernelSettings,
    Limits,
    RawSettings,
)
from hsframework.probes import No, NotSeen, Probe, Yes
from hsframework.registry.plugins import load_plugins
from hsframework.testing.certificates import CredentialFiles
from tests.unit.cli.conftest import Command
from tests.unit.client.fake_dispatcher import FakeDispatcher


def test_nothing_installed(command: Command, tmp_path: Path) -> None:
    """Status 1; what is missing comes with what to do."""
    status, output, messages = command.run("doctor", "--runtime-dir", tmp_path)
    assert (status, messages) == (1, "")
    text = output.decode()
    assert "MISSING  plugins: none is in use\n" in text
    assert "pip install hsframework-tls13" in text
    assert f"MISSING  dispatcher: no dispatcher listens at {tmp_path}/consumer.sock" in text
    assert "hsframework run" in text


@pytest.mark.usefixtures("tiny")
def test_all_is_there(command: Command, dispatcher: FakeDispatcher) -> None:
    """Status 0 with a plugin and a dispatcher, whatever the notes say."""
    status, output, _ = command.run("doctor", "--json", "--runtime-dir", dispatcher.directory)
    findings = {finding["subject"]: finding for finding in json.loads(output)}
    assert status == 0
    assert findings["plugins"]["detail"] == "tiny"
    assert findings["dispatcher"]["verdict"] == "ok"
    assert {"open files", "openssl", "kernel consumers", "kTLS"} <= set(findings)


def test_users_that_do_not_exist() -> None:
    """Each place in the configuration is named; numbers and users that exist are fine."""
    settings = Configuration(
        agents={"tls13": AgentSettings(user="no-such-user")},
        groups={"tls13": GroupSettings(users=("root", "4711", "nor-this-one"))},
        allow=(AllowRule(users=("nor-that-one",)),),
    )
    found = [finding.detail for finding in doctor.check_users(settings) if finding.verdict == "missing"]
    assert found == [
        "agents.tls13.user: there is no user 'no-such-user'",
        "allow[0].users: there is no user 'nor-that-one'",
        "groups.tls13.users: there is no user 'nor-this-one'",
    ]


@pytest.mark.usefixtures("tiny")
def test_tables_of_plugins_that_are_not_there(command: Command, tmp_path: Path) -> None:
    """A slip in a plugin's name would leave the plugin without its settings, and nobody the wiser."""
    file = tmp_path / "hsframework.toml"
    file.write_text("[plugins.tinny]\nnames = ['a']\n[agents.audit]\nprocesses = 2\n[agents.tiny]\nprocesses = 2\n")
    status, output, _ = command.run("doctor", "--config", file, "--runtime-dir", tmp_path)
    assert status == 1
    assert "MISSING  plugins.tinny: no plugin 'tinny' is installed; did you mean 'tiny'?\n" in output.decode()
    assert "MISSING  agents.audit: no plugin 'audit' is installed\n" in output.decode()
    assert (
        "to mend: install hsframework-audit, or remove the table; an agent is named by its plugin\n" in output.decode()
    )
    assert b"agents.tiny" not in output


def test_settings_of_a_plugin() -> None:
    """They are held against what the plugin says of them."""
    settings = Configuration(plugins={"tls13": {"kernel-ofload": True}, "quic": {}})
    found = [item.detail for item in doctor.check_tables(settings, load_plugins())]
    assert found == ["plugins.tls13.kernel-ofload: unknown key; did you mean 'kernel-offload'?"]


def test_files_that_the_configuration_names(files: CredentialFiles, tmp_path: Path) -> None:
    """They are read as the service will read them."""
    good = {"web": IdentitySettings(certificate=files.certificate, private_key=files.private_key)}
    assert not list(check_credentials(Configuration(identities=good)))
    bad = {"web": IdentitySettings(certificate=files.certificate, private_key=tmp_path / "nothing")}
    (finding,) = check_credentials(Configuration(identities=bad))
    assert (finding.verdict, finding.detail.startswith("identities.web: ")) == ("missing", True)


def test_too_few_file_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hard limit must hold a socket for each pending request; a service with few is noted, one with none missed."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1024))
    assert doctor.check_file_descriptors(Configuration()).verdict == "missing"
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    finding = doctor.check_file_descriptors(Configuration())
    assert (finding.verdict, "LimitNOFILE=" in finding.mend) == ("note", True)
    enough = int(finding.mend.partition("LimitNOFILE=")[2].split()[0])
    monkeypatch.setattr(resource, "getrlimit", lambda which: (enough, enough))
    assert doctor.check_file_descriptors(Configuration()).verdict == "ok"
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 4096))
    assert doctor.check_file_descriptors(Configuration(limits=Limits(per_source=100))).verdict == "ok"
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, resource.RLIM_INFINITY))
    assert doctor.check_file_descriptors(Configuration()).verdict == "ok"


@pytest.mark.parametrize("answer", [Yes(frozenset()), No("it has none"), NotSeen("a sandbox forbids it")])
def test_kernel(monkeypatch: pytest.MonkeyPatch, answer: Probe[frozenset[int]]) -> None:
    """A lack of the kernel's is a note: consumers in user space do without.  That nobody could look is said as such."""
    monkeypatch.setattr(doctor, "probe_family", lambda name: answer)
    monkeypatch.setattr(doctor, "supported_ciphers", lambda: answer)
    findings = doctor.check_handshake_family(), doctor.check_ktls()
    assert {finding.verdict for finding in findings} == ({"ok"} if isinstance(answer, Yes) else {"note"})
    if isinstance(answer, NotSeen):
        assert all("a sandbox forbids it" in finding.detail for finding in findings)
        assert not any("no netlink family" in finding.detail for finding in findings)


@pytest.mark.parametrize("there", [True, False])
def test_the_raw_form(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """The raw form is looked for where it is to be served, and nowhere else."""
    monkeypatch.setattr(doctor, "has_raw_form", lambda: there)
    assert not list(doctor.check_raw_form(Configuration()))
    settings = Configuration(kernel=KernelSettings(raw=RawSettings(enabled=True)))
    (finding,) = doctor.check_raw_form(settings)
    assert finding.verdict == ("ok" if there else "note")


def test_no_openssl(monkeypatch: pytest.MonkeyPatch) -> None:
    """A note, since the demonstration alone needs it."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert doctor.check_openssl().verdict == "note"
