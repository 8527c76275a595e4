"""Write the units for systemd, with the paths of this installation, and the users of the agents.

Without --prefix they go to /etc: /etc/systemd/system, /etc/sysusers.d and /etc/tmpfiles.d.  The Debian packages have
them already.  Repeat it after a plugin has been installed or removed.

example:
  hsframework units --print
  hsframework units --install
  hsframework units --install --drop-in tlshd
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path

from hsframework.cli.units import (
    Places,
    Plugin,
    Target,
    core_files,
    drop_in_file,
    drop_ins,
    places,
    plugin_files,
    plugin_links,
    unit_names,
)
from hsframework.errors import ConfigurationError

UNSEEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""Folders that the units cannot see: ``ProtectHome=yes`` and ``PrivateTmp=yes``."""

PACKAGED = Path("/usr/lib/systemd/system")
"""Folder of the units that packages bring."""

SYSTEMD = Path("/run/systemd/system")
"""It exists where systemd is the init system."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--install", action="store_true", help="write the files, as root, and make the users")
    action.add_argument("--print", action="store_true", help="print the files, each below its path")
    parser.add_argument(
        "--drop-in",
        metavar="NAME",
        action="append",
        default=[],
        choices=drop_ins(),
        help=f"no units but a drop-in for the service: {' or '.join(drop_ins())}; may be repeated",
    )
    parser.add_argument(
        "--prefix", metavar="DIR", type=Path, help="write below DIR/lib, such as /usr/local (default: below /etc)"
    )


def run(arguments: argparse.Namespace) -> int:
    where = places(None if arguments.prefix is None else arguments.prefix.absolute())
    target = Target(program(), systemd_version())
    files, links = _drop_ins(where, arguments.drop_in, target) if arguments.drop_in else _everything(where, target)
    if arguments.print:
        print(_listing(files, links), end="")
        return 0
    check_root(os.geteuid())
    if not arguments.drop_in:
        check_not_packaged(PACKAGED)
        check_reachable(Path(sys.prefix))
    write(files, links)
    for path in (*files, *links):
        print(path)
    _tell_systemd(where, files)
    print(_advice(links, arguments.drop_in))
    return 0


def installed_plugins() -> list[Plugin]:
    """Return the plugins that are in use here."""
    from hsframework.cli.options.installed import try_plugins

    records = try_plugins(()).records
    return [Plugin(record.name, record.protocols) for record in records if record.error is None and record.protocols]


def program() -> str:
    """Return the path of this installation's program ``hsframework``."""
    return str(Path(sysconfig.get_path("scripts")) / "hsframework")


def systemd_version() -> int:
    """Return the version of this machine's systemd; without one, that of Debian 13."""
    try:
        said = subprocess.run(["systemctl", "--version"], capture_output=True, text=True, check=False).stdout
    except FileNotFoundError:
        said = ""
    found = re.match(r"systemd (\d+)", said)
    return int(found[1]) if found else 257


def check_not_packaged(folder: Path) -> None:
    """Raise ConfigurationError if a package has brought units, which those in /etc would hide."""
    if (folder / "hsframework.service").exists():
        raise ConfigurationError(
            f"units --install: a package has its units in {folder}; use those, or remove the package first"
        )


def check_root(user: int) -> None:
    """Raise ConfigurationError unless ``user`` is root."""
    if user != 0:
        raise ConfigurationError(
            f"units --install: only root can write units and make users; run 'sudo {program()} units --install', "
            "or see what it would write by --print"
        )


def check_reachable(prefix: Path) -> None:
    """Raise ConfigurationError if a unit, or an agent's user, cannot get at the installation.

    ``prefix``: folder of the virtual environment, or ``/usr``.
    """
    advice = (
        "install it where all users can read it: python3 -m venv /opt/hsframework && "
        "/opt/hsframework/bin/pip install 'hsframework[tls13]'"
    )
    prefix = prefix.resolve()
    for folder in UNSEEN:
        if prefix.is_relative_to(folder):
            raise ConfigurationError(f"units --install: {prefix} is in {folder}, which the units cannot see; {advice}")
    for path in (prefix, *prefix.parents):
        if not path.stat().st_mode & stat.S_IXOTH:
            raise ConfigurationError(f"units --install: {path} is closed to the users of the agents; {advice}")


def write(files: Mapping[Path, str], links: Mapping[Path, str]) -> None:
    """Write files (mode 0644) and symbolic links, each at once: what is there before is replaced."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")
        new.write_text(text, "utf-8")
        new.chmod(0o644)
        new.replace(path)
    for path, target in links.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def _drop_ins(where: Places, names: Iterable[str], target: Target) -> tuple[dict[Path, str], dict[Path, str]]:
    files: dict[Path, str] = {}
    for name in names:
        files |= drop_in_file(where, name, target)
    return files, {}


def _everything(where: Places, target: Target) -> tuple[dict[Path, str], dict[Path, str]]:
    files, links = core_files(where, target), dict[Path, str]()
    for plugin in installed_plugins():
        files |= plugin_files(where, plugin)
        links |= plugin_links(where, plugin)
    return files, links


def _listing(files: Mapping[Path, str], links: Mapping[Path, str]) -> str:
    parts = [f"# {path}\n{text.rstrip()}\n" for path, text in files.items()]
    parts += [f"# {path} -> {target}\n" for path, target in links.items()]
    return "\n".join(parts)


def _tell_systemd(where: Places, files: Mapping[Path, str]) -> None:
    """Make the users and folders, and have systemd read the units, as far as these programs are installed."""
    users = [str(path) for path in files if path.parent == where.users]
    folders = [str(path) for path in files if path.parent == where.folders]
    for command in (["systemd-sysusers", *users], ["systemd-tmpfiles", "--create", *folders]):
        if len(command) > 1 and shutil.which(command[0]):
            subprocess.run(command, check=True)
    if SYSTEMD.is_dir():
        subprocess.run(["systemctl", "daemon-reload"], check=True)


def _advice(links: Mapping[Path, str], names: Iterable[str]) -> str:
    """Return what to do next."""
    if names:
        return "\nNext:\n    systemctl restart hsframework"
    agents = ", ".join(unit_names(links))
    started = f"It starts {agents}." if agents else "No plugin is installed, so that no agent is started."
    return f"\n{started}  Next:\n    systemctl enable --now hsframework"
