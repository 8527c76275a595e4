"""Debian packages with the programs and headers that the build of kernel, roots and images needs."""

from __future__ import annotations

import os
import shutil
import subprocess

from scripts.kernel.debian import Unable

COMMANDS = {
    "bc": "bc",
    "bison": "bison",
    "debootstrap": "debootstrap",
    "depmod": "kmod",
    "dpkg-deb": "dpkg",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
    "mke2fs": "e2fsprogs",
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


def install() -> None:
    """Install what is missing.  Raises Unable."""
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
