"""The command of ``make test-pythons``: tests on every Python that is supported and can be had here.

    python -m scripts.pythons [--service] [VERSION ...]

The Pythons are those of this machine (in PATH, and pyenv's), and that of the newest Debian, in its root
(``make guests``).  Each has a virtual environment of its own in build/pythons.  With ``--service`` the service is
started and shakes hands on each, and the unit tests are not run.  The exit status is 1 if something fails, or if a
Python that the classifiers name is not there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.guests.chroot import ENVIRONMENT, Chroot, unavailable
from scripts.packages.environment import PLUGINS, ROOT, build_wheels
from scripts.packages.targets import RELEASES, Release, wheel_platforms

PLACE = ROOT / "build" / "pythons"
DEBIAN = RELEASES["forky"]
"""Release whose own Python is the newest."""

EXTRAS = "test,docs,lint,anyio,httpx,uvicorn,aiosmtpd"
PROJECTS = [f".[{EXTRAS}]", *(f"./plugins/{name.removeprefix('hsframework-')}" for name in PLUGINS)]
EDITABLE = [word for project in PROJECTS for word in ("--editable", project)]
PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
UNIT_TESTS = ["-m", "pytest", "tests/unit", "-q", "-p", "no:cacheprovider"]
UNIT_TESTS += ["--ignore=tests/unit/mutants", "--ignore=tests/unit/lint/test_make_lint.py"]
"""Without those of make and git, which are the same on each and are not in a Debian's root."""
SERVICE = ["-W", "error", "-m", "hsframework", "demo"]


@dataclass(slots=True)
class Python:
    """A Python, and its virtual environment.  ``chroot``: None on this machine itself."""

    version: str
    program: str
    chroot: Chroot | None = None

    @property
    def folder(self) -> Path:
        """Return the folder of the virtual environment."""
        return PLACE / self.version

    def run(self, program: str, arguments: Sequence[str], *, strict: bool = False) -> bool:
        """Run a program in the checkout; True if it ends with 0.  ``strict``: warnings are errors, of children too."""
        command = [program, *arguments]
        variables = dict(os.environ)
        if self.chroot is not None:
            quoted = " ".join(f"'{word}'" for word in command)
            warn = "PYTHONWARNINGS=error " if strict else ""
            command, variables = self.chroot.command(f"cd '{ROOT}' && {warn}{quoted}; exit $?"), dict(ENVIRONMENT)
        elif strict:
            variables["PYTHONWARNINGS"] = "error"
        return subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode == 0

    def prepare(self) -> bool:
        """Make the virtual environment, unless it is there; True if that is so."""
        stamp, python = self.folder / ".ready", str(self.folder / "bin" / "python")
        inputs = [ROOT / "constraints.txt", ROOT / "pyproject.toml", Path(__file__)]
        if stamp.exists() and all(stamp.stat().st_mtime > path.stat().st_mtime for path in inputs):
            return True
        shutil.rmtree(self.folder, ignore_errors=True)
        offline = [] if self.chroot is None else ["--no-index", "--find-links", str(_wheels(DEBIAN))]
        constrained = ["--constraint", "constraints.txt", *offline]
        done = self.run(self.program, ["-m", "venv", str(self.folder)]) and self.run(
            python, [*PIP, "install", *constrained, *EDITABLE]
        )
        if done:
            stamp.touch()
        return done


def supported() -> list[str]:
    """Return the versions that the classifiers name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return re.findall(r"Python :: (3\.\d+)\b", "\n".join(project["classifiers"]))


def pythons(versions: Sequence[str]) -> Iterator[Python]:
    """Yield one Python of each version that is found."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for version in versions:
        candidates = [shutil.which(f"python{version}"), *sorted(map(str, pyenv.glob(f"{version}.*/bin/python")))]
        found = next((path for path in candidates if path and _is(path, version)), None)
        if found is not None:
            yield Python(version, found)
        elif version == DEBIAN.python and unavailable(DEBIAN.name) is None:
            chroot = Chroot(DEBIAN.name, PLACE / DEBIAN.name, bind=ROOT)
            yield Python(version, "/usr/bin/python3", chroot)


def _is(program: str, version: str) -> bool:
    """Return True if a program is a Python of this version: pyenv's shims are there for versions that are not."""
    code = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=False)
    return done.stdout.strip() == version


def _wheels(release: Release) -> Path:
    """Fetch what a release's Python needs into a folder, since its root has no network."""
    folder = PLACE / f"wheels-{release.python}"
    shutil.rmtree(folder, ignore_errors=True)
    core, *plugins = build_wheels(folder)
    platforms = [word for tag in wheel_platforms("amd64") for word in ("--platform", tag)]
    command = [sys.executable, *PIP, "download", "--only-binary=:all:", "--dest", str(folder), *platforms]
    command += ["--python-version", release.python, "--constraint", "constraints.txt", "--find-links", str(folder)]
    wanted = ["editables", f"hsframework[{EXTRAS}] @ {core.as_uri()}", *map(str, plugins)]
    subprocess.run([*command, *wanted], cwd=ROOT, check=True)
    return folder


def main(words: Sequence[str]) -> int:
    """Run the tests on each Python, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pythons", description=__doc__.partition("\n")[0])
    parser.add_argument("--service", action="store_true", help="start the service and shake hands, instead")
    parser.add_argument("versions", metavar="VERSION", nargs="*", help="such as 3.12 (default: the classifiers')")
    arguments = parser.parse_args(words)
    wanted = arguments.versions or supported()
    passed: list[str] = []
    failed: list[str] = []
    for python in pythons(wanted):
        print(f"== Python {python.version}: {python.program}", flush=True)
        program = str(python.folder / "bin" / "python")
        tests, strict = (SERVICE, True) if arguments.service else (UNIT_TESTS, False)
        done = python.prepare() and python.run(program, tests, strict=strict)
        (passed if done else failed).append(python.version)
    missing = [version for version in wanted if version not in (*passed, *failed)]
    print(f"passed: {', '.join(passed) or 'none'}")
    for reason, versions in (("failed", failed), ("not found", missing)):
        if versions:
            print(f"{reason}: {', '.join(versions)}")
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
