"""``doctor`` beside a running service, in the states that an administrator meets."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from hsframework.cli.checks import service as checks, units
from hsframework.cli.checks.consumers import check_profiles
from hsframework.cli.checks.credentials import check_credentials
from hsframework.cli.checks.finding import Finding
from hsframework.cli.checks.processes import is_stopped
from hsframework.cli.checks.rehearsal import check_handshake
from hsframework.client.groups import reload_service, served_groups, service_status
from hsframework.configuration.settings import (
    AllowRule,
    Configuration,
    IdentitySettings,
    MemorySettings,
    Profile,
)
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.testing.certificates import Authority
from tests.support.running import Running, Service, only, running, running_service, short_folder, write_configuration


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service with one agent process of tls13, and a certificate."""
    with short_folder() as folder:
        files = Authority("Test Root").issue(["server.example"]).write(folder)
        tables = f"[identities.web]\ncertificate = '{files.certificate}'\nprivate-key = '{files.private_key}'\n"
        with running_service(only("tls13") + "watch-files = false\n[timeouts]\nwatchdog = 600\n" + tables) as home:
            yield home


def settings_of(home: Running) -> Configuration:
    return Configuration(runtime_dir=home.runtime_dir)


def asked(home: Running) -> list[Finding]:
    return list(checks.check_service(settings_of(home)))


def missing(findings: list[Finding]) -> list[str]:
    return [f"{finding.subject}: {finding.detail}" for finding in findings if finding.verdict == "missing"]


def _stop(process: int) -> None:
    """Stop a process, and return when it is: the signal only asks for it."""
    os.kill(process, signal.SIGSTOP)
    while not is_stopped(process):
        pass


def test_a_service_that_serves(service: Service) -> None:
    """Its process, its agents, since when, and with which kernel TLS; and a handshake through it."""
    findings = asked(service)
    assert missing(findings) == []
    said = {finding.subject: finding.detail for finding in findings}
    assert f"process {service.dispatcher}" in said["dispatcher"]
    assert "1 agent, the newest since" in said["group tls13"]
    assert "kernel TLS: " in said["group tls13"]
    (handshake,) = check_handshake(settings_of(service))
    assert handshake.verdict == "ok"


def test_the_only_agent_is_stopped(service: Service) -> None:
    """It is a member, and serves nobody: SIGSTOP."""
    (worker,) = service.workers()
    _stop(worker)
    try:
        assert any("is stopped (SIGSTOP)" in line and str(worker) in line for line in missing(asked(service)))
    finally:
        os.kill(worker, signal.SIGCONT)


