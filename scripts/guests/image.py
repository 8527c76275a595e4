"""Disk images of the guests: a release's files, the test kernel's modules, and what a guest needs to be told apart.

An image is never written: a boot has a copy-on-write file over it.  It differs from an installed Debian in this:

* ``guest-agent.service`` runs what the tests ask for, from a directory of the host that it mounts at /run/host.
* There is no login on the console, which is the kernel's log, and no daily run of apt, since there is no network.
* The machine id is fixed, so that a first boot does not apply presets.
* The journal goes to a serial line too, where the host keeps it.
* tlshd, where the release has it, is installed and disabled: a boot enables the handshake service that it is about.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from scripts.guests.releases import Release
from scripts.kernel.debian import Unable
from scripts.kernel.places import Entry

SIZE = "3G"
"""Of the file system.  The file is sparse."""
AGENT = Path(__file__).with_name("agent.py")
FILES = {
    "etc/fstab": "",
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1 localhost guest\n::1 localhost\n",
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/systemd/journald.conf.d/guest.conf": "[Journal]\nStorage=persistent\nForwardToConsole=yes\n"
    "TTYPath=/dev/ttyS1\nMaxLevelConsole=debug\nRateLimitBurst=0\n",
    "etc/systemd/system/guest-agent.service": "[Unit]\nDescription=Runs what the tests ask for\n"
    "DefaultDependencies=no\nAfter=local-fs.target\nConflicts=shutdown.target\nBefore=shutdown.target\n\n"
    "[Service]\nExecStart=/usr/bin/python3 /usr/local/lib/guest-agent.py /dev/ttyS0\nTimeoutStopSec=2\n"
    "KillMode=mixed\nOOMScoreAdjust=-1000\n",
}
LINKS = {
    "etc/systemd/system/apt-daily.timer": "/dev/null",
    "etc/systemd/system/apt-daily-upgrade.timer": "/dev/null",
    "etc/systemd/system/getty.target": "/dev/null",
    "etc/systemd/system/sysinit.target.wants/guest-agent.service": "../guest-agent.service",
}
ABSENT = ("etc/systemd/system/remote-fs.target.wants/tlshd.service",)


def image_entry(release: Release, kernel: Entry) -> Entry:
    """Return the cache entry of an image, ``root.img``."""
    words = [word for name, content in [*FILES.items(), *LINKS.items()] for word in (name, content)]
    return Entry("image", SIZE, release.root.path.name, kernel.path.name, AGENT.read_bytes(), *words, *ABSENT)


def _fill(tree: Path, modules: Path) -> None:
    """Add our files to a tree of hard links.  A file that is there is replaced, never written."""
    for name in (*FILES, *LINKS, *ABSENT):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).unlink(missing_ok=True)
    for name, text in FILES.items():
        (tree / name).write_text(text)
    for name, target in LINKS.items():
        (tree / name).symlink_to(target)
    shutil.copy(AGENT, tree / "usr/local/lib/guest-agent.py")
    # The links to the kernel's tree do not resolve in the guest.
    ignored = shutil.ignore_patterns("build", "source")
    shutil.copytree(modules / "lib" / "modules", tree / "usr/lib/modules", dirs_exist_ok=True, ignore=ignored)


def build(release: Release, kernel: Entry, entry: Entry) -> None:
    """Make an image and complete its cache entry.  Raises Unable."""
    started = time.monotonic()
    # Beside the release's files, since hard links cannot leave their file system.
    with tempfile.TemporaryDirectory(dir=release.root.path) as scratch:
        tree = Path(scratch) / "tree"
        subprocess.run(["cp", "--archive", "--link", release.root.path / "tree", tree], check=True)
        _fill(tree, kernel.path / "modules")
        draft = entry.path / "root.draft"
        draft.unlink(missing_ok=True)
        command = ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(tree), str(draft), SIZE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unable(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    draft.rename(entry.path / "root.img")
    entry.finish(suite=release.suite, seconds=round(time.monotonic() - started, 1))
