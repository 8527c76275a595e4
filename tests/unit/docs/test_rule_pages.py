"""The how-to pages about rules and admission: their commands are executed, and print what the pages show."""

from __future__ import annotations

import re
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from hsframework.cli.commands import config, doctor
from hsframework.cli.main import main
from hsframework.cli.options import quiet
from hsframework.registry.plugins import load_plugins
from hsframework.testing.certificates import CLIENT, SERVER, Authority, Credential, to_pem
from tests.system.pages import Command, examples, terminals

PAGES = ("two-clouds", "admit-and-revoke")
END = datetime(2036, 1, 1, tzinfo=UTC)
AUTHORITIES = {
    "cloud-a": "Cloud A",
    "cloud-b": "Cloud B",
    "customer-one": "Customer One CA",
    "customer-two": "Customer Two CA",
    "customer-three": "Customer Three CA",
    "fleet": "Fleet",
}


def _issue(root: Authority, name: str, uri: str = "", **options: Any) -> Credential:
    subject = x509.Name.from_rfc4514_string(options.pop("subject", f"CN={name}"))
    names: list[x509.GeneralName] = [x509.DNSName(name)] if "." in name else []
    names += [x509.UniformResourceIdentifier(uri)] if uri else []
    more = [(x509.SubjectAlternativeName(names), False)] if names else []
    return root.issue([], subject=subject, usages=(CLIENT, SERVER), not_after=END, extensions=more, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the pages name."""
    folder = tmp_path_factory.mktemp("pages")
    roots = {name: Authority(subject) for name, subject in AUTHORITIES.items()}
    for name, root in roots.items():
        (folder / f"{name}-ca.pem").write_bytes(root.certificate_pem)
    stolen = _issue(roots["fleet"], "stolen", "spiffe://fleet.example/storage/stolen", serial_number=0x666)
    (folder / "fleet.crl").write_bytes(to_pem(roots["fleet"].crl([stolen]), "X509 CRL"))
    peers = {
        "stolen": stolen,
        "backup": _issue(roots["customer-three"], "vault", subject="CN=vault,OU=Backup,O=Customer Three"),
        "backup1": _issue(roots["fleet"], "backup1.fleet.example"),
        "laptop": _issue(roots["fleet"], "laptop.fleet.example"),
        "exports": _issue(roots["fleet"], "exports.fleet.example"),
    } | {name: _issue(roots[name], f"this host at {name.replace('-', ' ')}") for name in AUTHORITIES if name != "fleet"}
    for name, leaf in peers.items():
        _write(folder, name, leaf)
    return folder


def _write(folder: Path, name: str, leaf: Credential) -> None:
    (folder / f"{name}.pem").write_bytes(leaf.certificate_pem)
    (folder / f"{name}.key").write_bytes(leaf.private_key_pem)
    (folder / f"{name}.key").chmod(0o600)


@pytest.fixture
def _in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(doctor, "try_plugins", lambda blocked: load_plugins(blocked=blocked))
    monkeypatch.setattr(config, "loaded_units", list)
    monkeypatch.setattr(config, "check_users", lambda settings: ())
    monkeypatch.setattr(quiet, "silence_logs", lambda: None)


def _commands(page: str) -> list[Command]:
    return [command for terminal in terminals(page) for command in terminal if "hsframework" in command.text]


@pytest.mark.usefixtures("_in_folder")
@pytest.mark.parametrize("page", PAGES)
def test_a_page(page: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each command of the service's ends as the page has it, with the same output to the letter."""
    (text,) = examples(page)
    (folder / "new.toml").write_text(text)
    found = 0
    for command in _commands(page):
        words = shlex.split(command.text.partition("#")[0])
        if words[:2] != ["sudo", "hsframework"]:
            continue
        refused = words[-2:] == ["||", "true"]
        status = main(words[2:-2] if refused else words[2:])
        shown = capsys.readouterr().out.splitlines()
        assert shown == list(command.shown), command.text
        assert status == int(refused), command.text
        found += 1
    assert found >= 3


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_no_other_commands(page: str) -> None:
    """Those that are not executed here are of other programs, so that none is left out by a slip."""
    other = {re.split(r"\s+", command.text)[1] for terminal in terminals(page) for command in terminal}
    assert other <= {"hsframework", "install", "systemctl"}
