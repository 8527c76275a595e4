"""Manual pages and completion know every command, option and key."""

from __future__ import annotations

import dataclasses

import pytest

from hsframework.cli.main import COMMANDS, build_parser
from hsframework.configuration.settings import Configuration, Limits
from hsframework.registry.plugins import load_plugins
from scripts.packages import roff
from scripts.packages.completions import completions
from scripts.packages.manuals import command_parsers, manuals


def plain(text: str) -> str:
    """Return the text of a page without roff's marks."""
    for mark in ("\\fB", "\\fI", "\\fR", "\\&"):
        text = text.replace(mark, "")
    return text.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\")


def test_each_command_has_a_page() -> None:
    """There is a page for each command, with all of its options, and the overview names each."""
    pages = {name: plain(text) for name, text in manuals().items()}
    for name, parser in command_parsers(build_parser(tuple(COMMANDS))):
        text = pages[f"hsframework-{name}.1"]
        assert f"hsframework-{name}(1)" in pages["hsframework.1"]
        options = [option for action in parser._actions for option in action.option_strings]
        assert [option for option in options if option not in text] == []


def test_the_configurations_page_has_every_key() -> None:
    """hsframework.toml(5) has a section for each table, and the keys in them."""
    text = plain(manuals()["hsframework.toml.5"])
    keys = [field.name.replace("_", "-") for kind in (Configuration, Limits) for field in dataclasses.fields(kind)]
    missing = [key for key in keys if f"\n{key} (" not in text and f"[{key}" not in text]
    assert missing == ["folder", "places", "session-tags", "further-files"], "fields of the program's own, no keys"


def test_the_configurations_page_has_the_plugins_settings() -> None:
    """hsframework.toml(5) has the table of each of our plugins, with every key."""
    text = plain(manuals()["hsframework.toml.5"])
    for name, entry in load_plugins().protocols.items():
        kind = entry.protocol.settings_type
        if kind is not None:
            assert f'.SH "[plugins.{name}]"' in text
            section = text.partition(f'.SH "[plugins.{name}]"')[2].partition(".SH")[0]
            keys = [field.name.replace("_", "-") for field in dataclasses.fields(kind)]
            assert [key for key in keys if f"\n{key} (" not in section] == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (".conf is a file", "\\&.conf is a file"),
        ("a -b 'c' \\d", "a \\-b \\(aqc\\(aq \\ed"),
        ("the `key` *is* it", "the \\fBkey\\fR \\fIis\\fR it"),
    ],
)
def test_text_in_roff(text: str, line: str) -> None:
    """Nothing of a text is taken for a request or an escape of roff's."""
    assert roff.prose(text) == line


def test_completion_has_every_command() -> None:
    """The file of each shell has all commands, and an option."""
    for text in completions().values():
        assert [name for name in (*COMMANDS, "servername") if name not in text] == []
