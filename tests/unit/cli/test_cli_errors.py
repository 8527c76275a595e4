"""Every way to misuse the command line: one line that says what to change, and the right exit status."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hsframework.cli import main as cli
from hsframework.testing.certificates import CredentialFiles
from tests.unit.client.fake_dispatcher import FakeDispatcher


def complain(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    """Exit status and what was said on stderr; nothing may be on stdout."""
    try:
        status = cli.main([str(word) for word in words])
    except SystemExit as exit_:
        assert isinstance(exit_.code, int)
        status = exit_.code
    said = capsys.readouterr()
    assert said.out == ""
    return status, said.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "no command was given"),
        (["conect"], "did you mean 'connect'?"),
        (["xyzzy"], "--help"),
        (["--verbose"], "--verbose"),
        (["connect"], "HOST, PORT"),
        (["connect", "host"], "PORT"),
        (["connect", "host", "http"], "'http' is not a port"),
        (["connect", "host", "65536"], "0 to 65535"),
        (["connect", "host", "0"], "1 to 65535"),
        (["connect", "host", "1", "--frob"], "--frob: not known here; see 'hsframework connect --help'"),
        (["connect", "host", "1", "--ca", ""], "the name is empty"),
        (["connect", "host", "1", "--time", "1"], "--time"),
        (["connect", "host", "1", "--timeout", "soon"], "'soon' is not a number of seconds"),
        (["connect", "host", "1", "--timeout", "0"], "more than 0"),
        (["connect", "host", "1", "--timeout", "nan"], "more than 0"),
        (["connect", "host", "1", "--ca", "/no/such/file"], "/no/such/file"),
        (["connect", "host", "1", "--crl", "/no/such/file"], "/no/such/file"),
        (["connect", "host", "1", "--cert", "/no/such/file"], "/no/such/file"),
        (["connect", "host", "1", "--key", "/no/such/file"], "--cert"),
        (["connect", "host", "1", "--psk", "me"], "identity:key-in-hex"),
        (["connect", "host", "1", "--psk", "me:xyz"], "hexadecimal"),
        (["connect", "host", "1", "--psk-file", "/no/such/file"], "/no/such/file"),
        (["connect", "host", "1", "--alpn", "a,,b"], "1 to 255 bytes"),
        (["connect", "host", "1", "--tls-priorities", "NORMAL:+ROT13"], "word 2 of the priority string, '+ROT13',"),
        (["connect", "host", "1", "--profile", ""], "profile is empty"),
        (["connect", "host", "1", "--runtime-dir", "/tmp/" + "x" * 120], "too long for a unix socket"),
        (["listen"], "[HOST] PORT"),
        (["listen", "a", "b", "c"], "a port, or a host and a port"),
        (["listen", "http"], "'http' is not a port"),
        (["listen", "1"], "--cert and --key"),
        (["listen", "1", "--profile", "p", "--client-certificate", "perhaps"], "perhaps"),
        (["agent"], "NAME"),
        (["agent", "tiny", "--processes", "0"], "from 1 to 256"),
        (["agent", "tiny", "--config", "/no/such/file"], "/no/such/file"),
        (["run", "--config", "/no/such/file"], "--config"),
        (["dispatcher", "--log-level", "loud"], "loud"),
        (["dispatcher", "surplus"], "surplus"),
        (["plugins", "--jsn"], "--jsn"),
        (["doctor", "--config", "/no/such/file"], "/no/such/file"),
    ],
)  # fmt: skip
def test_wrong_usage(capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    """Status 2 and one line that names what is wrong."""
    status, said = complain(capsys, *words)
    assert status == 2
    assert text in said
    assert said.startswith("hsframework: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "text"),
    [("runtime-dri = 1", "did you mean 'runtime-dir'?"), ("[", "not TOML"), ("[log]\nlevel = 'loud'", "loud")],
)
@pytest.mark.parametrize("name", ["run", "dispatcher", "doctor"])
def test_wrong_configuration(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: str, text: str
) -> None:
    """Status 2, and the file is named."""
    path = tmp_path / "hsframework.toml"
    path.write_text(content)
    status, said = complain(capsys, name, "--config", path)
    assert status == 2
    assert str(path) in said
    assert text in said
    assert said.count("\n") == 1


def test_credentials_that_do_not_go_together(
    capsys: pytest.CaptureFixture[str], files: CredentialFiles, tmp_path: Path
) -> None:
    """A demand without trust, both kinds of proof, two certificates with one key, a list without authorities."""
    identity = ("--cert", files.certificate, "--key", files.private_key)
    status, said = complain(capsys, "listen", "0", *identity, "--client-certificate", "require")
    assert (status, "--ca or --system-trust" in said) == (2, True)
    keys = tmp_path / "keys"
    keys.touch(mode=0o600)
    keys.write_text("me:" + "00" * 32)
    status, said = complain(capsys, "listen", "0", *identity, "--psk-file", keys)
    assert (status, "not both" in said) == (2, True)
    status, said = complain(capsys, "connect", "host", "1", *identity, "--cert", files.certificate)
    assert (status, "one --key for each --cert" in said) == (2, True)
    keys.chmod(0o644)
    status, said = complain(capsys, "connect", "host", "1", "--psk-file", keys)
    assert (status, "chmod 600" in said) == (2, True)


def test_a_key_on_the_command_line_is_warned_about_and_not_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """The warning names the alternative; the key itself is not in it."""
    _, said = complain(capsys, "connect", "host", "1", "--psk", "me:" + "ab" * 32, "--runtime-dir", tmp_path)
    assert "process list; use --psk-file" in said
    assert "abab" not in said


@pytest.mark.parametrize("words", [["connect", "127.0.0.1", "1"], ["listen", "0", "--profile", "p"]])
def test_no_dispatcher(capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]) -> None:
    """Status 1, the path where it was sought, and what to start."""
    status, said = complain(capsys, *words, "--runtime-dir", tmp_path)
    assert status == 1
    assert f"no dispatcher listens at {tmp_path}/consumer.sock: start one with 'hsframework run'" in said
    assert said.count("\n") == 1


def test_server_that_cannot_be_reached(capsys: pytest.CaptureFixture[str], dispatcher: FakeDispatcher) -> None:
    """Status 1 and why: nobody listens on the port; a name that is none."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    status, said = complain(capsys, "connect", "127.0.0.1", port, "--runtime-dir", dispatcher.directory)
    assert status == 1
    assert f"cannot connect to 127.0.0.1 port {port}: Connection refused" in said
    status, said = complain(capsys, "connect", "." * 300, port, "--runtime-dir", dispatcher.directory)
    assert (status, "cannot be found" in said) == (1, True)


