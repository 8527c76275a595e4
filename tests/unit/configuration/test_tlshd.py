"""tlshd's configuration: what each option becomes, what is refused and how, and a service that runs on it."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from hsframework.cli import main as cli
from hsframework.client import Client, HandshakeOptions, Session
from hsframework.configuration import tlshd as tlshd_config
from hsframework.configuration.settings import (
    Configuration,
    IdentitySettings,
    KernelSettings,
    LogSettings,
    Profile,
    TrustSettings,
)
from hsframework.configuration.tlshd import KEYRINGS, load_tlshd_configuration
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.sources.kernel import CLIENT_PROFILE, SERVER_PROFILE
from hsframework.errors import ConfigurationError
from hsframework.interface import CertificateDemand, Role
from hsframework.testing.certificates import Authority, CredentialFiles, to_pem
from tests.support.running import running, short_folder, tcp_pairs, write_configuration

ROOT = Authority("tlshd Test Root")
CLASSICAL = ROOT.issue(["localhost"])
POST_QUANTUM = ROOT.issue(["localhost"], "ml-dsa-65")
CRL = ROOT.crl([4711])
OTHER_USER = 54321


@dataclass(frozen=True)
class Files:
    """Credentials on disk, and tlshd's options that name them."""

    folder: Path
    classical: CredentialFiles
    post_quantum: CredentialFiles
    crl: Path

    @classmethod
    def write(cls, folder: Path) -> Files:
        """Write the module's credentials into a folder."""
        crl = folder / "ca.crl"
        crl.write_bytes(to_pem(CRL, "X509 CRL"))
        return cls(folder, CLASSICAL.write(folder), POST_QUANTUM.write(folder, "pq"), crl)

    def fill(self, text: str) -> str:
        """Fill ``text`` with the paths for {ca}, {crl}, {crt}, {key}, {pqcrt}, {pqkey} and {dir}."""
        places = {"ca": self.classical.ca, "crl": self.crl, "crt": self.classical.certificate, "dir": self.folder}
        places |= {"key": self.classical.private_key, "pqcrt": self.post_quantum.certificate}
        places |= {"pqkey": self.post_quantum.private_key}
        for name, path in places.items():
            text = text.replace(f"{{{name}}}", str(path))
        return text

    def config(self, text: str) -> Path:
        """Write a file of tlshd's with this text."""
        path = self.folder / "tlshd.config"
        path.write_text(self.fill(text))
        return path


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Credentials of the test's own."""
    return Files.write(tmp_path)


OPTIONS = """\
x509.truststore= {ca}
x509.crl= {crl}
x509.certificate= {crt}
x509.private_key= {key}
x509.pq.certificate= {pqcrt}
x509.pq.private_key= {pqkey}
"""
WHOLE = f"""\
# See tlshd.conf(5) for details.
[debug]
loglevel=1
tls=0
nl=0

[authenticate]
keyrings= mine;0x1f;77;.nvme

[authenticate.client]
{OPTIONS}
[authenticate.server]
{OPTIONS}"""


# What the options become


@pytest.mark.parametrize("name", ["kernel-client", "kernel-server"])
def test_every_option(files: Files, name: str) -> None:
    """A file in which everything is set: both identities, trust with its lists, keyrings and the log."""
    loaded = load_tlshd_configuration(files.config(WHOLE))
    found = loaded.configuration
    assert loaded.warnings == ()
    assert found.log.level == "debug"
    assert found.kernel.keyrings == (".nvme", ".nfs", ".nfsd", "mine", "31", "77")
    assert found.trust[name] == TrustSettings(bundle=(files.classical.ca,), crl=(files.crl,))
    assert found.profiles[name].identities == (f"{name}-pq", name)
    assert found.profiles[name].trust == name
    assert found.identities[name].private_key == files.classical.private_key
    assert found.identities[f"{name}-pq"].certificate == files.post_quantum.certificate


