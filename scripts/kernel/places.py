"""Places of the test kernel: the user's cache, under a hash of everything it is made from, and links in build/kernel.

* An entry under a hash was made from the input that the hash covers.  Its file ``complete`` is written last; an entry
  without it is made again.  The network is not used here, so a fresh clone on the same machine finds a finished kernel
  offline.
* One process at a time makes an entry, under a lock beside it; the others wait and then use the entry.
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
"""Part of every hash.  Raise it when an entry's contents change although no file that the hash covers does."""


def cache_root() -> Path:
    """Return ``$XDG_CACHE_HOME/hsframework``, or ``~/.cache/hsframework``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "hsframework"


def patches() -> list[Path]:
    """Return the patches to the kernel, in the order in which they are applied."""
    return sorted(PATCHES.glob("*.patch"))


def _digest(*parts: bytes | str) -> str:
    whole = hashlib.sha256()
    for part in (LAYOUT, os.uname().machine, *parts):
        content = part.encode() if isinstance(part, str) else part
        whole.update(len(content).to_bytes(8, "big") + content)
    return whole.hexdigest()[:16]


class Entry:
    """One directory of the cache; ``made_from``: all input, for the hash."""

    def __init__(self, kind: str, *made_from: bytes | str) -> None:
        self.path = cache_root() / kind / _digest(*made_from)

    @property
    def _stamp(self) -> Path:
        return self.path / "complete"

    @property
    def complete(self) -> bool:
        """True if it has been made."""
        return self._stamp.exists()

    @property
    def facts(self) -> dict[str, object]:
        """Facts that were recorded when it was completed."""
        facts = json.loads(self._stamp.read_text())
        assert isinstance(facts, dict)
        return facts

    def finish(self, **facts: object) -> None:
        """Mark it as complete, and record facts."""
        draft = self.path / "complete.draft"
        draft.write_text(json.dumps(facts, indent=1) + "\n")
        draft.rename(self._stamp)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the entry's lock, and make its directory."""
        self.path.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_name(self.path.name + ".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def kernel_entry(series: str) -> Entry:
    """Return the entry of a kernel.

    It has ``linux`` (the program), ``tree`` (for out-of-tree modules) and ``modules`` (``lib/modules`` for modprobe).
    """
    covered = [content for patch in patches() for content in (patch.name, patch.read_bytes())]
    return Entry("kernel", series, CONFIGURATION.read_bytes(), *covered)


def root_entry(suite: str, packages: tuple[str, ...]) -> Entry:
    """Return the entry of a Debian system, with its files in ``tree``."""
    return Entry("root", suite, *sorted(packages))


def link(name: str, target: Path, links: Path = LINKS) -> None:
    """Make the link ``links``/NAME, by default in build/kernel, to ``target``."""
    place = links / name
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.{os.getpid()}")
    draft.symlink_to(target)
    draft.rename(place)
