"""Our kernel modules under the kernel's own checks: ``make check-modules``, and ``make test``.

* the compiler with the warnings of ``W=1``
* sparse: address spaces, byte orders, locks
* checkpatch with ``--strict``: the kernel's style
* kernel-doc with all warnings: every exported or shared function is documented, with every parameter

Usage: ``python3 -m scripts.kernel.checks``.  Prints one line for each complaint; the exit status is 1 if there is any.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from shutil import copytree

from scripts.kernel.modules import SOURCES, make
from scripts.kernel.places import LINKS

TREE, SPARSE = LINKS / "tree", LINKS / "sparse"
NOT_APPLICABLE = ("CONST_STRUCT",)
"""Types of checkpatch that do not apply.

CONST_STRUCT wants every proto_ops and ctl_table const: a lent socket has operations of its own, by which its loan is
found, and each network namespace has a table with its own data.
"""


def files(folder: Path) -> list[Path]:
    """Return the C files and headers in the folder, sorted."""
    return sorted(path for path in folder.rglob("*.[ch]") if not path.name.endswith(".mod.c"))


def compiled(folder: Path, tree: Path) -> Iterator[str]:
    """Yield the compiler's and sparse's complaints.  The folder is a copy, in which the modules are built."""
    done = make(folder, tree, "W=1", "C=2", f"CHECK={SPARSE.resolve()}")
    for line in (done.stdout + done.stderr).splitlines():
        if re.search(r"\b(warning|error)\b|\*\*\*|specified, but", line, re.IGNORECASE):
            yield line.replace(f"{folder}/", "")


def styled(folder: Path, tree: Path) -> Iterator[str]:
    """Yield checkpatch's complaints."""
    options = ["--no-tree", "--strict", "--terse", "--show-types", "--no-summary", "--ignore", ",".join(NOT_APPLICABLE)]
    command = ["perl", str(tree / "scripts/checkpatch.pl"), *options, "--file", *map(str, files(folder))]
    yield from _lines(command, folder)


def documented(folder: Path, tree: Path) -> Iterator[str]:
    """Yield kernel-doc's complaints."""
    command = [sys.executable, str(tree / "scripts/kernel-doc"), "-none", "-Wall", *map(str, files(folder))]
    yield from _lines(command, folder)


def _lines(command: list[str], folder: Path) -> Iterator[str]:
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    for line in (done.stdout + done.stderr).splitlines():
        if line.strip():
            yield line.replace(f"{folder}/", "")


def complaints(sources: Path = SOURCES) -> list[str]:
    """Run all checks on a copy of the modules' sources; an empty list is what is wanted."""
    tree = TREE.resolve()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch).resolve() / "modules"
        copytree(sources, folder)
        found = [*styled(folder, tree), *documented(folder, tree)]
        return [*found, *compiled(folder, tree)]


def unavailable() -> str | None:
    """Return the reason why the checks cannot run here, or None."""
    for path in (TREE, SPARSE):
        if not path.exists():
            return f"build/kernel/{path.name} is not there; `make kernel` makes it"
    return None


def main() -> int:
    """Run the checks, and return the exit status."""
    reason = unavailable()
    if reason:
        print(reason, file=sys.stderr)
        return 2
    found = complaints()
    for line in found:
        print(line)
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
