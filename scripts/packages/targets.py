"""Debian releases that packages are built for, and the architectures."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Release:
    """A release of Debian.  ``number``: its version, ``python`` and ``systemd``: those of its own."""

    name: str
    number: int
    python: str
    systemd: int


RELEASES = {
    release.name: release
    for release in (
        Release("bookworm", 12, "3.11", 252),
        Release("trixie", 13, "3.13", 257),
        Release("forky", 14, "3.14", 262),
    )
}

ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64"}
"""Debian's name of each architecture, and that of Python's wheels."""

GLIBC = ("2_28", "2_17")
"""Versions of glibc whose wheels are taken.  Debian 12 has 2.36."""


def wheel_platforms(architecture: str) -> list[str]:
    """Return the platform tags of the wheels that an architecture takes, most special first."""
    machine = ARCHITECTURES[architecture]
    return [f"manylinux_{version}_{machine}" for version in GLIBC] + [f"manylinux2014_{machine}"]
