"""Every Python of this machine that the project supports, for what differs between them.

They have none of the project's dependencies but the pure ones of this environment, so what is run in them imports
little.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import structlog

ROOT = Path(__file__).parents[2]
OLDEST = 11
NEWEST = 20
"""Further minor versions of Python 3 than there are."""

_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


@functools.cache
def interpreters() -> dict[str, str]:
    """Return one interpreter for each version, ``{"3.12": path}``; this one is among them."""
    found = {"{}.{}".format(*sys.version_info[:2]): sys.executable}
    for name in (f"python3.{minor}" for minor in range(OLDEST, NEWEST)):
        installed = sorted(_pyenv().glob(f"versions/*/bin/{name}"))
        for path in filter(None, (shutil.which(name), *map(str, installed))):
            version = _version(path)
            if version == name.removeprefix("python"):
                found.setdefault(version, path)
    return found


def run_in(interpreter: str, program: str) -> subprocess.CompletedProcess[str]:
    """Run a program that imports hsframework's own modules, and structlog."""
    path = os.pathsep.join((str(ROOT), str(Path(structlog.__file__).parents[1])))
    words = [interpreter, "-W", "error", "-c", program]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60)


def _pyenv() -> Path:
    return Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")


def _version(path: str) -> str:
    """Return what an interpreter says that it is; empty for one that does not run, as pyenv's shims of others."""
    ended = subprocess.run([path, "-c", _VERSION], capture_output=True, text=True)
    return ended.stdout.strip() if ended.returncode == 0 else ""
