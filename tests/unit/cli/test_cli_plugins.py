"""``hsframework plugins`` with distributions that are installed as pip would install them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli.conftest import Command, install


def test_none(command: Command) -> None:
    """Without plugins it says so, and which package to install; that is no failure."""
    status, output, messages = command.run("plugins")
    assert (status, messages) == (0, "")
    assert output == b"No plugins are installed.  TLS 1.3 comes with the package hsframework-tls13.\n"
    assert json.loads(command.run("plugins", "--json")[1]) == []


@pytest.mark.usefixtures("tiny")
def test_good_and_broken_ones(command: Command, plugins: Path) -> None:
    """A plugin that works is listed beside two that do not, each with its error; nothing else is printed."""
    install(plugins, "broken", "import left_pad\n")
    install(plugins, "twin", (plugins / "hs_tiny.py").read_text())
    status, output, messages = command.run("plugins")
    assert (status, messages) == (0, "")
    header, *rows = output.decode().splitlines()
    assert header.split() == ["NAME", "PACKAGE", "VERSION", "PROTOCOLS", "GROUPS"]
    assert [row.split()[0] for row in rows if not row.startswith(" ")] == ["broken", "tiny", "twin"]
    assert rows[2].split() == ["tiny", "hs-tiny", "1.2", "tiny", "small,tiny"]
    assert "left_pad" in rows[1]
    assert "taken" in rows[4]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("words", [["plugins"], ["doctor", "--runtime-dir", "."]])
def test_one_that_takes_its_process_along(command: Command, plugins: Path, words: list[str]) -> None:
    """It is named, and the others are listed."""
    install(plugins, "deadly", "import os\nos._exit(0)\n")
    _, output, messages = command.run(*words)
    assert messages == ""
    assert b"its import ends the process" in output
    assert b"tiny" in output


@pytest.mark.usefixtures("tiny")
def test_json(command: Command) -> None:
    """The same for programs."""
    status, output, _ = command.run("plugins", "--json")
    assert status == 0
    assert json.loads(output) == [
        {"name": "tiny", "distribution": "hs-tiny", "version": "1.2", "protocols": ["tiny"],
         "groups": ["small", "tiny"], "error": None, "rivals": []}
    ]  # fmt: skip


@pytest.mark.usefixtures("tiny")
def test_agent_of_a_plugin_that_is_not_there(command: Command, plugins: Path) -> None:
    """The installed plugins are named, and for a broken plugin its error."""
    words = ("agent", "quic", "--runtime-dir", plugins)
    status, _, messages = command.run(*words)
    assert (status, "tiny" in messages) == (2, True)
    assert "hsframework-quic" in messages
    install(plugins, "quic", "import left_pad\n")
    status, _, messages = command.run(*words)
    assert (status, "left_pad" in messages) == (2, True)
    assert "Traceback" not in messages


@pytest.mark.usefixtures("tiny")
def test_agent_by_the_name_of_a_protocol(command: Command, plugins: Path) -> None:
    """An agent is named by its plugin, which is told; a table by the name of the protocol is warned of."""
    install(plugins, "several", (plugins / "hs_tiny.py").read_text().replace('name = "tiny"', 'name = "small"'))
    file = plugins / "hsframework.toml"
    file.write_text("[agents.small]\nprocesses = 2\n")
    status, _, messages = command.run("agent", "small", "--runtime-dir", plugins, "--config", file)
    assert status == 2
    assert "'small' is a protocol of the plugin 'several', by which its agent is named" in messages
    assert "hsframework agent several" in messages
    assert "nobody reads a table" in messages
    assert "agents.small" in messages


@pytest.mark.usefixtures("tiny")
def test_demo_without_its_plugin(command: Command) -> None:
    """The demonstration says what it needs."""
    status, _, messages = command.run("demo")
    assert (status, messages.count("\n")) == (2, 1)
    assert "install hsframework-tls13 (installed: tiny)" in messages


@pytest.mark.usefixtures("tiny")
def test_required_and_blocked(command: Command, plugins: Path) -> None:
    """Without a required plugin the status is not 0, and doctor says the same; a blocked one is listed as blocked."""
    install(plugins, "broken", "import left_pad\n")
    file = plugins / "hsframework.toml"
    for required, why in (("broken", "left_pad"), ("audit", "it is not installed")):
        file.write_text(f"required-plugins = ['tiny', '{required}']\nblocked-plugins = []\n")
        status, _, messages = command.run("plugins", "--config", file)
        assert status == 1
        assert f"the plugin '{required}' is required and cannot be used, so nothing is served" in messages
        assert why in messages
        findings = json.loads(command.run("doctor", "--json", "--config", file, "--runtime-dir", plugins)[1])
        (finding,) = [item for item in findings if item["subject"] == f"plugin {required}"]
        assert finding["verdict"] == "missing"
        assert why in finding["detail"]
    file.write_text("required-plugins = ['tiny']\nblocked-plugins = ['broken']\n")
    status, output, messages = command.run("plugins", "--config", file)
    assert (status, messages) == (0, "")
    assert b"blocked by the configuration" in output
    file.write_text("required-plugins = ['tiny']\nblocked-plugins = ['tiny']\n")
    status, _, messages = command.run("plugins", "--config", file)
    assert status == 2
    assert "required-plugins: 'tiny' is in blocked-plugins too" in messages
