"""The command ``units``: the files for systemd, and where it refuses to write them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hsframework.cli import units
from hsframework.cli.commands import units as command
from hsframework.cli.main import main
from hsframework.cli.units import Plugin, Target
from hsframework.errors import ConfigurationError

NEWEST = Target("/opt/hs/bin/hsframework", 999)


def test_print_shows_every_file(capsys: pytest.CaptureFixture[str]) -> None:
    """--print shows the units with this installation's program, the users of all plugins' agents, and the folder."""
    assert main(["units", "--print"]) == 0
    said = capsys.readouterr().out
    paths = re.findall(r"^# (/etc/\S+)(?: ->.*)?$", said, re.MULTILINE)
    assert "/etc/systemd/system/hsframework.service" in paths
    assert "/etc/systemd/system/hsframework.service.wants/hsframework-agent@tls13.service" in paths
    assert {"/etc/sysusers.d/hsframework-tls13.conf", "/etc/tmpfiles.d/hsframework.conf"} <= set(paths)
    assert f"ExecStart={command.program()} run --agents-apart" in said
    assert f"ExecStart={units.PROGRAM} " not in said
    assert set(re.findall(r"^u (\S+) - ", said, re.MULTILINE)) == {
        f"hsframework-{name}" for name in ("tls13", "quic", "psp")
    }


def test_below_a_prefix(capsys: pytest.CaptureFixture[str]) -> None:
    """With --prefix everything goes below its lib folder."""
    assert main(["units", "--print", "--prefix", "/usr/local"]) == 0
    paths = re.findall(r"^# (/\S+)(?: ->.*)?$", capsys.readouterr().out, re.MULTILINE)
    assert "/usr/local/lib/systemd/system/hsframework.service" in paths
    assert not any(path.startswith("/etc/") and path.endswith((".service", "psp.conf")) for path in paths)


@pytest.mark.parametrize("name", units.drop_ins())
def test_a_drop_in(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--drop-in shows one file, for the service, and no unit."""
    assert main(["units", "--print", "--drop-in", name]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"# /etc/systemd/system/hsframework.service.d/{name}.conf\n")
    assert "[Unit]" not in said


def test_writing_it_twice(tmp_path: Path) -> None:
    """Files and links are replaced, also where they differ, and everybody may read them."""
    where = units.places(tmp_path)
    plugin = Plugin("tls13", ("tls13",))
    files = units.core_files(where, NEWEST) | units.plugin_files(where, plugin)
    links = units.plugin_links(where, plugin)
    for _ in range(2):
        command.write(files, links)
        for path, text in files.items():
            assert (path.read_text(), path.stat().st_mode & 0o777) == (text, 0o644)
            path.write_text("edited")
    (link,) = links
    assert link.resolve() == where.units / "hsframework-agent@.service"


@pytest.mark.parametrize("protocols", [("quic", "kernel-quic"), ("noise-xx", "noise-ik")])
def test_a_plugin_has_one_agent(protocols: tuple[str, ...]) -> None:
    """A plugin's agent serves all of its protocols, whatever their names: one user, and one unit that is started."""
    where, plugin = units.places(None), Plugin("mine", protocols)
    (text,) = units.plugin_files(where, plugin).values()
    assert [line.split()[1] for line in text.splitlines()] == ["hsframework-mine"]
    assert units.unit_names(units.plugin_links(where, plugin)) == ["hsframework-agent@mine.service"]


def test_a_plugin_without_a_protocol_has_no_agent() -> None:
    """Hooks alone start nothing."""
    assert units.plugin_links(units.places(None), Plugin("audit", ())) == {}


@pytest.mark.parametrize(
    ("systemd", "left"),
    [
        (252, ["Type=notify", "Restart=always", "PrivateTmp=yes"]),
        (253, ["Type=notify-reload", "Restart=always", "PrivateTmp=yes"]),
        (254, ["Type=notify-reload", "Restart=always", "RestartSteps=6", "PrivateTmp=yes"]),
    ],
)
def test_an_older_systemd(systemd: int, left: list[str]) -> None:
    """A key that systemd does not know is left out, and a value that it does not know has its predecessor's place."""
    text = "Type=notify-reload\nRestart=always\nRestartSteps=6\nPrivateTmp=disconnected\n"
    assert units.for_target(text, Target("/x", systemd)).splitlines() == left
    assert units.for_target(text, NEWEST) == text


def test_only_root() -> None:
    """Another user is told to use sudo, and what --print is for."""
    with pytest.raises(ConfigurationError, match=r"only root .*sudo .*--print"):
        command.check_root(1000)
    command.check_root(0)


@pytest.mark.parametrize("folder", ["/home/someone/venv", "/root/.local/share/pipx/venvs/hsframework", "/tmp/venv"])
def test_an_installation_that_the_units_cannot_see(folder: str) -> None:
    """A virtual environment in a home or in /tmp is refused, with the commands that make one elsewhere."""
    with pytest.raises(ConfigurationError, match="python3 -m venv /opt/hsframework"):
        command.check_reachable(Path(folder))


def test_an_installation_that_agents_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed folder on the way is named."""
    monkeypatch.setattr(command, "UNSEEN", ())
    closed = tmp_path / "closed"
    (closed / "venv").mkdir(parents=True)
    closed.chmod(0o700)
    with pytest.raises(ConfigurationError, match=re.escape(f"{closed} is closed")):
        command.check_reachable(closed / "venv")


def test_packaged_units_are_not_hidden(tmp_path: Path) -> None:
    """No units are written over those of a package."""
    command.check_not_packaged(tmp_path)
    (tmp_path / "hsframework.service").touch()
    with pytest.raises(ConfigurationError, match="a package has its units"):
        command.check_not_packaged(tmp_path)