def test_profiles_are_the_kernels() -> None:
    """The names are those that the kernel source looks for."""
    assert (CLIENT_PROFILE, SERVER_PROFILE) == ("kernel-client", "kernel-server")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("[authenticate.client]\n#x509.truststore= <pathname>\n", {}),
        ("x509.truststore={ca}", {"trust": "{ca}", "crl": "", "system": False, "identities": ()}),
        ("x509.crl={crl}", {"trust": "", "crl": "{crl}", "system": True, "identities": ()}),
        (
            "x509.certificate={crt}\nx509.private_key={key}",
            {"trust": "", "crl": "", "system": True, "identities": ("kernel-client",)},
        ),
        (
            "x509.pq.private_key={pqkey}\nx509.pq.certificate={pqcrt}",
            {"trust": "", "crl": "", "system": True, "identities": ("kernel-client-pq",)},
        ),
    ],
)
def test_single_options(files: Files, text: str, expected: dict[str, Any]) -> None:
    """Options that are left out: the system's trust, no lists, no certificate; an empty section makes no profile."""
    found = load_tlshd_configuration(files.config(f"[authenticate.client]\n{text}\n")).configuration
    if not expected:
        assert (found.profiles, found.trust, found.identities) == ({}, {}, {})
        return
    trust = found.trust["kernel-client"]
    assert [str(path) for path in trust.bundle] == [files.fill(item) for item in [expected["trust"]] if item]
    assert [str(path) for path in trust.crl] == [files.fill(item) for item in [expected["crl"]] if item]
    assert trust.system is expected["system"]
    assert found.profiles == {"kernel-client": Profile(identities=expected["identities"], trust="kernel-client")}


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("", "info"),
        ("[debug]\nloglevel=0\ntls=0\nnl=0\n", "info"),
        ("[debug]\nloglevel=-1\n", "info"),
        ("[debug]\nloglevel=2\n", "debug"),
        ("[debug]\ntls=+3\n", "debug"),
        ("[debug]\nloglevel=0\nnl = 1\n", "debug"),
    ],
)
def test_log_level(files: Files, text: str, level: str) -> None:
    """Any of the three levels above zero is our debug level."""
    assert load_tlshd_configuration(files.config(text)).configuration.log.level == level


@pytest.mark.parametrize(
    ("value", "further"),
    [
        ("", ()),
        (" one ; two;; ", ("one", "two")),
        (".nfs;.nfsd;own;own", ("own",)),
        (r"semi\;colon;back\\slash;a\sblank", ("semi;colon", "back\\slash", "a blank")),
        ("12;0x1F;0X20;12ab", ("12", "31", "32", "12ab")),
    ],
)
def test_keyrings(files: Files, value: str, further: tuple[str, ...]) -> None:
    """A list with semicolons, of names and serial numbers; tlshd's own keyrings cannot be left out."""
    found = load_tlshd_configuration(files.config(f"[authenticate]\nkeyrings={value}\n")).configuration
    assert found.kernel.keyrings == (*KEYRINGS, *further)


@pytest.mark.parametrize(
    "text",
    [
        b"[authenticate.client]\r\n x509.truststore =\t{ca} \r\n",
        b"[authenticate.client]\nx509.truststore=/nowhere\n[debug]\n[authenticate.client]\nx509.truststore={ca}",
        b"# caf\xe9\n\n  # [x]\n[authenticate.client]   \nx509.truststore={dir}/./ca\\slink\n",
    ],
    ids=["blanks and line ends", "repeated", "comments and escapes"],
)
def test_syntax(files: Files, text: bytes) -> None:
    """GLib's syntax of key files is read."""
    (files.folder / "ca link").symlink_to(files.classical.ca)
    path = files.folder / "tlshd.config"
    places = {b"{ca}": files.classical.ca, b"{dir}": files.folder}
    for place, meant in places.items():
        text = text.replace(place, os.fsencode(meant))
    path.write_bytes(text)
    (bundle,) = load_tlshd_configuration(path).configuration.trust["kernel-client"].bundle
    assert bundle.samefile(files.classical.ca)


@pytest.mark.parametrize(
    ("there", "read"),
    [(("old",), "old"), (("new",), "new"), (("old", "new"), "old")],
)
def test_default_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], read: str) -> None:
    """Without a name the old place comes first, as with tlshd, and a warning says that it is deprecated."""
    for name in ("old", "new"):
        monkeypatch.setattr(tlshd_config, f"{name.upper()}_PATH", tmp_path / name)
    for name in there:
        (tmp_path / name).write_text(f"[authenticate]\nkeyrings={name}\n")
    loaded = load_tlshd_configuration()
    assert loaded.path == tmp_path / read
    assert loaded.configuration.kernel.keyrings[-1] == read
    assert [str(tmp_path / "old") in warning for warning in loaded.warnings] == ([True] if read == "old" else [])


