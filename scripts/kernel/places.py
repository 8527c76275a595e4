"""Where the test kernel lives: in the user's cache, under a hash of all that it is made from, and linked from
build/kernel.

* What is in the cache under a hash was made from what the hash covers; ``complete`` is written last, and what has
  none is made again.  Nothing here asks the network, so a fresh clone on the same machine finds a finished kernel
  offline.
* One process makes an entry at a time (a lock beside it); the others wait for it and use it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LINKS = CHECKOUT / "build" / "kernel"
HERE = Path(__file__).resolve().parent
CONFIGURATION = HERE / "config"
PATCHES = HERE / "patches"
LAYOUT = "2"
"""To be raised when an entry's contents or the way to make them change and no file that the hash covers does."""


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/hsframework``, or ``~/.cache/hsframework``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "hsframework"


def patches() -> list[Path]:
    """The patches to the kernel, in the order in which they are applied."""
    return sorted(PATCHES.glob("*.patch"))


def _digest(*parts: bytes | str) -> str:
    whole = hashlib.sha256()
    for part in (LAYOUT, os.uname().machine, *parts):
        content = part.encode() if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()[:16]


class Entry:
    """One directory of the cache.  ``facts`` is what was written down when it was completed."""

    def __init__(self, kind: str, *made_from: bytes | str) -> None:
        self.path = cache_root() / kind / _digest(*made_from)

    @property
    def _stamp(self) -> Path:
        return self.path / "complete"

    @property
    def complete(self) -> bool:
        return self._stamp.exists()

    @property
    def facts(self) -> dict[str, object]:
        facts = json.loads(self._stamp.read_text())
        assert isinstance(facts, dict)
        return facts

    def finish(self, **facts: object) -> None:
        draft = self.path / "complete.draft"
        draft.write_text(json.dumps(facts, indent=1) + "\n")
        draft.rename(self._stamp)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(self.path.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def kernel_entry(series: str) -> Entry:
    """``linux`` (the program), ``tree`` (for out-of-tree modules), ``modules`` (``lib/modules`` for modprobe)."""
    covered = [content for patch in patches() for content in (patch.name, patch.read_bytes())]
    return Entry("kernel", series, CONFIGURATION.read_bytes(), *covered)


def root_entry(suite: str, packages: tuple[str, ...]) -> Entry:
    """``tree``: a Debian system's files."""
    return Entry("root", suite, *sorted(packages))


def link(name: str, target: Path) -> None:
    """build/kernel/NAME → TARGET."""
    place = LINKS / name
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    draft.symlink_to(target)
    draft.rename(place)
