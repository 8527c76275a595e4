"""A root of a Debian release that may be changed: a layer over the cached one, which stays as it is.

Each command runs in mount, process and network namespaces of its own, and nothing of it is left at its end.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from scripts.guests.releases import RELEASES

PATIENCE = 300
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}
ROOTS = {release.suite: release.root for release in RELEASES}


def unavailable(suite: str) -> str | None:
    """Return the reason why there is no root of a release here, or None."""
    if os.geteuid() != 0:
        return "chroot takes root"
    if not ROOTS[suite].complete:
        return f"there is no root of Debian {suite}; `make guests` makes it (about two minutes, once a machine)"
    return None


class Chroot:
    """A root that may be changed.

    ``folder``: for the layer; ``bind``: a folder of this machine that is at the same path in the root.  ``said``: the
    output of the last installation.
    """

    def __init__(self, suite: str, folder: Path, *, bind: Path | None = None) -> None:
        self.suite = suite
        self.said = ""
        self._upper, self._work = (folder / name for name in ("upper", "work"))
        for path in (self._upper, self._work):
            path.mkdir(parents=True, exist_ok=True)
        self._root = Path("/mnt")  # in a mount namespace of its own; not below a folder that the root itself shows
        layers = f"lowerdir={ROOTS[suite].path / 'tree'},upperdir={self._upper},workdir={self._work}"
        self._enter = (
            f"mount -t overlay overlay -o {shlex.quote(layers)} {self._root} && "
            f"mount -t proc proc {self._root}/proc && mount -t devpts devpts {self._root}/dev/pts && "
            f"{_bound(bind, self._root)}"
            f'ip link set lo up && exec chroot {self._root} bash -c "$1"'
        )

    def add(self, path: str, text: str) -> None:
        """Write a program into the root."""
        target = self._upper / path
        self._make(target.parent)
        target.write_text(text)
        target.chmod(0o755)

    def copy(self, files: Iterable[Path], folder: str) -> None:
        """Copy files into a folder of the root, which holds no others then."""
        shutil.rmtree(self._upper / folder, ignore_errors=True)
        self._make(self._upper / folder)
        for file in files:
            shutil.copy(file, self._upper / folder)

    def command(self, command: str) -> list[str]:
        """Return the command that runs a command of bash's in the root; ``ENVIRONMENT`` is its environment."""
        unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        return [*unshare, "bash", "-c", self._enter, "bash", command]

    def run(self, command: str, *, status: int = 0) -> str:
        """Run a command of bash's and return its output.  Raises AssertionError unless it ends with ``status``."""
        finished = subprocess.run(
            self.command(command),
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert finished.returncode == status, f"{command}\n{finished.stdout}"
        return finished.stdout

    def _make(self, folder: Path) -> None:
        """Make a folder of the upper layer with the mode that each part has in the lower one."""
        folder.mkdir(parents=True, exist_ok=True)
        for path in (folder, *folder.parents):
            if path.is_relative_to(self._upper):
                path.chmod(0o755)


def _bound(folder: Path | None, root: Path) -> str:
    """Return the part of the script that binds a folder into the root."""
    if folder is None:
        return ""
    place = shlex.quote(f"{root}{folder}")
    return f"mkdir -p {place} && mount --bind {shlex.quote(str(folder))} {place} && "