def test_no_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a file in neither place the error names the new one."""
    monkeypatch.setattr(tlshd_config, "OLD_PATH", tmp_path / "old")
    monkeypatch.setattr(tlshd_config, "NEW_PATH", tmp_path / "new")
    with pytest.raises(ConfigurationError, match=f"^{tmp_path / 'new'}: there is no such file"):
        load_tlshd_configuration()


# What is passed over, and what is refused


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ("[main]\ndebug=1\n", "1: unknown section 'main', passed over"),
        ("[authenticate.clients]\nx=1\n", "1: unknown section 'authenticate.clients', passed over; did you mean"),
        ("[debug]\n\ndelay_done=3\n", "3: [debug] unknown option 'delay_done', passed over"),
        ("[authenticate.server]\nx509.crls=/a\n", "2: [authenticate.server] unknown option 'x509.crls', passed"),
        ("[authenticate]\n;keyrings=a\n", "2: [authenticate] unknown option, passed over; did you mean 'keyr"),
    ],
)
def test_unknown(files: Files, text: str, warning: str) -> None:
    """An unknown name is passed over with a warning that has its place, and nothing comes of it."""
    path = files.config(text)
    loaded = load_tlshd_configuration(path)
    assert len(loaded.warnings) == 1
    assert loaded.warnings[0].startswith(f"{path}:{warning}")
    assert loaded.configuration == Configuration(kernel=KernelSettings(keyrings=KEYRINGS))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loglevel=1\n", "1: it stands before the first [section]"),
        ("[debug]\nloglevel\n", "2: neither a [section], nor NAME = VALUE, nor a comment"),
        ("[debug]\n=1\n", "2: neither"),
        ("[debug\n", "1: neither"),
        ("[debug]\nloglevel=high\n", "2: loglevel: a whole number is wanted"),
        ("[debug]\nloglevel=1\nnl=\n", "3: nl: a whole number is wanted"),
        ("[authenticate]\nkeyrings=a\\x\n", "2: keyrings: a backslash is written twice"),
        ("[authenticate.client]\nx509.truststore=\n", "2: x509.truststore: an absolute path is wanted"),
        ("[authenticate.client]\nx509.crl=ca.crl\n", "2: x509.crl: an absolute path is wanted"),
        ('[authenticate.client]\nx509.crl="{crl}"\n', "2: x509.crl: an absolute path is wanted, without quotes"),
        ("[authenticate.client]\nx509.crl={dir}/no\n", "2: x509.crl: {dir}/no cannot be opened: No such file"),
        ("[authenticate.client]\nx509.truststore=/a\\q\n", "2: x509.truststore: a backslash is written twice"),
        ("[authenticate.client]\nx509.certificate={crt}\n", "2: x509.certificate: there is no x509.private_key"),
        ("[authenticate.server]\nx509.private_key={key}\n", "2: x509.private_key: there is no x509.certificate"),
        (
            "[authenticate.server]\nx509.pq.certificate={pqcrt}\nx509.private_key={key}\n",
            "2: x509.pq.certificate: there is no x509.pq.private_key",
        ),
        (
            "[authenticate.server]\nx509.pq.certificate={crt}\nx509.pq.private_key={key}\n",
            "2: x509.pq.certificate: {crt} holds no certificate for an ML-DSA key",
        ),
        (
            "[authenticate.server]\nx509.pq.private_key={pqkey}\nx509.pq.certificate={key}\n",
            "3: x509.pq.certificate: {key} holds no certificate for an ML-DSA key",
        ),
        (
            "[authenticate.server]\nx509.certificate={crt}\nx509.private_key=pkcs11:token=a;pin-value=1234\n",
            "3: x509.private_key: keys behind a URL are not supported",
        ),
    ],
)
def test_refused(files: Files, text: str, message: str) -> None:
    """The error names the file, the line and the option."""
    path = files.config(text)
    with pytest.raises(ConfigurationError) as caught:
        load_tlshd_configuration(path)
    assert str(caught.value).startswith(f"{path}:{files.fill(message)}")
    assert "1234" not in str(caught.value)


_PIECES = (
    *WHOLE.encode().splitlines(),
    b"[",
    b"]",
    b"=",
    b"\\",
    b";",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"/",
    b"#",
    b"9" * 20,
)


@given(st.lists(st.one_of(st.sampled_from(_PIECES), st.binary(max_size=4))))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes(tmp_path: Path, pieces: list[bytes]) -> None:
    """A file of any bytes is read, or it is a ConfigurationError that names it."""
    path = tmp_path / "tlshd.config"
    path.write_bytes(b"".join(pieces))
    try:
        load_tlshd_configuration(path)
    except ConfigurationError as error:
        assert str(error).startswith(f"{path}:")


@pytest.mark.parametrize("value", [b"\xff\xfe", b"/a\0b"])
def test_value_that_is_no_text(files: Files, value: bytes) -> None:
    """Values are UTF-8 without NUL; a path with one would be an error of Python's."""
    path = files.folder / "tlshd.config"
    path.write_bytes(b"[authenticate.client]\nx509.crl=" + value + b"\n")
    with pytest.raises(ConfigurationError, match="2: the value is not text in UTF-8"):
        load_tlshd_configuration(path)