def test_port_in_use(capsys: pytest.CaptureFixture[str], dispatcher: FakeDispatcher) -> None:
    """Status 1, and to choose another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        status, said = complain(
            capsys, "listen", taken.getsockname()[1], "--profile", "p", "--runtime-dir", dispatcher.directory
        )
    assert status == 1
    assert "choose another address or port" in said


def test_a_name_that_no_plugin_serves(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """It may be a slip: those that are installed are named, before anything else is tried."""
    _, said = complain(capsys, "connect", "host", "1", "--protocol", "no-such", "--runtime-dir", tmp_path)
    assert "warning: no plugin that is installed here serves 'no-such' (installed: " in said.splitlines()[0]
    assert "no dispatcher listens" in said.splitlines()[1]


def test_a_word_that_never_ends(capsys: pytest.CaptureFixture[str]) -> None:
    """A word of the command line is repeated in short."""
    status, said = complain(capsys, "x" * 100_000)
    assert (status, len(said) < 500) == (2, True)


def test_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 130, and no traceback."""

    def interrupted(words: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    monkeypatch.setattr("hsframework.cli.main.signal.signal", lambda *_: None)
    assert cli.main(["plugins"]) == 130


def test_errors_of_the_system(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An OSError that nobody foresaw is one line too."""

    def broken(words: object) -> int:
        raise OSError(5, "Input/output error", "/some/file")

    monkeypatch.setattr(cli, "_run", broken)
    assert complain(capsys, "plugins") == (1, "hsframework: /some/file: Input/output error\n")


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    """Every command explains itself."""
    with pytest.raises(SystemExit) as exit_:
        cli.main(words)
    assert exit_.value.code == 0
    assert "hsframework" in capsys.readouterr().out


def test_help_imports_no_command() -> None:
    """The list of commands comes without what the commands need."""
    script = "import sys; from hsframework.cli.main import build_parser; build_parser(None); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "hsframework.cli.main" in output
    assert not {"asyncio", "cryptography", "yaml"} & set(output.split())
