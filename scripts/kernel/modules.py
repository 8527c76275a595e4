"""Our own kernel modules, built against the test kernel's tree: each directory of tests/kernel/modules with a Makefile.

All are built at once, so that one may use what another exports.  The results are kept in the cache, under a hash of the
kernel and all sources, and linked from build/kernel/ko.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from scripts.kernel.debian import Unable
from scripts.kernel.places import CHECKOUT, Entry, link

SOURCES = CHECKOUT / "tests" / "kernel" / "modules"


def sources() -> list[Path]:
    """Return the C files, headers and Makefiles of all modules, sorted."""
    return sorted(path for path in SOURCES.rglob("*") if path.suffix in (".c", ".h") or path.name == "Makefile")


def entry_for(kernel: Entry) -> Entry:
    """Return the cache entry of the modules."""
    covered = [content for path in sources() for content in (str(path.relative_to(SOURCES)), path.read_bytes())]
    return Entry("module", kernel.path.name, *covered)


def make(work: Path, tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the kernel's make for the modules in ``work``, a copy of the sources."""
    command = ["make", "-C", str(tree), "ARCH=um", f"M={work}", f"-j{os.cpu_count()}", *arguments, "modules"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def build(entry: Entry, kernel: Entry) -> None:
    """Build the modules and complete their cache entry.  Raises Unable with the compiler's output."""
    work = entry.path / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(SOURCES, work)
    done = make(work, kernel.path / "tree")
    made = list(work.rglob("*.ko"))
    if done.returncode or not made:
        raise Unable(f"building the modules in {SOURCES} failed:\n{done.stdout}{done.stderr}")
    for module in made:
        module.rename(entry.path / module.name)
    shutil.rmtree(work)
    entry.finish(modules=[module.name for module in made])


def build_all(kernel: Entry) -> None:
    """Build the modules unless they are in the cache, and link them from build/kernel/ko.  Raises Unable."""
    entry = entry_for(kernel)
    with entry.locked():
        if not entry.complete:
            build(entry, kernel)
    for module in entry.path.glob("*.ko"):
        link(f"ko/{module.name}", module)
