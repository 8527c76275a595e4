"""Trust files: slots and their contents."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import Any

import pytest

from hsframework.dispatcher.keys import given
from hsframework.dispatcher.keys.given import GivenTrust, GivenTrusts
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.errors import RequestRefused
from hsframework.interface import Trust
from hsframework.local.trustfile import create_trust_file, read_trust_file
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


def test_consumers_files_have_slots_of_their_own() -> None:
    """The files of consumers push out each other, and none of the configuration's."""
    with contextlib.closing(TrustFiles(slots=2, given_slots=1)) as files:
        own = [files.file(ONE), files.file(TWO)]
        brought = [GivenTrust(*create_trust_file(trust), 1000) for trust in (ONE, THREE)]
        sent = [files.file(trust) for trust in brought]
        assert [file.number for file in sent] == [3, 3]
        assert sent[1].generation > sent[0].generation
        assert read_trust_file(sent[1].fd, sent[1].size) == THREE
        assert [files.file(ONE), files.file(TWO)] == own


def test_one_memfd_is_one_trust() -> None:
    """Over several links it is one; a file is closed when nobody names it, and so is each that is refused."""
    before = open_fds(os.getpid())
    trusts = GivenTrusts(os.close)
    fd, size = create_trust_file(ONE)
    first = trusts.take(os.dup(fd), size, 1000)
    assert trusts.take(os.dup(fd), size, 1001) is first
    for wrong, at in ((os.dup(fd), size + 1), (os.open("/dev/null", os.O_RDONLY), 0)):
        with pytest.raises(RequestRefused) as caught:
            trusts.take(wrong, at, 1000)
        assert caught.value.errno == errno.EINVAL
    del first
    os.close(fd)
    assert open_fds(os.getpid()) == before


def test_files_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    """One user has as many as the limit says, all users together too; one that is closed makes room."""
    monkeypatch.setattr(given, "MAX_GIVEN", 3)
    monkeypatch.setattr(given, "MAX_GIVEN_PER_USER", 2)
    before = open_fds(os.getpid())
    trusts = GivenTrusts(os.close)

    def take(user: int) -> GivenTrust:
        fd, size = create_trust_file(ONE)
        return trusts.take(fd, size, user)

    held = [take(1), take(1)]
    for user in (1, 2):
        if user == 2:
            held.append(take(2))
        with pytest.raises(RequestRefused, match="large trusts") as caught:
            take(user)
        assert caught.value.errno == errno.EAGAIN
    held.pop()
    held.append(take(2))
    held.clear()
    assert open_fds(os.getpid()) == before


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
