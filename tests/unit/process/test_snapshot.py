"""Snapshots that a process leaves for its successor: what comes back, and where it lies meanwhile."""

from __future__ import annotations

import enum
import fcntl
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hsframework.interface import CrlCheck, PresharedKey, Secret
from hsframework.process.kept import Shelf
from hsframework.process.snapshot import TRUSTED, freeze, pin, thaw

LOCKED = """
import os, pathlib, re
from hsframework.configuration.settings import MemorySettings
from hsframework.process.lock import lock_memory
from hsframework.process.snapshot import freeze, pin
lock_memory(MemorySettings(lock=True))
fd = freeze("vault", b"x" * 50_000)
kept = pin(fd)
maps = pathlib.Path("/proc/self/smaps").read_text()
(found,) = re.findall(r"memfd:hsframework-vault.*?Locked: +(\\d+) kB.*?VmFlags: ([a-z ]+)", maps, re.DOTALL)
print(int(found[0]) * 1024 >= len(kept), "dd" in found[1].split())
"""


def test_what_is_frozen_comes_back() -> None:
    """With its secrets, and its descriptor is closed."""
    key = PresharedKey(b"alice", Secret(b"k" * 32))
    fd = freeze("vault", {("psks", "a"): (key,)})
    assert thaw(fd) == {("psks", "a"): (key,)}
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_others_types_do_not_come_back() -> None:
    """Nor a descriptor that is not sealed."""
    with pytest.raises(ValueError, match=r"a snapshot has no fcntl\."):
        thaw(freeze("odd", fcntl.flock))
    with pytest.raises(ValueError, match="not sealed"):
        thaw(os.memfd_create("open", os.MFD_ALLOW_SEALING))


@pytest.mark.skipif(os.geteuid() != 0, reason="memory is locked by root")
def test_a_pinned_snapshot_is_locked() -> None:
    """Each page of it, where the process locks its memory; a core dump leaves it out."""
    done = subprocess.run([sys.executable, "-c", LOCKED], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("True True\n", "")


def test_other_descriptors_are_not_pinned() -> None:
    """A socket, and an empty file."""
    near, far = os.pipe()
    assert pin(near) is pin(far) is pin(os.memfd_create("empty")) is None


def test_the_supervisors_copies_are_pinned_and_no_child_has_them() -> None:
    """From their coming to their replacement; a child that closes the shelf has no map."""
    shelf = Shelf()
    for round_ in range(3):
        fd = freeze("vault", b"x" * 10_000 * (round_ + 1))
        shelf._act({"FDNAME": "vault"}, [fd])
        assert _maps() == 1
    shelf._act({"FDNAME": "vault"}, [])
    assert _maps() == 0
    shelf._act({"FDNAME": "vault"}, [freeze("vault", b"x")])
    shelf.close()
    assert _maps() == 0


def _maps() -> int:
    return len(re.findall("memfd:hsframework-vault", Path("/proc/self/maps").read_text()))


class Oldest(enum.StrEnum):
    """An enumeration whose members Python 3.11.2 pickles as attributes of their class."""

    ONE = "one"

    def __reduce_ex__(self, protocol: object) -> Any:
        return getattr, (Oldest, self.name)


def test_a_member_of_an_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes back by its value, whatever this Python would make of it: no snapshot has getattr."""
    monkeypatch.setattr("hsframework.process.snapshot.TRUSTED", TRUSTED | {"tests"})
    assert thaw(freeze("test", [Oldest.ONE, CrlCheck.REQUIRE])) == [Oldest.ONE, CrlCheck.REQUIRE]
