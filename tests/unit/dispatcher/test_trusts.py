"""Trust files: slots and their contents."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import Any

import pytest

from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.interface import Trust
from hsframework.local.trustfile import read_trust_file
from tests.support.running import open_fds

ONE, TWO, THREE = (Trust((name,)) for name in (b"one", b"two", b"three"))


def test_slots() -> None:
    """A trust keeps its slot; the least recently used one is emptied for another, under a new generation."""
    with contextlib.closing(TrustFiles(slots=2)) as files:
        one, two = files.file(ONE), files.file(TWO)
        assert files.file(ONE) is one
        three = files.file(THREE)
        assert three.number == two.number != one.number
        assert three.generation > two.generation
        assert read_trust_file(three.fd, three.size) == THREE


@pytest.mark.parametrize("call", ["create_trust_file", "_mapped"])
def test_a_file_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It costs no slot and no file descriptor, and the next attempt makes it."""
    with contextlib.closing(TrustFiles(slots=2)) as files:
        kept = [files.file(ONE), files.file(TWO)]
        before = open_fds(os.getpid())

        def fail(*_: object) -> None:
            raise OSError(errno.ENOMEM, "no memory")

        with monkeypatch.context() as patch:
            patch.setattr(f"hsframework.dispatcher.keys.trusts.{call}", fail)
            with pytest.raises(OSError, match="no memory"):
                files.file(THREE)
        assert open_fds(os.getpid()) == before
        assert [files.file(ONE), files.file(TWO)] == kept
        assert files.file(THREE).number == kept[0].number


def test_a_file_is_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its pages is read when it is made, and stays mapped until it is closed."""
    pages: list[int] = []

    class Mapping(mmap.mmap):
        def __getitem__(self, offset: Any) -> Any:
            pages.append(offset)
            return super().__getitem__(offset)

    monkeypatch.setattr("hsframework.dispatcher.keys.trusts.mmap.mmap", Mapping)
    with contextlib.closing(TrustFiles()) as files:
        made = files.file(Trust((bytes(2 * mmap.PAGESIZE),)))
        assert pages == [0, mmap.PAGESIZE, 2 * mmap.PAGESIZE]
        assert made.mapping is not None
        assert not made.mapping.closed
    assert made.mapping.closed