def test_directory_in_place_of_the_file(tmp_path: Path) -> None:
    """A file that cannot be read is an error that names it."""
    with pytest.raises(ConfigurationError, match=f"^{tmp_path} is not a regular file"):
        load_tlshd_configuration(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "PEM",
        "[authenticate.client]\nPEM",
        "[authenticate.client]\nx509.private_key=PEM",
        "[authenticate.client]\nx509.private_key=BODY",
        "[authenticate.client]\nx509.certificate=BODY\nx509.private_key=BODY",
        "[authenticate.client]\nBODY=1",
        "[BODY]",
        "[authenticate]\nkeyrings=BODY\\",
        "[debug]\nloglevel=BODY",
    ],
)
def test_misplaced_key_is_not_shown(files: Files, text: str) -> None:
    """A private key that was pasted into the file appears in no message and no warning."""
    pem = CLASSICAL.private_key_pem.decode()
    body = pem.splitlines()[1]
    path = files.config(text.replace("PEM", pem).replace("BODY", body))
    try:
        shown = " ".join(load_tlshd_configuration(path).warnings)
    except ConfigurationError as error:
        shown = str(error)
    assert f"{path}:" in shown
    assert not any(body[start : start + 6] in shown for start in range(len(body) - 5))


# Together with the service's own configuration


def _base(files: Files, **settings: Any) -> Configuration:
    return Configuration(runtime_dir=files.folder, **settings)


def test_merged(files: Files) -> None:
    """Both count: what only one of them says, and the keyrings of both."""
    own = IdentitySettings(certificate=files.classical.certificate, private_key=files.classical.private_key)
    base = _base(
        files,
        kernel=KernelSettings(keyrings=("own", ".nfs"), namespaces=("blue",)),
        identities={"web": own},
        profiles={"web": Profile(identities=("web",))},
    )
    merged = load_tlshd_configuration(files.config(WHOLE)).onto(base)
    assert merged.runtime_dir == files.folder
    assert merged.kernel.namespaces == ("blue",)
    assert merged.kernel.keyrings == ("own", ".nfs", ".nvme", ".nfsd", "mine", "31", "77")
    assert set(merged.profiles) == {"web", "kernel-client", "kernel-server"}
    assert merged.identities["web"] == own
    assert merged.log.level == "debug"


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_quiet_file_leaves_the_log_alone(files: Files, level: str) -> None:
    """Zero is tlshd's default and says nothing."""
    merged = load_tlshd_configuration(files.config("[debug]\nloglevel=0\n")).onto(
        _base(files, log=LogSettings(level=level))
    )
    assert merged.log.level == level


@pytest.mark.parametrize(
    ("settings", "clash"),
    [
        ({"profiles": {"kernel-client": Profile()}}, "profiles.kernel-client"),
        ({"trust": {"kernel-server": TrustSettings(system=True)}}, "trust.kernel-server"),
        (
            {"identities": {"kernel-client-pq": IdentitySettings(certificate=Path("a"), private_key=Path("b"))}},
            "identities.kernel-client-pq",
        ),
        ({"profiles": {"x": Profile()}, "kernel": KernelSettings(server_profile="x")}, "kernel.server-profile"),
        ({"log": LogSettings(level="error")}, "log.level"),
    ],
)
def test_conflicts(files: Files, settings: dict[str, Any], clash: str) -> None:
    """An option that both set is an error that names it."""
    path = files.config(WHOLE)
    loaded = load_tlshd_configuration(path)
    with pytest.raises(ConfigurationError, match=f"^{path} and the service's own configuration both set {clash}: "):
        loaded.onto(_base(files, **settings))


def test_profile_beside_an_empty_section(files: Files) -> None:
    """A section in which nothing is set conflicts with nothing."""
    base = _base(files, profiles={"kernel-client": Profile(alpn=("x",))})
    merged = load_tlshd_configuration(files.config("[authenticate.client]\n")).onto(base)
    assert merged.profiles == base.profiles


# The files that are named


def test_vault(files: Files) -> None:
    """The dispatcher loads it all, and the kernel's requests get it: the post-quantum identity first."""
    vault = Vault(load_tlshd_configuration(files.config(WHOLE)).configuration)
    for name, demand in ((CLIENT_PROFILE, CertificateDemand.NONE), (SERVER_PROFILE, CertificateDemand.REQUEST)):
        given = vault.resolve(name, {})
        assert [identity.chain for identity in given.identities] == [POST_QUANTUM.chain, CLASSICAL.chain]
        assert given.trust is not None
        assert (given.trust.anchors, given.trust.crls) == ((ROOT.anchor,), (CRL,))
        assert given.client_certificate is demand


