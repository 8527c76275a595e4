"""The command of ``make kernel``: makes the test kernel and its Debian root, unless cached, and links build/kernel.

    python3 -m scripts.kernel            make the missing parts
    python3 -m scripts.kernel --print    print the place of each part, and make nothing

Environment: KERNEL_SERIES (7.3), KERNEL_JOBS (the number of processors), DEBIAN_MIRROR.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.kernel import linux, modules, rootfs, sparse
from scripts.kernel.debian import Unable
from scripts.kernel.places import LINKS, Entry, kernel_entry, link, root_entry

SERIES = os.environ.get("KERNEL_SERIES", "7.3")
COMMANDS = {
    "bc": "bc",
    "bison": "bison",
    "debootstrap": "debootstrap",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "patch": "patch",
    "perl": "perl",
    "strip": "binutils",
    "xz": "xz-utils",
}
"""Programs that the build needs, and the Debian package of each."""
HEADERS = {"libelf.h": "libelf-dev", "openssl/opensslv.h": "libssl-dev", "stdio.h": "libc6-dev"}
"""C headers that the build needs, and the Debian package of each."""


def _missing() -> list[str]:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = [package for command, package in COMMANDS.items() if not shutil.which(command, path=path)]
    if "gcc" in found:
        return found + list(HEADERS.values())
    for header, package in HEADERS.items():
        probe = ["gcc", "-E", "-x", "c", "-"]
        source = f"#include <{header}>\n"
        if subprocess.run(probe, input=source, text=True, capture_output=True, check=False).returncode:
            found.append(package)
    return found


def _install_dependencies() -> None:
    missing = _missing()
    if not missing:
        return
    names = " ".join(missing)
    if os.geteuid() != 0:
        raise Unable(
            f"These Debian packages are needed to build the test kernel and not installed: {names}\n"
            f"Run this once, then try again:\n    sudo apt-get install {names}"
        )
    print(f"kernel: installing Debian packages: {names}", flush=True)
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    for command in (install, ["apt-get", "update", "-qq"], install):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if command is install and not done.returncode:
            return
    raise Unable(f"{' '.join(install)} failed:\n{done.stdout}{done.stderr}")


def _kernel(entry: Entry) -> None:
    with entry.locked():
        if not entry.complete:
            _install_dependencies()
            linux.build(SERIES, entry, int(os.environ.get("KERNEL_JOBS", os.cpu_count() or 1)))
    for name in ("linux", "tree", "modules", "config"):
        link(name, entry.path / name)


def _root(entry: Entry) -> None:
    with entry.locked():
        if not entry.complete:
            if os.geteuid() != 0:
                raise Unable(
                    "The test kernel's Debian root is made by debootstrap, which must be root.  Run this once:\n"
                    f"    sudo --preserve-env=HOME,XDG_CACHE_HOME {sys.executable} -m scripts.kernel"
                )
            _install_dependencies()
            rootfs.build(entry)
    link("root", entry.path / "tree")


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
        _root(root)
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
