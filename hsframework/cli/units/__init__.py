"""Files for systemd, made for one installation: units, users (sysusers.d), folders (tmpfiles.d).

The units are those of the folder ``systemd`` beside this module.  ``/usr/bin/hsframework`` in them becomes the
program of the installation, and settings that its systemd does not know are left out.  The command ``units`` writes the
files, and so do the scripts of the Debian packages.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

UNITS = Path(__file__).parent / "systemd"
"""Folder of the units."""

PROGRAM = "/usr/bin/hsframework"
"""The program in the units as they are in the folder."""


NEWER = {"RestartSteps": 254, "RestartMaxDelaySec": 254, "RestartMode": 254, "FileDescriptorStorePreserve": 254}
"""Settings of the units that not every systemd knows, and the version that brought each.  Debian 12 has 252."""

NEWER_VALUES = {
    "PrivateTmp=disconnected": (257, "PrivateTmp=yes"),
    "Type=notify-reload": (253, "Type=notify"),
}
"""Values likewise, and what stands in their place before."""


@dataclass(frozen=True, slots=True)
class Target:
    """The installation that files are made for.

    ``program``: path of the program ``hsframework``.  ``systemd``: version of systemd.
    """

    program: str
    systemd: int


@dataclass(frozen=True, slots=True)
class Places:
    """Folders that the files go to.  ``units``, ``users``, ``folders``: for systemd, sysusers.d and tmpfiles.d."""

    units: Path
    users: Path
    folders: Path


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin.  ``protocols``: names of the protocols that it serves."""

    name: str
    protocols: tuple[str, ...]


def places(prefix: Path | None) -> Places:
    """Return the folders below ``prefix``, such as ``/usr/local``; None: those below ``/etc``."""
    if prefix is None:
        return Places(Path("/etc/systemd/system"), Path("/etc/sysusers.d"), Path("/etc/tmpfiles.d"))
    library = prefix / "lib"
    return Places(library / "systemd" / "system", library / "sysusers.d", library / "tmpfiles.d")


def core_files(where: Places, target: Target) -> dict[Path, str]:
    """Return the files of the core, path → text."""
    units = (path for path in sorted(UNITS.iterdir()) if path.is_file())
    files = {where.units / path.name: for_target(path.read_text("utf-8"), target) for path in units}
    for path in sorted((UNITS / "tmpfiles.d").iterdir()):
        files[where.folders / path.name] = path.read_text("utf-8")
    return files


def plugin_files(where: Places, plugin: Plugin) -> dict[Path, str]:
    """Return the files of a plugin, path → text: the user of its agent, which serves all of its protocols."""
    line = f'u {agent_user(plugin.name)} - "Agent of the handshake service for {plugin.name}"\n'
    return {where.users / f"hsframework-{plugin.name}.conf": line}


def plugin_links(where: Places, plugin: Plugin) -> dict[Path, str]:
    """Return the symbolic link of a plugin, path → target: by it the service starts the plugin's agent."""
    link = where.units / "hsframework.service.wants" / agent_unit(plugin.name)
    return {link: "../hsframework-agent@.service"} if plugin.protocols else {}


def agent_user(plugin: str) -> str:
    """Return the name of the user that runs the agent of a plugin: ``tls13`` → ``hsframework-tls13``."""
    return f"hsframework-{plugin}"


def agent_unit(plugin: str) -> str:
    """Return the name of the unit of a plugin's agent."""
    return f"hsframework-agent@{plugin}.service"


def unit_names(links: Iterable[Path]) -> list[str]:
    """Return the names of the units that links start."""
    return sorted(path.name for path in links)


def drop_ins() -> list[str]:
    """Return the names of the drop-ins for the service: ``netns`` for ``drop-ins/netns.conf``."""
    return sorted(path.stem for path in (UNITS / "drop-ins").iterdir())


def drop_in_file(where: Places, name: str, target: Target) -> dict[Path, str]:
    """Return the file of a drop-in, path → text."""
    text = (UNITS / "drop-ins" / f"{name}.conf").read_text("utf-8")
    return {where.units / "hsframework.service.d" / f"{name}.conf": for_target(text, target)}


def for_target(text: str, target: Target) -> str:
    """Return the text of a unit as an installation wants it."""
    lines = []
    for line in text.replace(PROGRAM, target.program).splitlines(keepends=True):
        if NEWER.get(line.partition("=")[0], 0) <= target.systemd:
            since, before = NEWER_VALUES.get(line.rstrip(), (0, ""))
            lines.append(line if since <= target.systemd else f"{before}\n")
    return "".join(lines)
