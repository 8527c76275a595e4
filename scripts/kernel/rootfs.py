"""The Debian system with the programs of the test kernel: tlshd, nfs-utils, nvme-cli and peer programs for tests.

debootstrap makes it, as root; it is then used read-only, under an overlay.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

from scripts.kernel.debian import KEYRING, Unable, mirror
from scripts.kernel.places import Entry

SUITE = "forky"
"""First release with tlshd 1.4, and with nfs-utils and nvme-cli as new as the kernel."""
PACKAGES = (
    "ca-certificates",
    "e2fsprogs",
    "gnutls-bin",
    "iproute2",
    "keyutils",
    "kmod",
    "ktls-utils",
    "nbdkit",
    "netbase",
    "nfs-common",
    "nfs-kernel-server",
    "nvme-cli",
    "openssl",
    "procps",
    "python3",
)
UNUSED = ("var/cache/apt/archives", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
"""Directories that are deleted."""
_SCRIPTS = Path("/usr/share/debootstrap/scripts")


def build(entry: Entry) -> None:
    """Make the Debian system and complete its cache entry.  Raises Unable."""
    started = time.monotonic()
    tree = entry.path / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    # An older debootstrap has no script for a newer release; the scripts of all releases are the same.
    script = next((str(_SCRIPTS / name) for name in (SUITE, "sid") if (_SCRIPTS / name).exists()), "")
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    command += [f"--keyring={KEYRING}"] if KEYRING.exists() else []
    command += [SUITE, str(tree), mirror()] + ([script] if script else [])
    log = entry.path / "debootstrap.log"
    print(f"kernel: making a Debian {SUITE} root; about a minute ({log})", flush=True)
    with open(log, "w") as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False)
    if done.returncode:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise Unable(f"debootstrap failed; the end of {log}:\n{tail}")
    for directory in UNUSED:
        shutil.rmtree(tree / directory, ignore_errors=True)
    for mount_point in ("run", "tmp"):
        (tree / mount_point).mkdir(parents=True, exist_ok=True)
    entry.finish(suite=SUITE, seconds=round(time.monotonic() - started))