@pytest.mark.parametrize("key", ["key", "pqkey"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o777])
def test_mode_of_key_files(files: Files, key: str, mode: int) -> None:
    """A key that others than its owner can get at is refused, where tlshd only says so."""
    path = Path(files.fill(f"{{{key}}}"))
    path.chmod(mode)
    loaded = load_tlshd_configuration(files.config(WHOLE))
    with pytest.raises(ConfigurationError, match=f"{path} has mode 0{mode:o}.*chmod 600"):
        Vault(loaded.configuration)


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_mode_of_private_key_files(files: Files, mode: int) -> None:
    """A key that its owner alone can read is taken."""
    files.classical.private_key.chmod(mode)
    assert Vault(load_tlshd_configuration(files.config(WHOLE)).configuration).resolve(CLIENT_PROFILE, {}).identities


def test_owner_of_key_files(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that belongs to neither root nor the service's user is refused."""
    path = files.classical.private_key
    if os.geteuid() == 0:
        os.chown(path, OTHER_USER, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: OTHER_USER)
    loaded = load_tlshd_configuration(files.config(WHOLE))
    with pytest.raises(ConfigurationError, match=f"{path} belongs to user .*chown root"):
        Vault(loaded.configuration)


def test_key_of_another_certificate(files: Files) -> None:
    """Pairs that do not belong together are refused, and the key is not shown."""
    other = ROOT.issue(["other"]).write(files.folder, "other")
    text = f"[authenticate.server]\nx509.certificate={{crt}}\nx509.private_key={other.private_key}\n"
    loaded = load_tlshd_configuration(files.config(text + "x509.truststore={ca}\n"))
    with pytest.raises(ConfigurationError, match=r"identities\.kernel-server: .*does not belong"):
        Vault(loaded.configuration)


# The commands


@pytest.mark.parametrize("command", ["run", "dispatcher"])
def test_command_refuses(files: Files, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that cannot be used ends the command with its message."""
    own = write_configuration(files.folder)
    path = files.config("[debug]\nloglevel=x\n")
    assert cli.main([command, "--config", str(own), "--tlshd-config", str(path)]) == 2
    assert f"{path}:2: loglevel: a whole number is wanted" in capsys.readouterr().err


def test_dispatcher_starts() -> None:
    """The dispatcher serves from tlshd's configuration, and warns of what it passed over."""
    with short_folder() as folder:
        files = Files.write(folder)
        path = files.config(WHOLE + "x509.ocsp=1\n")
        own = write_configuration(folder)
        with running(("dispatcher", "--config", str(own), "--tlshd-config", str(path)), folder) as service:
            service.log.wait("the dispatcher is ready")
            (warning,) = service.log.events(logger="hsframework.configuration", level="warning")
            line = WHOLE.count("\n") + 1
            assert warning["event"].startswith(f"{path}:{line}: [authenticate.server] unknown option 'x509.ocsp'")
            assert service.stop() == 0


def test_handshake() -> None:
    """Both ends of a handshake get what tlshd's file names; the pair that both can use is the post-quantum one."""
    with short_folder() as folder:
        path = Files.write(folder).config(WHOLE)
        own = write_configuration(folder)
        words = ("run", "--config", str(own), "--tlshd-config", str(path))
        with running(words, folder) as service, tcp_pairs() as ((near, far),):
            service.log.wait("joined", protocol="tls13")
            client, server = _handshakes(service.runtime_dir, near, far)
            assert client.peer.certificates[0] == POST_QUANTUM.certificate
            assert server.peer.certificates[0] == POST_QUANTUM.certificate
            assert service.stop() == 0


def _handshakes(runtime_dir: Path, near: socket.socket, far: socket.socket) -> tuple[Session, Session]:
    found: dict[Role, Session] = {}

    def ask(sock: socket.socket, options: HandshakeOptions) -> None:
        with Client(runtime_dir) as client:
            found[options.role] = client.handshake(sock, options)

    server = threading.Thread(target=ask, args=(far, HandshakeOptions(role=Role.SERVER, profile=SERVER_PROFILE)))
    server.start()
    ask(near, HandshakeOptions(peer_name="localhost", profile=CLIENT_PROFILE))
    server.join()
    return found[Role.CLIENT], found[Role.SERVER]
