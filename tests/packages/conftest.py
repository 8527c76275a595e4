"""Tests of the Debian packages, each marked ``packages``: built here, installed in the roots of ``make guests``."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.guests.chroot import Chroot, unavailable
from scripts.packages.__main__ import build
from scripts.packages.environment import build_wheels
from scripts.packages.targets import RELEASES

LIMIT = 600
"""Seconds for one test, with the building of the packages."""


class Packages:
    """The packages of each release, built once, in the revisions 1 and 2."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._built: dict[tuple[str, str], list[Path]] = {}

    @functools.cached_property
    def wheels(self) -> list[Path]:
        """The wheels of the core and of the plugins."""
        return build_wheels(self._folder / "wheels")

    def of(self, release: str, revision: str = "1") -> list[Path]:
        """Return the packages of a release."""
        key = (release, revision)
        if key not in self._built:
            folder = self._folder / f"{release}-{revision}"
            self._built[key] = build(RELEASES[release], self.wheels, folder, folder / "work", revision)
        return self._built[key]


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packages]:
    """The packages, built when they are asked for, and compressed in a hurry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DPKG_DEB_COMPRESSOR_LEVEL", "0")
        yield Packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="session", params=list(RELEASES))
def installed(request: pytest.FixtureRequest, packages: Packages, tmp_path_factory: pytest.TempPathFactory) -> Chroot:
    """A root of each release with all packages installed, and the output of apt in ``said``."""
    return fresh(request.param, packages, tmp_path_factory.mktemp("root"))


@pytest.fixture
def trixie(packages: Packages, tmp_path: Path) -> Chroot:
    """A root of Debian 13 with all packages installed, for one test alone."""
    return fresh("trixie", packages, tmp_path)


def fresh(release: str, packages: Packages, folder: Path) -> Chroot:
    """Make a root of a release and install the packages in it as the documentation says."""
    if reason := unavailable(release):
        pytest.skip(reason)
    chroot = Chroot(release, folder)
    chroot.add("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    chroot.copy(packages.of(release), "debs")
    chroot.said = chroot.run("apt-get install --yes --no-install-recommends /debs/*.deb 2>&1")
    return chroot


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test before ``-m`` selects."""
    if item.path.is_relative_to(Path(__file__).parent):
        item.add_marker(pytest.mark.packages)
        item.add_marker(pytest.mark.timeout(LIMIT))
