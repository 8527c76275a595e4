"""Every pinned version installs on the oldest Python that is supported: Debian 12's 3.11.2."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

OLDEST = "3.11.2"
CONSTRAINTS = Path(__file__).parents[3] / "constraints.txt"
INSTALLED = {distribution.name.lower() for distribution in metadata.distributions()}
"""An example's own dependency is pinned, and installed in the example's environment alone."""
PINS = [Requirement(line) for line in CONSTRAINTS.read_text("utf-8").splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("pin", [pin for pin in PINS if pin.name.lower() in INSTALLED], ids=lambda pin: pin.name)
def test_a_pin_admits_the_oldest_python(pin: Requirement) -> None:
    """A release that asks for a later Python 3.11 would end `make test` on Debian 12 at its first step."""
    found = metadata.distribution(pin.name)
    assert found.version in pin.specifier, "the virtual environment is older than constraints.txt: make clean venv"
    assert OLDEST in SpecifierSet(str(found.metadata.json.get("requires_python", "")))
