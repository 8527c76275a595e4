"""Wheels for a guest, which has no network: ours, built from the checkout, and those that they need, for its Python.

The versions are those of constraints.txt; pip fetches them as it is configured on this machine, and they are cached.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from scripts.guests.releases import Release
from scripts.kernel.debian import Unable
from scripts.kernel.places import CHECKOUT, Entry

CONSTRAINTS = CHECKOUT / "constraints.txt"
GLIBC = range(17, 37)
"""Minor versions of glibc 2 whose manylinux wheels every guest can use: Debian 12 has 2.36."""


def projects() -> list[Path]:
    """Return the folders of our distributions: the core and its plugins."""
    return [CHECKOUT, *(path.parent for path in sorted((CHECKOUT / "plugins").glob("*/pyproject.toml")))]


def requirements() -> list[str]:
    """Return the requirements of our distributions on others, sorted."""
    found: set[str] = set()
    for project in projects():
        table = tomllib.loads((project / "pyproject.toml").read_text())["project"]
        found.update(word for word in table["dependencies"] if not word.startswith("hsframework"))
    return sorted(found)


def python_version(root: Path) -> str:
    """Return the version of a Debian system's Python, such as 3.13.  Raises Unable."""
    match = re.fullmatch(r"python(3\.\d+)", (root / "usr/bin/python3").readlink().name)
    if match is None:
        raise Unable(f"{root} has no Python 3")
    return match[1]


def needed(release: Release) -> Entry:
    """Return the cache entry with the wheels that ours need, in ``wheels``; fetch them if it is not complete.

    Raises Unable.
    """
    version = python_version(release.root.path / "tree")
    wanted = requirements()
    entry = Entry("wheels", version, CONSTRAINTS.read_bytes(), *wanted)
    with entry.locked():
        if entry.complete:
            return entry
        folder = entry.path / "wheels"
        shutil.rmtree(folder, ignore_errors=True)
        platforms = [word for minor in reversed(GLIBC) for word in ("--platform", f"manylinux_2_{minor}_x86_64")]
        platforms += ["--platform", "manylinux2014_x86_64"]
        command = [sys.executable, "-m", "pip", "--quiet", "download", "--only-binary=:all:", "--dest", str(folder)]
        command += ["--python-version", version, *platforms, "--constraint", str(CONSTRAINTS), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unable(f"pip cannot fetch wheels for Python {version}:\n{done.stderr}")
        entry.finish(python=version, wheels=len(list(folder.glob("*.whl"))))
    return entry


def ours(folder: Path) -> list[Path]:
    """Build the wheels of the checkout in a folder, and return them.  Raises Unable."""
    for project in projects():
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unable(f"{project} cannot be built:\n{done.stdout}{done.stderr}")
    return sorted(folder.glob("hsframework*.whl"))
