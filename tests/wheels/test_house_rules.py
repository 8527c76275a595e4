"""examples/hooks as whoever installs it gets it: plugins without a protocol, listed and configured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.wheels.conftest import ROOT, Environment

CONFIGURE = """
from hsframework.plugins import load_plugins
registry = load_plugins()
assert not registry.errors, registry.errors
registry.configure({"allowlist": {"names": ["host-1.example"]}, "statsd": {"address": "127.0.0.1:8125"}})
print(*sorted(record.name for record in registry.records))
"""


def test_the_rules_from_their_wheel(environment: Environment, tmp_path: Path) -> None:
    """Each is a plugin of its own, in use beside what else is installed, and takes its settings."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*command, str(ROOT / "examples/hooks")], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    environment.install(wheel)
    try:
        assert environment.python(CONFIGURE).split() == ["allowlist", "audit", "statsd"]
        shown = environment.run("hsframework", "plugins").stdout
    finally:
        environment.uninstall("hsframework-house-rules")
    assert all(name in shown for name in ("allowlist", "audit", "statsd"))
