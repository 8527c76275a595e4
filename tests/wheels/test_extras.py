"""The extras of the core: each brings the plugin of its name, from the wheels alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wheels.conftest import PLUGINS, Environment

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]

EXTRAS = {"tls13": {"tls13"}, "quic": {"quic"}, "psp": {"psp", "tls13"}, "all": {"psp", "quic", "tls13"}}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_brings_its_plugin(extra: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    """`pip install hsframework[EXTRA]` installs the plugin, whatever that needs, and no other plugin."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True, capture_output=True)
    environment = Environment(tmp_path / "venv", tmp_path)
    core = wheels["hsframework"]
    environment.install("--find-links", str(core.parent), f"hsframework[{extra}] @ {core.as_uri()}")
    finished = environment.run("hsframework", "plugins", "--json")
    assert {row["name"] for row in json.loads(finished.stdout)} == EXTRAS[extra]


def test_every_plugin_has_an_extra() -> None:
    """A plugin that is added to this repository gets an extra of its name, and `all` has it."""
    names = {plugin.name for plugin in PLUGINS}
    assert names == EXTRAS.keys() - {"all"}
    assert EXTRAS["all"] == names
