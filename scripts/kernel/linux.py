"""The build of the test kernel, from Debian's source and User-Mode Linux's default configuration, with ours over it.

The kernel's tools silently drop an option whose dependencies are missing, so the finished configuration is compared
with ``config`` line by line before anything is compiled.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from scripts.kernel.debian import Unable, private_apt
from scripts.kernel.places import CONFIGURATION, Entry, cache_root, patches

SUITES = ("trixie-backports", "forky")
"""Debian suites in which the source is looked up."""
ARCHITECTURE = "ARCH=um"
NOT_FOR_MODULES = ("samples", "sound", "rust", "tools/testing", "tools/perf", "drivers/gpu")
"""Parts of the source tree, two thirds of it, that out-of-tree modules do not need."""


def _say(text: str) -> None:
    print(f"kernel: {text}", flush=True)


def fetch(series: str, entry: Entry) -> str:
    """Unpack and patch Debian's source of a series in ``tree``, and return its Debian version.  Raises Unable."""
    held, apt = private_apt(SUITES, cache_root())
    with held:
        apt.update()
        package = f"linux-source-{series}"
        version = apt.newest(package)
        if version is None:
            raise Unable(
                f"{package} is in none of {', '.join(SUITES)}.\nName a series that is:  KERNEL_SERIES=7.3 make kernel"
            )
        _say(f"downloading {package} {version}")
        archive = apt.download(package, version)
        unpacked = Path(held.name) / "unpacked"
        subprocess.run(["dpkg-deb", "--extract", archive, unpacked], check=True)
        tree = entry.path / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        tree.mkdir()
        tarball = next((unpacked / "usr" / "src").glob("linux-source-*.tar.*"))
        subprocess.run(["tar", "-C", tree, "--strip-components=1", "-xf", tarball], check=True)
    for patch in patches():
        _say(f"applying {patch.name}")
        subprocess.run(["patch", "-p1", "-s", "-d", tree, "-i", patch], check=True)
    return version


def wanted(text: str) -> dict[str, str]:
    """Return the options that a configuration sets, by name."""
    return dict(re.findall(r"(?m)^(CONFIG_\w+)=(.*)$", text))


def dropped(fragment: str, finished: str) -> list[str]:
    """Return a line for each option of the fragment that has another value in the finished configuration."""
    is_set = wanted(finished)
    return [
        f"{name}={value} was asked for, and it is {is_set.get(name, 'n')}"
        for name, value in wanted(fragment).items()
        if is_set.get(name, "n") != value
    ]


def _make(tree: Path, *arguments: str, log: Path) -> None:
    with open(log, "a") as output:
        done = subprocess.run(["make", ARCHITECTURE, *arguments], cwd=tree, stdout=output, stderr=output, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        raise Unable(f"make {' '.join(arguments)} failed in {tree}; the end of {log}:\n{tail}")


def configure(tree: Path, log: Path) -> None:
    """Write ``.config``.  Raises Unable if it lacks an option of ours."""
    _make(tree, "defconfig", log=log)
    merge = ["scripts/kconfig/merge_config.sh", "-m", ".config", str(CONFIGURATION)]
    subprocess.run(merge, cwd=tree, env=os.environ | {"ARCH": "um"}, stdout=subprocess.DEVNULL, check=True)
    _make(tree, "olddefconfig", log=log)
    lost = dropped(CONFIGURATION.read_text(), (tree / ".config").read_text())
    if lost:
        raise Unable("the kernel's configuration is not what scripts/kernel/config asks for:\n" + "\n".join(lost))


def _cut_down(tree: Path) -> None:
    """Delete everything that building a module does not need; headers, scripts, makefiles and symbol versions stay."""
    for name in NOT_FOR_MODULES:
        shutil.rmtree(tree / name, ignore_errors=True)
    for entry in (tree / "Documentation").iterdir():
        # The schemas of netlink specs are there, and the specs that the kernel's own tools (tools/net/ynl) read.
        if entry.name != "netlink":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    keep = (tree / "scripts", tree / "tools" / "objtool")
    for directory, _, files in os.walk(tree):
        if any(Path(directory).is_relative_to(kept) for kept in keep):
            continue
        for name in files:
            if name.endswith((".c", ".o", ".a", ".ko", ".cmd", ".S", ".dts", ".dtsi", ".order", ".mod")):
                (Path(directory) / name).unlink()


def build(series: str, entry: Entry, jobs: int) -> None:
    """Build a series with ``jobs`` compilers at once, and complete its cache entry.  Raises Unable."""
    started = time.monotonic()
    log = entry.path / "build.log"
    log.unlink(missing_ok=True)
    version = fetch(series, entry)
    tree = entry.path / "tree"
    configure(tree, log)
    _say(f"building with {jobs} jobs; about ten processor minutes ({log})")
    _make(tree, f"-j{jobs}", "linux", "modules", log=log)
    modules = entry.path / "modules"
    shutil.rmtree(modules, ignore_errors=True)
    # Debian's /lib is a link, and the modules are mounted at its target.
    _make(tree, f"INSTALL_MOD_PATH={modules}", "INSTALL_MOD_STRIP=1", "modules_install", log=log)
    subprocess.run(["strip", "--strip-debug", "-o", entry.path / "linux", tree / "linux"], check=True)
    shutil.copy(tree / ".config", entry.path / "config")
    _cut_down(tree)
    seconds = round(time.monotonic() - started)
    entry.finish(version=version, seconds=seconds, jobs=jobs)
    _say(f"Linux {version} built in {seconds} s")
