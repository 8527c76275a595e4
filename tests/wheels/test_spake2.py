"""examples/spake2 as whoever installs it gets it: its wheel beside ours, its own tests, none of its source tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wheels.conftest import NOISE
from tests.wheels.test_noise import must_pass_its_own_tests

pytestmark = [pytest.mark.wheels, pytest.mark.timeout(600)]


def test_its_own_tests(wheels: dict[str, Path], tmp_path: Path) -> None:
    """Conformance, the vectors of RFC 9382, and both ends through the service, beside TLS 1.3."""
    must_pass_its_own_tests(NOISE.with_name("spake2"), wheels, tmp_path)
