"""Mistakes that people make in a configuration: each is found by `config check`, with file, line and key."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from hsframework.cli.commands import config, doctor
from hsframework.cli.main import build_parser
from hsframework.cli.options import shown
from hsframework.registry.plugins import load_plugins
from hsframework.testing.certificates import Authority, to_pem

BASE = """
[identities.host]
certificate = "host.pem"
private-key = "host.key"
[trust.fleet]
bundle = ["ca.pem"]
[profiles.kernel-server]
identities = ["host"]
trust = "fleet"
"""
CRL = ('bundle = ["ca.pem"]', 'bundle = ["ca.pem"]\ncrl = ["{0}"]')
Row = tuple[str, str, int, str]
"""Title; the file's text; the exit status; and what is reported: the place in the file ``F``, and words."""


def put(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


def add(text: str) -> str:
    return BASE + text


PORT = "TAKEN"
ROWS: list[Row] = [
    (
        "unknown key in a profile",
        add('client-cert = "require"\n'),
        1,
        r"F:10: profiles\.kernel-server\.client-cert: unknown key",
    ),
    ("unknown table", add('[profile.web]\nalpn=["h2"]\n'), 1, r"F:10: profile: unknown key; did you mean 'profiles'"),
    ("a text for a list", add('alpn = "h2"\n'), 1, r"F:10: profiles\.kernel-server\.alpn: a list is wanted"),
    ("a text for a number", add('[limits]\nper-source = "100"\n'), 1, r"F:11: limits\.per-source: a whole number"),
    ("a profile for no group", add("groups = []\n"), 0, r"F:10: profiles\.kernel-server\.groups: .*no request may"),
    (
        "a profile for a group of nobody",
        add('groups = ["tlshd", "tslhd"]\n'),
        0,
        r"F:10: profiles\.kernel-server\.groups\[1\]: no installed .* 'tslhd'; did you mean 'tlshd'",
    ),
    (
        "a required group of nobody",
        'required-groups = ["tslhd"]\n' + BASE,
        0,
        r"F:1: required-groups\[0\]: no installed",
    ),
    ("a folder of the audit log", add('[audit]\nfile = "/no/such/a"\n'), 1, r"F:11: audit\.file: the folder /no/such"),
    ("an audit log without a file", add("[audit]\nsync = true\n"), 1, r"F:11: audit: sync: there is no file"),
    ("missing certificate", put("host.pem", "hots.pem"), 1, r"F:3: identities\.host: .*hots\.pem"),
    (
        "expired certificate",
        put('"host.pem"\nprivate-key = "host.key"', '"exp.pem"\nprivate-key = "exp.key"'),
        1,
        r"F:2: identities\.host: .*expired on 2021",
    ),
    (
        "certificate without its key",
        put('private-key = "host.key"\n', ""),
        1,
        r"F:2: identities\.host\.private-key: missing",
    ),
    ("key does not match", put('"host.key"', '"web.key"'), 1, r"F:4: identities\.host: .*web\.key"),
    (
        "key that all may read",
        put('"host.key"', '"open.key"'),
        1,
        r"F:4: identities\.host: .*open\.key.*(mode|readable)",
    ),
    ("key that a group may read", put('"host.key"', '"grp.key"'), 1, r"F:4: identities\.host: .*grp\.key.*key-groups"),
    ("encrypted key", put('"host.key"', '"enc.key"'), 1, r"F:4: identities\.host: .*enc\.key.*encrypted"),
    ("half a certificate", put('"host.pem"', '"half.pem"'), 1, r"F:3: identities\.host: .*half\.pem"),
    ("empty certificate", put('"host.pem"', '"empty.pem"'), 1, r"F:3: identities\.host: .*empty\.pem"),
    (
        "a folder for a certificate",
        put('"host.pem"', '"dir"'),
        1,
        r"F:3: identities\.host: .*dir is not a regular file",
    ),
    ("empty bundle", put('bundle = ["ca.pem"]', "bundle = []"), 1, r"F:5: trust\.fleet: name at least one bundle"),
    ("a leaf for an authority", put('"ca.pem"', '"host.pem"'), 0, r"F:6: trust\.fleet\.bundle: no certificate in it"),
    ("a key for a certificate", put('"ca.pem"', '"ca.key"'), 1, r"F:6: trust\.fleet: .*ca\.key holds no certificate"),
    (
        "a table twice",
        add('[identities.host]\ncertificate="web.pem"\nprivate-key="web.key"\n'),
        1,
        r"F:10: not TOML: .*twice",
    ),
    ("a quote is missing", put('"ca.pem"]', '"ca.pem]'), 1, r"F:6: not TOML"),
    ("address of the metrics", add('[metrics]\nlisten = "9464"\n'), 1, r"F:11: metrics\.listen = '9464': write it"),
    (
        "port of the metrics in use",
        add(f'[metrics]\nlisten = "127.0.0.1:{PORT}"\n'),
        1,
        r"F:11: metrics\.listen: .*in use",
    ),
    (
        "networks of a user",
        add('[[allow]]\nnetworks = ["10.0.0.0/33"]\nprofiles=["kernel-server"]\n'),
        1,
        r"F:11: allow\[0\]\.networks: unknown key",
    ),
    (
        "networks of a rule",
        add('[[rule]]\nnetworks = ["10.0.0.0/33"]\n'),
        1,
        r"F:11: rule\[0\]: networks: .*10\.0\.0\.0/33",
    ),
    (
        "user that is not there",
        add('[[allow]]\nusers = ["wwwdata"]\nprofiles = ["kernel-server"]\n'),
        1,
        r"F:11: allow\[0\]\.users: .*wwwdata",
    ),
    (
        "profile of a user",
        add('[[allow]]\nusers = ["nobody"]\nprofiles = ["kernel-servers"]\n'),
        1,
        r"F:12: allow\[0\]\.profiles: 'kernel-servers'.*'kernel-server'",
    ),
    (
        "profile of a rule",
        add('[[rule]]\nprofile = "kernel-servers"\n'),
        1,
        r"F:11: rule\[0\]\.profile: 'kernel-servers'",
    ),
    (
        "trust of a profile",
        put('trust = "fleet"', 'trust = "fleets"'),
        1,
        r"F:9: profiles\.kernel-server\.trust: 'fleets'",
    ),
    (
        "required plugin",
        'required-plugins = ["tls"]\n' + BASE,
        1,
        r"F:1: required-plugins\[0\]: plugin tls: it is req",
    ),
    ("table of no plugin", add("[plugins.tls12]\nx=1\n"), 1, r"F:10: plugins\.tls12: no plugin 'tls12'"),
    ("setting of a plugin", add('[plugins.tls13]\ncipher = "HIGH"\n'), 1, r"F:11: plugins\.tls13\.cipher: unknown key"),
    (
        "value of a plugin's setting",
        add('[plugins.tls13]\nkernel-offload = "yes"\n'),
        1,
        r"F:11: plugins\.tls13\.kernel-offload: true or false",
    ),
    ("table of no agent", add("[agents.tls]\nprocesses = 2\n"), 1, r"F:10: agents\.tls: no plugin 'tls'"),
    ("time with a unit", add('[timeouts]\nserver = "4s"\n'), 1, r"F:11: timeouts\.server: a number is wanted"),
    ("negative time", add("[timeouts]\nserver = -1\n"), 1, r"F:11: timeouts: server must be more than 0"),
    (
        "times longer than the consumer's",
        add("[timeouts]\nclient = 60\nserver=60\nmaximum=5\n"),
        1,
        r"F:11: timeouts\.client: 60 s is more than timeouts\.maximum",
    ),
    (
        "time longer than NFS waits",
        add("[timeouts]\nclient = 60\n"),
        0,
        r"F:11: timeouts\.client: 60 s is longer than NFS",
    ),
    (
        "demand of a profile",
        add('client-certificate = "required"\n'),
        1,
        r"F:10: profiles\.kernel-server: client-certificate = 'required'",
    ),
    ("profile of the kernel", add('[kernel]\nserver-profile = "nfs"\n'), 1, r"F:11: kernel\.server-profile: 'nfs'"),
    ("keyring", add('[kernel]\nkeyrings = [".nvmee"]\n'), 0, r"F:11: kernel\.keyrings\[0\]: .*did you mean '\.nvme'"),
    ("namespace", add('[kernel]\nnamespaces = ["bleu"]\n'), 0, r"F:11: kernel\.namespaces\[0\]: .*'bleu'"),
    (
        "demand without trust",
        add('[profiles.x]\nidentities=["host"]\nclient-certificate="require"\n'),
        1,
        r"F:10: profiles\.x: client-certificate = 'require' without trust",
    ),
    (
        "profile that gives nothing",
        add('[profiles.x]\nalpn=["h2"]\n'),
        0,
        r"F:10: profiles\.x: neither identities nor psks",
    ),
    ("unused trust", add('[trust.unused]\nbundle=["ca2.pem"]\n'), 0, r"F:10: trust\.unused: no profile uses it"),
    (
        "unused identity",
        add('[identities.unused]\ncertificate="web.pem"\nprivate-key="web.key"\n'),
        0,
        r"F:10: identities\.unused: no profile uses it",
    ),
    (
        "expired list",
        put(CRL[0], CRL[1].format("old.crl")),
        1,
        r"F:5: trust\.fleet: the revocation list of .*(2020|out of date)",
    ),
    (
        "list of another authority",
        put(CRL[0], CRL[1].format("other.crl")),
        0,
        r"F:5: trust\.fleet: .*no authority of this name",
    ),
    ("odd hexadecimal", add('[psks.n]\nfile="badpsk"\n'), 1, r"F:11: psks\.n: .*badpsk"),
    ("key of four bytes", add('[psks.n]\nfile="shortpsk"\n'), 1, r"F:11: psks\.n: .*shortpsk"),
    ("a variable in a path", put('"host.pem"', '"$HOME/host.pem"'), 1, r"F:3: identities\.host: .*\$HOME/host\.pem"),
    ("list that admits nobody", add("admit = []\n"), 0, r"F:10: profiles\.kernel-server\.admit: the list is empty"),
    ("entry of a list", add('admit = ["host:a"]\n'), 1, r"F:10: profiles\.kernel-server: admit: 'host:a'"),
    (
        "list without trust",
        add('[profiles.x]\nadmit = ["dns:a"]\n'),
        1,
        r"F:11: profiles\.x\.admit: names certificates",
    ),
    ("namespace of a rule", add('[[rule]]\nnamespaces = ["blue"]\n'), 1, r"F:11: rule\[0\]\.namespaces: .*'blue'"),
    ("rule behind all", add('[[rule]]\n[[rule]]\nrole = "server"\n'), 1, r"F:11: rule\[1\]: a rule before takes"),
    (
        "profile behind rules",
        add('[profiles.x]\ntrust="fleet"\n[[rule]]\nrole = "server"\nprofile = "x"\n'),
        0,
        r"F:7: profiles\.kernel-server: there are rules for the role server",
    ),
]


def _write(folder: Path) -> None:
    """Write the files that the rows name."""
    root, other = Authority("Fleet"), Authority("Other fleet")
    then = datetime(2020, 1, 1, tzinfo=UTC)
    expired = root.issue(["host.example"], not_before=then, not_after=datetime(2021, 1, 1, tzinfo=UTC))
    leaves = {"host": root.issue(["host.example"]), "web": root.issue(["web.example"]), "exp": expired}
    for name, leaf in leaves.items():
        (folder / f"{name}.pem").write_bytes(leaf.certificate_pem)
        _private(folder / f"{name}.key", leaf.private_key_pem)
    (folder / "ca.pem").write_bytes(root.certificate_pem)
    (folder / "ca2.pem").write_bytes(other.certificate_pem)
    shutil.copy2(folder / "host.key", folder / "ca.key")
    for name, mode in (("open", 0o644), ("grp", 0o640)):
        shutil.copy2(folder / "host.key", folder / f"{name}.key")
        (folder / f"{name}.key").chmod(mode)
    if os.geteuid() == 0:
        os.chown(folder / "grp.key", 0, 42)
    key = serialization.load_pem_private_key(leaves["host"].private_key_pem, None)
    locked = serialization.BestAvailableEncryption(b"x")
    form = serialization.PrivateFormat.PKCS8
    _private(folder / "enc.key", key.private_bytes(serialization.Encoding.PEM, form, locked))
    (folder / "half.pem").write_bytes(leaves["host"].certificate_pem[:300])
    (folder / "empty.pem").write_bytes(b"")
    (folder / "dir").mkdir()
    (folder / "old.crl").write_bytes(to_pem(root.crl(this_update=then, next_update=then + timedelta(31)), "X509 CRL"))
    (folder / "other.crl").write_bytes(to_pem(other.crl(), "X509 CRL"))
    _private(folder / "badpsk", b"n1:abc\n")
    _private(folder / "shortpsk", b"n1:00112233\n")


def _private(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("etc")
    _write(folder)
    return folder


Check = Callable[..., tuple[int, str]]


@pytest.fixture
def check(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Check:
    """`config` of a file, in this process: its status and output.  Plugins are not tried in processes of their own."""
    for module in (doctor, shown):
        monkeypatch.setattr(module, "try_plugins", lambda blocked: load_plugins(blocked=blocked))
    monkeypatch.setattr(config, "loaded_units", list)
    monkeypatch.setattr(config, "check_memory", lambda settings: ())

    def call(file: Path, *words: str, action: str = "check") -> tuple[int, str]:
        parser: argparse.ArgumentParser = build_parser(("config",))
        status = config.run(parser.parse_args(["config", action, "--config", str(file), *words]))
        return status, capsys.readouterr().out

    return call


@pytest.mark.parametrize(("text", "status", "words"), [pytest.param(*row[1:], id=row[0]) for row in ROWS])
def test_a_mistake_is_found(text: str, status: int, words: str, check: Check, folder: Path) -> None:
    """One message names file, line and key; the status is 1 where the service does not start, or an entry fails."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        file = folder / "c.toml"
        file.write_text(text.replace(PORT, str(taken.getsockname()[1])))
        found, output = check(file)
    pattern = words.replace("F:", f"{re.escape(str(file))}:")
    assert re.search(pattern, output), output
    assert found == status, output


def test_a_good_file(check: Check, folder: Path) -> None:
    """Without a mistake nothing is reported, so that a message always means something."""
    file = folder / "good.toml"
    file.write_text(BASE)
    assert check(file) == (0, f"{config.GOOD}\n")


def test_groups_of_others(check: Check, folder: Path) -> None:
    """A group is known by an installed plugin or by its table, with which agents of others may join it."""
    file = folder / "groups.toml"
    file.write_text(add('groups = ["tlshd", "theirs"]\n[groups.theirs]\nusers = ["root"]\n'))
    assert check(file) == (0, f"{config.GOOD}\n")


def test_a_file_that_cannot_be_read(check: Check, folder: Path) -> None:
    """A folder in the file's place, and a file that is not there."""
    for file, words in ((folder, " is not a regular file"), (folder / "none.toml", ": there is no such file")):
        status, output = check(file)
        assert status == 1
        assert f"{file}{words}" in output


def test_tlshds_file(check: Check, folder: Path) -> None:
    """Its options are checked as the keys that they become: with its lines, and the option's name."""
    file, theirs = folder / "empty.toml", folder / "tlshd.conf"
    file.write_text("")
    here = f"{folder}/"
    theirs.write_text(
        "[authenticate.server]\nx509.certificat = x\n"
        f"x509.certificate = {here}exp.pem\nx509.private_key = {here}exp.key\nx509.truststore = {here}ca.pem\n"
    )
    status, output = check(file, "--tlshd-config", str(theirs))
    assert status == 1
    assert f"{theirs}:2: [authenticate.server] unknown option" in output
    assert re.search(rf"{re.escape(str(theirs))}:3: x509\.certificate: identities\.kernel-server: .*expired on", output)
    theirs.write_text(f"[authenticate.server]\nx509.truststore = {here}nothing.pem\n")
    status, output = check(file, "--tlshd-config", str(theirs))
    assert (status, f"{theirs}:2: x509.truststore: {here}nothing.pem cannot be opened" in output) == (1, True)
