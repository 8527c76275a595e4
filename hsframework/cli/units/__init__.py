"""Files for systemd, made for one installation: units, users (sysusers.d), folders (tmpfiles.d).

The units are those of the folder ``systemd`` beside this module.  ``/usr/bin/hsframework`` in them becomes the
program of the installation.  The command ``units`` writes the files, and so do the Debian packages' scripts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

UNITS = Path(__file__).parent / "systemd"
"""Folder of the units."""

PROGRAM = "/usr/bin/hsframework"
"""The program in the units as they are in the folder."""


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


def core_files(where: Places, program: str) -> dict[Path, str]:
    """Return the files of the core, path → text.  ``program``: path of the program ``hsframework``."""
    files = {where.units / name: text for name, text in _units(program).items()}
    for path in sorted((UNITS / "tmpfiles.d").iterdir()):
        files[where.folders / path.name] = path.read_text("utf-8")
    return files


def plugin_files(where: Places, plugin: Plugin) -> dict[Path, str]:
    """Return the files of a plugin, path → text: the users of its agents."""
    lines = (f'u {agent_user(name)} - "Agent of the handshake service for {name}"\n' for name in plugin.protocols)
    return {where.users / f"hsframework-{plugin.name}.conf": "".join(lines)}


def plugin_links(where: Places, plugin: Plugin) -> dict[Path, str]:
    """Return the symbolic links of a plugin, path → target.

    By them the service starts the agent of the protocol that has the plugin's name.
    """
    wants = where.units / "hsframework.service.wants"
    started = (name for name in plugin.protocols if name == plugin.name)
    return {wants / f"hsframework-agent@{name}.service": "../hsframework-agent@.service" for name in started}


def agent_user(protocol: str) -> str:
    """Return the name of the user that runs the agent of a protocol: ``tls13`` → ``hsframework-tls13``."""
    return f"hsframework-{protocol}"


def unit_names(links: Iterable[Path]) -> list[str]:
    """Return the names of the units that links start."""
    return sorted(path.name for path in links)


def _units(program: str) -> Mapping[str, str]:
    """Return the units and examples of drop-ins, path below the folder → text."""
    found = {}
    for path in sorted(UNITS.iterdir()):
        if path.suffix in (".service", ".socket", ".target", ".path", ".timer"):
            found[str(PurePosixPath(path.name))] = path.read_text("utf-8").replace(PROGRAM, program)
    return found
