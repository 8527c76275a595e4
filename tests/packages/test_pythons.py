"""Every Python that the classifiers name runs the service: Debian's in test_debian.py, the others here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from scripts.packages.environment import ROOT
from scripts.packages.targets import RELEASES
from scripts.pythons import pythons, supported

DEBIAN = {release.python for release in RELEASES.values()}


@pytest.mark.parametrize("version", [version for version in supported() if version not in DEBIAN])
def test_the_service_on_a_python_that_no_release_has(version: str) -> None:
    """The service starts and shakes hands on it, with warnings as errors."""
    if not list(pythons([version])):
        pytest.skip(f"there is no Python {version} here; pyenv installs it")
    command = [sys.executable, "-m", "scripts.pythons", "--service", version]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_every_releases_python_is_a_classifier() -> None:
    """A release whose Python no classifier names has no packages."""
    assert set(supported()) >= DEBIAN
