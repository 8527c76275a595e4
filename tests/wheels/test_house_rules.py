"""examples/hooks as whoever installs it gets it: plugins without a protocol, listed and configured."""

from __future__ import annotations

import re

import pytest

from tests.wheels.conftest import ROOT, Environment

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]

COMMANDS = re.findall(r"^\$ (.*)$", (ROOT / "examples/hooks/README.md").read_text("utf-8"), re.MULTILINE)
CONFIGURE = """
from hsframework.registry.plugins import load_plugins
registry = load_plugins()
assert not registry.errors, registry.errors
registry.configure({"allowlist": {"names": ["host-1.example"]}, "statsd": {"address": "127.0.0.1:8125"}})
print(*sorted(record.name for record in registry.records))
"""


def test_the_commands_of_the_readme(environment: Environment) -> None:
    """Each is a plugin of its own, in use beside what else is installed, and takes its settings."""
    try:
        *_, shown = [environment.shell(command, ROOT) for command in COMMANDS]
        assert environment.python(CONFIGURE).split() == ["allowlist", "audit", "statsd"]
    finally:
        environment.uninstall("hsframework-house-rules")
    assert all(name in shown for name in ("allowlist", "audit", "statsd"))
