"""Debian releases that the system tier boots, and the packages in each.

A package is here because a test or a documented command runs it.  The guests have no network: whatever they install
later comes from the host.
"""

from __future__ import annotations

from dataclasses import dataclass

from scripts.kernel.places import Entry, root_entry

PACKAGES = (
    "ca-certificates",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "keyutils",
    "kmod",
    "netbase",
    "nfs-common",
    "nfs-kernel-server",
    "nvme-cli",
    "openssl",
    "procps",
    "python3",
    "python3-venv",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
)


@dataclass(frozen=True, slots=True)
class Release:
    """One Debian release: its suite, and its packages beside ``PACKAGES``."""

    suite: str
    more: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        """All packages, sorted."""
        return tuple(sorted(PACKAGES + self.more))

    @property
    def root(self) -> Entry:
        """The cache entry of the system's files, in ``tree``."""
        return root_entry(self.suite, self.packages)


TRIXIE = Release("trixie", ("ktls-utils",))
"""The main guest: systemd 257, Python 3.13."""
BOOKWORM = Release("bookworm")
"""systemd 252, Python 3.11.  It has no tlshd."""
FORKY = Release("forky", ("ktls-utils",))
"""The newest Python and systemd."""
RELEASES = (TRIXIE, BOOKWORM, FORKY)
