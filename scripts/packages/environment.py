"""The virtual environment in the Debian packages: its files, and the package that each belongs to.

It is made without the release's Python: pip unpacks wheels for it, and a virtual environment is a file and two links.
A distribution that more than one package needs is in the core's package.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from scripts.packages.targets import Release, wheel_platforms

ROOT = Path(__file__).parents[2]
CORE = "hsframework"
PLUGINS = tuple(sorted(f"hsframework-{path.parent.name}" for path in (ROOT / "plugins").glob("*/pyproject.toml")))
HOME = "/usr/lib/hsframework"
"""The virtual environment."""

LOCAL = "/usr/local/lib/hsframework"
"""Folder for plugins that no package brings; it need not be there."""

PROGRAM = f"""#!{HOME}/bin/python3 -I
import sys

from hsframework.__main__ import main

sys.exit(main())
"""


@dataclass(frozen=True, slots=True)
class Distributions:
    """Distributions in a folder, and the package that each belongs to."""

    folder: Path
    owners: Mapping[str, str]

    def of(self, package: str) -> list[metadata.Distribution]:
        """Return the distributions of a package, by name."""
        found = {name_of(item): item for item in metadata.distributions(path=[str(self.folder)])}
        return [found[name] for name in sorted(found) if self.owners.get(name) == package]


def name_of(distribution: metadata.Distribution) -> str:
    """Return the normalised name: ``PyYAML`` → ``pyyaml``."""
    return str(canonicalize_name(distribution.metadata["Name"]))


def build_wheels(folder: Path) -> list[Path]:
    """Build the wheels of the core and of the plugins."""
    for project in (ROOT, *(ROOT / "plugins" / name.removeprefix("hsframework-") for name in PLUGINS)):
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(project)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return sorted(folder.glob("*.whl"))


def unpack(wheels: Iterable[Path], folder: Path, release: Release, architecture: str) -> Distributions:
    """Unpack wheels, and those that they need, for the release's Python; the versions are those of constraints.txt."""
    platforms = [word for tag in wheel_platforms(architecture) for word in ("--platform", tag)]
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    command += ["--constraint", str(ROOT / "constraints.txt"), "--target", str(folder), "--no-compile"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", release.python, *platforms]
    subprocess.run([*command, *map(str, wheels)], check=True)
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for note in ("direct_url.json", "REQUESTED"):  # they are about the machine that the packages are built on
        for path in folder.glob(f"*.dist-info/{note}"):
            path.unlink()
    for path in folder.glob("*.dist-info/INSTALLER"):
        path.write_text("dpkg\n")
    return Distributions(folder, owners(folder, release))


def owners(folder: Path, release: Release) -> dict[str, str]:
    """Return the package of each distribution that the release's Python needs.

    pip has chosen them for the Python that runs it.  Raises ValueError for one that it left out.
    """
    found = {name_of(item): item for item in metadata.distributions(path=[str(folder)])}
    environment = {"python_version": release.python, "python_full_version": f"{release.python}.0", "extra": ""}

    def closure(start: str) -> set[str]:
        seen, pending = {start}, [start]
        while pending:
            for requirement in map(Requirement, found[pending.pop()].requires or ()):
                needed = str(canonicalize_name(requirement.name))
                if needed not in seen and (requirement.marker is None or requirement.marker.evaluate(environment)):
                    if needed not in found:
                        raise ValueError(f"{requirement} is needed by Python {release.python}, and pip left it out")
                    seen.add(needed)
                    pending.append(needed)
        return seen

    result = dict.fromkeys(closure(CORE), CORE)
    needing: dict[str, set[str]] = {}
    for plugin in PLUGINS:
        for name in closure(plugin) - result.keys() - set(PLUGINS):
            needing.setdefault(name, set()).add(plugin)
    result |= {plugin: plugin for plugin in PLUGINS}
    return result | {name: min(plugins) if len(plugins) == 1 else CORE for name, plugins in needing.items()}


def copy(distributions: Iterable[metadata.Distribution], source: Path, tree: Path, release: Release) -> None:
    """Copy the files of distributions from a folder into a package's tree."""
    site = tree / HOME[1:] / "lib" / f"python{release.python}" / "site-packages"
    for distribution in distributions:
        for file in distribution.files or ():
            origin = Path(str(file.locate()))
            if ".." in file.parts or not origin.is_file():  # a script, or a note that was removed
                continue
            target = site / origin.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(origin, target)


def make_environment(tree: Path, release: Release) -> None:
    """Make the virtual environment itself, and the program, in the core's tree."""
    home = tree / HOME[1:]
    programs = home / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    (programs / "python3").symlink_to(f"/usr/bin/python{release.python}")
    (programs / "python").symlink_to("python3")
    (programs / "hsframework").write_text(PROGRAM)
    (programs / "hsframework").chmod(0o755)
    settings = f"home = /usr/bin\ninclude-system-site-packages = false\nversion = {release.python}\n"
    (home / "pyvenv.cfg").write_text(settings)
    site = home / "lib" / f"python{release.python}" / "site-packages"
    (site / "hsframework-local.pth").write_text(f"{LOCAL}\n")
    (tree / "usr" / "bin").mkdir(parents=True, exist_ok=True)
    (tree / "usr" / "bin" / "hsframework").symlink_to("../lib/hsframework/bin/hsframework")