def test_the_dispatcher_is_stopped(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its socket takes connections, and nobody answers."""
    monkeypatch.setattr("hsframework.client.groups.TIMEOUT", 0.2)
    monkeypatch.setattr(checks, "_listeners", lambda path: [service.pid, service.dispatcher])
    _stop(service.dispatcher)
    try:
        assert missing(asked(service)) == [f"dispatcher: process {service.dispatcher} is stopped (SIGSTOP)"]
    finally:
        os.kill(service.dispatcher, signal.SIGCONT)


def test_files_that_are_newer_than_those_in_use(service: Service) -> None:
    """A certificate that was replaced after the start, and a configuration that was changed."""
    file = service.folder / "hsframework.toml"
    text = file.read_text()
    try:
        file.write_text(text + "# changed\n")
        (finding,) = [finding for finding in asked(service) if finding.subject == "files in use"]
        assert (finding.verdict, finding.detail) == ("note", f"{file} has changed since the service read it")
        assert "hsframework reload" in finding.mend
    finally:
        file.write_text(text)


def test_a_reload_that_took_nothing(service: Service) -> None:
    """The reason is said until a reload succeeds; a key that waits for a restart is named."""
    file = service.folder / "hsframework.toml"
    text = file.read_text()
    try:
        file.write_text(f"nonsense = 1\n{text}")
        assert reload_service(service.runtime_dir)["problem"]
        (found,) = [finding for finding in asked(service) if finding.subject == "reload"]
        assert (found.verdict, "nonsense" in found.detail) == ("missing", True)
        file.write_text(f'required-groups = ["tls13"]\n{text}')
        assert not reload_service(service.runtime_dir)["problem"]
        (found,) = [finding for finding in asked(service) if finding.subject == "reload"]
        assert (found.verdict, "required-groups" in found.detail) == ("note", True)
    finally:
        file.write_text(text)
        assert not reload_service(service.runtime_dir)["problem"]


def test_a_configuration_that_has_become_wrong(service: Service) -> None:
    """The service goes on with the one before, so doctor says both: what is wrong, and who serves."""
    file = service.folder / "hsframework.toml"
    text = file.read_text()
    try:
        file.write_text(text + "[nonsense]\n")
        words = ["doctor", "--config", str(file), "--runtime-dir", str(service.runtime_dir)]
        done = subprocess.run(
            [sys.executable, "-m", "hsframework", *words], capture_output=True, text=True, check=False
        )
    finally:
        file.write_text(text)
    assert done.returncode == 1
    line = text.count("\n") + 1
    assert f"MISSING  configuration: {file}:{line}: nonsense: unknown" in done.stdout
    assert "group tls13: 1 agent" in done.stdout


def test_no_agent_at_all() -> None:
    """A dispatcher alone: nothing is served, which is said."""
    with short_folder() as folder:
        file = write_configuration(folder, 'required-groups = ["tls13"]\n')
        with running(("dispatcher", "--config", str(file)), folder) as alone:
            alone.log.wait("the dispatcher is ready")
            assert missing(asked(alone)) == [
                "group tls13: no agent serves it, so that requests in it are refused",
                "agents: none has joined; nothing is served",
            ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run an agent as another user")
def test_an_agent_that_may_not_join() -> None:
    """Its user is not the plugin's: the refusal, with what to change, is told."""
    with short_folder() as folder:
        file = write_configuration(folder)
        with running(("dispatcher", "--config", str(file)), folder) as alone:
            alone.log.wait("the dispatcher is ready")
            words = ("agent", "tls13", "--config", str(file), "--user", "54321")
            agent = subprocess.run(
                [sys.executable, "-m", "hsframework", *words], capture_output=True, timeout=60, check=False
            )
            assert agent.returncode == 3
            assert any("(user 54321) was not allowed to join" in line for line in missing(asked(alone)))


def test_an_agent_without_the_kernels_tls(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's requests would fail if the dispatcher had it alone."""
    status = service_status(service.runtime_dir)
    monkeypatch.setattr(checks, "service_status", lambda where: {**status, "kernel-tls": "yes"})
    groups = served_groups(service.runtime_dir)
    if all(agent.kernel_tls == "yes" for group in groups for agent in group.agents):
        pytest.skip("this kernel has TLS")
    assert any("has no kernel TLS, and the dispatcher has it" in line for line in missing(asked(service)))


def test_own_certificates(tmp_path: Path) -> None:
    """Expired, not valid yet, and soon to expire; a clock that is years behind is named first."""
    files = Authority("Test Root").issue(["server.example"]).write(tmp_path)
    identity = IdentitySettings(certificate=files.certificate, private_key=files.private_key)
    settings = Configuration(identities={"web": identity})
    now = datetime.now(UTC)
    assert list(check_credentials(settings, now)) == []
    (expired,) = check_credentials(settings, now + timedelta(days=20_000))
    assert (expired.subject, expired.verdict, "expired on" in expired.detail) == ("identities.web", "missing", True)
    clock, early = check_credentials(settings, datetime(2001, 1, 1, tzinfo=UTC))
    assert (clock.subject, clock.verdict, "is valid from" in early.detail) == ("clock", "missing", True)
    end = x509.load_pem_x509_certificate(files.certificate.read_bytes()).not_valid_after_utc
    (soon,) = check_credentials(settings, end - timedelta(days=1))
    assert (soon.subject, soon.verdict, "expires on" in soon.detail) == ("identities.web", "note", True)


def unit(**values: str) -> units.Unit:
    """Return the properties of a unit that runs well, but for some."""
    return {
        "Id": units.SERVICE,
        "LoadState": "loaded",
        "ActiveState": "active",
        "SubState": "running",
        "UnitFileState": "enabled",
        "NRestarts": "0",
        "ExecMainStatus": "0",
        "OOMScoreAdjust": "-500",
        "CapabilityBoundingSet": "cap_kill cap_net_admin",
        "LimitMEMLOCK": "infinity",
        **values,
    }


@pytest.mark.parametrize(
    ("values", "verdict", "words"),
    [
        ({}, "ok", "active"),
        ({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "7"}, "missing", "7 restarts"),
        ({"ActiveState": "failed", "ExecMainStatus": "2"}, "missing", "its configuration is wrong"),
        ({"ActiveState": "failed", "ExecMainStatus": "3"}, "missing", "the dispatcher does not let it join"),
        ({"ActiveState": "activating", "StatusText": "waits for an agent"}, "missing", "waits for an agent"),
        ({"ActiveState": "inactive"}, "note", "it is inactive"),
        ({"UnitFileState": "disabled"}, "note", "it is not enabled"),
        ({"ActiveState": "activating", "SubState": "start", "NRestarts": "2"}, "missing", "(2 restarts): see its log"),
    ],
)
def test_units(monkeypatch: pytest.MonkeyPatch, values: dict[str, str], verdict: str, words: str) -> None:
    """Words of systemd on a unit: a crash loop, a wrong configuration, an agent that nobody lets join."""
    monkeypatch.setattr(units, "last_error", lambda name: "")
    monkeypatch.setattr(units, "_is_active", lambda name: False)
    (finding,) = units.check_units(Configuration(), [unit(**values)])
    assert (finding.verdict, words in finding.detail) == (verdict, True)


def test_a_score_that_the_unit_forbids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's shell may set any score; the unit may not, and that is what counts."""
    monkeypatch.setattr(units, "_is_active", lambda name: False)
    settings = Configuration(memory=MemorySettings(oom_score_adjust=-900))
    _, finding = units.check_units(settings, [unit()])
    assert (finding.subject, finding.verdict) == ("OOM score", "missing")
    assert "OOMScoreAdjust=-900 in hsframework.service" in finding.mend
    allowed = unit(CapabilityBoundingSet="cap_kill cap_sys_resource")
    assert len(list(units.check_units(settings, [allowed]))) == 1


def test_the_profiles_of_a_user() -> None:
    """A user is told which he may name; a stranger that he may not use the service."""
    rule = AllowRule(users=("4001",), profiles=("web",))
    settings = Configuration(profiles={"web": Profile(), "db": Profile()}, allow=(rule,))
    (known,) = check_profiles(settings, PeerCredentials(1, 4001, 4001))
    assert known.detail == "this user may name: web"
    (stranger,) = check_profiles(settings, PeerCredentials(1, 4002, 4002))
    assert "may not use the service" in stranger.detail


def test_config_check(tmp_path: Path) -> None:
    """Every fault of the files at once, status 1, and nothing is started; a good one has status 0."""

    def check(text: str) -> tuple[int, list[str]]:
        file = tmp_path / "new.toml"
        file.write_text(text)
        words = ("config", "check", "--json", "--config", str(file))
        done = subprocess.run([sys.executable, "-m", "hsframework", *words], capture_output=True, check=False)
        return done.returncode, [each["detail"] for each in json.loads(done.stdout or b"[]")]

    assert check("") == (0, [])
    tables = "".join(f"[identities.{name}]\ncertificate = '{name}.pem'\nprivate-key = 'k'\n" for name in "ab")
    status, details = check(tables + "[metrics]\nlisten = '9464'\n[[allow]]\nusers = ['no-such-user']\n")
    assert status == 1
    places = [f"{tmp_path}/new.toml:{line}: identities.{name}: " for line, name in ((2, "a"), (5, "b"))]
    assert all(detail.startswith(place) for detail, place in zip(details[:2], places, strict=True))
    assert any("metrics.listen" in detail for detail in details)
    assert any("no-such-user" in detail for detail in details)
