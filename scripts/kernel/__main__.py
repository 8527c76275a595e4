"""The command of ``make kernel``: makes the test kernel and its Debian root, unless cached, and links build/kernel.

    python3 -m scripts.kernel            make the missing parts
    python3 -m scripts.kernel --print    print the place of each part, and make nothing

Environment: KERNEL_SERIES (7.3), KERNEL_JOBS (the number of processors), DEBIAN_MIRROR.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from scripts.kernel import dependencies, linux, modules, rootfs, sparse
from scripts.kernel.debian import Unable
from scripts.kernel.places import LINKS, Entry, kernel_entry, link, root_entry

SERIES = os.environ.get("KERNEL_SERIES", "7.3")


def _kernel(entry: Entry) -> None:
    with entry.locked():
        if not entry.complete:
            dependencies.install()
            linux.build(SERIES, entry, int(os.environ.get("KERNEL_JOBS", os.cpu_count() or 1)))
    for name in ("linux", "tree", "modules", "config"):
        link(name, entry.path / name)


def main(arguments: list[str]) -> int:
    """Run the command, and return its exit status."""
    kernel, root = kernel_entry(SERIES), root_entry(rootfs.SUITE, rootfs.PACKAGES)
    if arguments == ["--print"]:
        for name, entry in (("kernel", kernel), ("root", root)):
            print(name, entry.path, entry.facts if entry.complete else "not made")
        return 0
    if os.uname().machine != "x86_64":
        print(f"User-Mode Linux runs on x86_64, and this machine is {os.uname().machine}", file=sys.stderr)
        return 1
    try:
        _kernel(kernel)
        modules.build_all(kernel)
        rootfs.make(root)
        link("root", root.path / "tree")
    except Unable as error:
        print(error, file=sys.stderr)
        return 1
    try:
        sparse.make(root.path / "tree")
    except Unable as error:  # only the check of our modules' sources needs it
        print(f"{error}\nmake check-modules will not run.", file=sys.stderr)
    print(
        f"Linux {kernel.facts['version']} is {Path(os.path.relpath(LINKS / 'linux'))}, its root Debian {rootfs.SUITE}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
