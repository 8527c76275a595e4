"""sparse, the kernel's semantic checker, as new as the kernel needs it: Debian's newest, in the cache.

The kernel's headers use what the sparse of a stable Debian does not know.  The program is Debian's package, unpacked
and not installed, with the C library of the test kernel's Debian root beside it, so that it runs on any machine.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from scripts.kernel.debian import Unable, private_apt
from scripts.kernel.places import Entry, cache_root, link

SUITE = "forky"
LIBRARIES = ("lib64/ld-linux-x86-64.so.2", "usr/lib/x86_64-linux-gnu/libc.so.6")
_RUN = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/{}" --library-path "$here" "$here/program" "$@"
"""


def entry() -> Entry:
    """Return the cache entry; ``sparse`` in it is the command."""
    return Entry("sparse", SUITE)


def build(made: Entry, root: Path) -> None:
    """Unpack sparse and complete its cache entry.  ``root``: the files of a Debian system.  Raises Unable."""
    held, apt = private_apt((SUITE,), cache_root())
    with held:
        apt.update()
        version = apt.newest("sparse")
        if version is None:
            raise Unable(f"sparse is not in {SUITE}")
        unpacked = Path(held.name) / "unpacked"
        subprocess.run(["dpkg-deb", "--extract", apt.download("sparse", version), unpacked], check=True)
        shutil.copy(unpacked / "usr/bin/sparse", made.path / "program")
    for library in LIBRARIES:
        shutil.copy(root / library, made.path)
    command = made.path / "sparse"
    command.write_text(_RUN.format(Path(LIBRARIES[0]).name))
    command.chmod(0o755)
    done = subprocess.run([command, "--version"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unable(f"sparse {version} does not run: {done.stdout}{done.stderr}")
    made.finish(version=version)


def make(root: Path) -> None:
    """Make sparse unless it is in the cache, and link it as build/kernel/sparse.  Raises Unable."""
    made = entry()
    with made.locked():
        if not made.complete:
            build(made, root)
    link("sparse", made.path / "sparse")
