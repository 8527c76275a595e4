"""Our own kernel modules, built against the test kernel's tree: each directory of tests/kernel/modules is one.

A directory has a Makefile with ``obj-m``.  The results are kept in the cache, under a hash of the kernel and the
sources, and linked from build/kernel/ko.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from scripts.kernel.debian import Unable
from scripts.kernel.places import CHECKOUT, Entry, link

SOURCES = CHECKOUT / "tests" / "kernel" / "modules"


def directories() -> list[Path]:
    """Return the source directories of the modules."""
    return sorted(path.parent for path in SOURCES.glob("*/Makefile"))


def entry_for(directory: Path, kernel: Entry) -> Entry:
    """Return the cache entry of a module."""
    files = sorted(path for path in directory.iterdir() if path.suffix in (".c", ".h") or path.name == "Makefile")
    covered = [content for path in files for content in (path.name, path.read_bytes())]
    return Entry("module", kernel.path.name, *covered)


def build(directory: Path, entry: Entry, kernel: Entry) -> None:
    """Build a module and complete its cache entry.  Raises Unable with the compiler's output."""
    work = entry.path / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(directory, work)
    command = ["make", "-C", str(kernel.path / "tree"), "ARCH=um", f"M={work}", f"-j{os.cpu_count()}", "modules"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    made = list(work.glob("*.ko"))
    if done.returncode or not made:
        raise Unable(f"building the module in {directory} failed:\n{done.stdout}{done.stderr}")
    for module in made:
        module.rename(entry.path / module.name)
    shutil.rmtree(work)
    entry.finish(modules=[module.name for module in made])


def build_all(kernel: Entry) -> None:
    """Build all modules that are not in the cache, and link all from build/kernel/ko.  Raises Unable."""
    for directory in directories():
        entry = entry_for(directory, kernel)
        with entry.locked():
            if not entry.complete:
                build(directory, entry, kernel)
        for module in entry.path.glob("*.ko"):
            link(f"ko/{module.name}", module)
