"""Packages from Debian, by the mirror in the configuration of this machine's apt, which is only read.

The mirror is the first in apt's sources, of either format, that has a Debian release; ``DEBIAN_MIRROR=URI`` in the
environment names another.  apt then runs with sources, lists and a cache of our own, and with the machine's settings
for everything else, such as a proxy.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

RELEASES = frozenset("oldstable stable testing unstable sid buster bullseye bookworm trixie forky duke".split())
"""Suites by which a Debian mirror is recognised."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class Unable(Exception):
    """A condition that a person must change; the text says how."""


@dataclass(frozen=True, slots=True)
class Source:
    """One archive in apt's configuration."""

    uri: str
    suite: str


def _one_line(text: str) -> Iterator[Source]:
    """Yield the sources in a file of lines ``deb [options] URI SUITE COMPONENT...``."""
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)", line)
        if match:
            yield Source(match[1], match[2])


def _deb822(text: str) -> Iterator[Source]:
    """Yield the sources in a file of stanzas; a field continues in lines that begin with a blank."""
    for stanza in re.split(r"\n\s*\n", re.sub(r"(?m)^#.*\n?", "", text)):
        fields = {
            name.lower(): value.split()
            for name, value in re.findall(r"(?m)^([A-Za-z-]+):((?:.*)(?:\n[ \t].*)*)", stanza)
        }
        if "deb" in fields.get("types", []) and fields.get("enabled", ["yes"]) != ["no"]:
            yield from (Source(uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", []))


def sources(directory: Path = Path("/etc/apt")) -> Iterator[Source]:
    """Yield the sources in the configuration of this machine's apt, in apt's order."""
    whole = directory / "sources.list"
    if whole.exists():
        yield from _one_line(whole.read_text())
    for path in sorted((directory / "sources.list.d").glob("*")):
        if path.suffix == ".list":
            yield from _one_line(path.read_text())
        elif path.suffix == ".sources":
            yield from _deb822(path.read_text())


def mirror(directory: Path = Path("/etc/apt")) -> str:
    """Return the URI of the Debian mirror.  Raises Unable if there is none."""
    named = os.environ.get("DEBIAN_MIRROR")
    if named:
        return named
    for source in sources(directory):
        if source.suite in RELEASES and re.match(r"(https?|file):", source.uri):
            return source.uri.rstrip("/")
    raise Unable(
        "Debian's packages are needed, and this machine's apt knows no Debian mirror.\n"
        "Name one:  DEBIAN_MIRROR=<URI> make kernel"
    )


class PrivateApt:
    """An apt with its own sources, package lists and cache, all below one directory.  Methods raise Unable."""

    def __init__(self, directory: Path, suites: tuple[str, ...]) -> None:
        self._directory = directory
        for name in ("lists/partial", "cache/archives/partial"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        signed = f"[signed-by={KEYRING}] " if KEYRING.exists() else ""
        listed = directory / "sources.list"
        listed.write_text("".join(f"deb {signed}{mirror()} {suite} main\n" for suite in suites))
        settings = {
            "Dir::Etc::SourceList": listed,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::Etc::Preferences": "/dev/null",
            "Dir::Etc::PreferencesParts": "/dev/null",
            "Dir::State": directory,
            "Dir::State::Lists": directory / "lists",
            "Dir::State::status": "/dev/null",
            "Dir::Cache": directory / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }
        self._options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [program, *self._options, *arguments], cwd=self._directory, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unable(f"{program} {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def update(self) -> None:
        """Fetch the package lists."""
        self._run("apt-get", "-qq", "update")

    def newest(self, package: str) -> str | None:
        """Return the newest version of a package, or None."""
        listed = self._run("apt-cache", "madison", package).splitlines()
        return listed[0].split("|")[1].strip() if listed else None

    def download(self, package: str, version: str) -> Path:
        """Download a package, and return the path of its file.  apt checks its signature."""
        self._run("apt-get", "-qq", "download", f"{package}={version}")
        return next(iter(self._directory.glob(f"{package}_*.deb")))


def private_apt(suites: tuple[str, ...], parent: Path) -> tuple[tempfile.TemporaryDirectory[str], PrivateApt]:
    """Make a temporary directory with a private apt, which goes when the directory is cleaned up."""
    parent.mkdir(parents=True, exist_ok=True)
    held = tempfile.TemporaryDirectory(prefix="apt-", dir=parent)
    return held, PrivateApt(Path(held.name), suites)
