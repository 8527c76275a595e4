"""`config show`: whole, defaults included, secrets not, and readable as a configuration again."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hsframework.cli.options import shown
from hsframework.configuration.settings import NO_KEY, Configuration
from hsframework.configuration.toml import parse_configuration
from hsframework.interface import Secret
from hsframework.registry.plugins import load_plugins

TEXT = """
required-plugins = ["tls13"]
[log]
level = "debug"
[identities."web.1"]
certificate = "a \\" b.pem"
private-key = "~/key"
[trust.fleet]
bundle = ["ca.pem"]
[profiles.web]
identities = ["web.1"]
trust = "fleet"
admit = ["uri:spiffe://a/*"]
[profiles.empty]
admit = []
[[allow]]
users = ["root"]
profiles = ["web"]
[[rule]]
role = "server"
networks = ["10.0.0.0/8"]
local-ports = [2049]
profile = "web"
[[rule]]
refuse = true
[kernel.raw]
enabled = true
protocols = {tlshd = 7}
[plugins.tls13]
require-alpn = true
[plugins.other]
password = "hunter2"
api-token = "hunter2"
inner = {psk = "hunter2", name = "shown"}
"""


SECRET = Secret(b"hunter2")


@pytest.fixture(autouse=True)
def _plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shown, "try_plugins", lambda blocked: load_plugins(blocked=blocked))


@pytest.fixture
def settings(tmp_path: Path) -> Configuration:
    return parse_configuration(TEXT, tmp_path / "c.toml")


def test_what_is_shown_is_the_same_configuration(settings: Configuration, tmp_path: Path) -> None:
    """Read again it is equal, but for the tables of plugins, which are whole then."""
    text = shown.as_toml(settings)
    again = parse_configuration(text, tmp_path / "c.toml")
    tables = again.plugins
    assert tables["tls13"]["require-alpn"] is True
    assert "ciphers" in tables["tls13"]
    assert "ciphers" in tables["quic"]
    object.__setattr__(again, "plugins", settings.plugins)
    assert again == settings


def test_everything_is_there(settings: Configuration) -> None:
    """Each key of each table, also those at their defaults, which are marked; one that is not set is in a comment."""
    text, tree = shown.as_toml(settings), json.loads(shown.as_json(settings))
    assert 'level = "debug"\n' in text
    assert 'format = "console"  # default\n' in text
    assert "# oom-score-adjust is not set\n" in text
    assert tree["memory"] == {"lock": False, "oom-score-adjust": None, "cache": 256}
    assert tree["rule"][0]["networks"] == ["10.0.0.0/8"]
    assert list(tree["profiles"]["empty"]) == [
        "identities", "psks", "trust", "client-certificate", "alpn", "tls-priorities", "admit", "groups",
    ]  # fmt: skip
    assert {name for name, item in Configuration.__dataclass_fields__.items() if item.metadata != NO_KEY} == {
        key.replace("-", "_") for key in tree
    }


def test_secrets_are_not_shown(settings: Configuration) -> None:
    """Values of plugins' settings that may be secrets are left out, by their keys and by their type."""

    @dataclass(frozen=True)
    class WithSecret:
        code: Any = SECRET

    for text in (shown.as_toml(settings), shown.as_json(settings)):
        assert "hunter2" not in text
        assert text.count(shown.NOT_SHOWN) == 3
        assert "shown" in text
    assert tomllib.loads(shown.as_toml(settings))["plugins"]["other"]["inner"]["name"] == "shown"
    assert shown._of_plugin("x", settings, WithSecret) == {"code": shown.NOT_SHOWN}
