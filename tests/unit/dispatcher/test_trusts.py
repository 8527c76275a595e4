"""Trust files: slots and their contents."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest

from hsframework.dispatcher.keys import given, trusts as trusts_module
from hsframework.dispatcher.keys.given import GivenTrust, GivenTrusts
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.errors import RequestRefused
from hsframework.interface import Trust
from hsframework.local.trustfile import create_trust_file, encode_trust, read_trust_file
from tests.support.running import open_fds

ONE, TWO, SIX = (Trust((name,)) for name in (b"one", b"two", b"six"))


SIZE = len(encode_trust(ONE)) + trusts_module._ITEM
"""Bytes that ONE and TWO take in their slots."""


@pytest.fixture
def files() -> Iterator[TrustFiles]:
    """Trust files with room for three small trusts, and no fd left of them."""
    before = open_fds(os.getpid())
    made = TrustFiles(3 * SIZE + 2)
    yield made
    made.close()
    assert open_fds(os.getpid()) == before


def small(number: int) -> Trust:
    return Trust((b"%03d" % number,))


def test_a_trust_has_one_slot_and_one_file(files: TrustFiles) -> None:
    """The numbers begin with 1; the content is the trust's."""
    trusts = [small(number) for number in range(3)]
    slots = [files.slot(trust) for trust in trusts]
    assert [slot.number for slot in slots] == [1, 2, 3]
    assert len({slot.generation for slot in slots}) == 3
    assert [files.slot(trust) for trust in trusts] == slots
    made = [files.file(trust) for trust in trusts]
    assert [files.file(trust) for trust in trusts] == made
    assert [read_trust_file(it.fd, it.size) for it in made] == trusts


def test_the_slot_that_was_used_least_recently_is_used_again(files: TrustFiles) -> None:
    """It gets a new generation, so that agents read it anew; the old file is closed, and the others stay."""
    first, second, third = (files.slot(small(number)) for number in range(3))
    files.slot(small(0))
    before = open_fds(os.getpid())
    fourth = files.slot(small(4))
    assert open_fds(os.getpid()) == before
    assert fourth.number == second.number
    assert fourth.generation > third.generation
    assert files.slot(small(0)) is first
    assert files.slot(small(2)) is third
    assert files.slot(small(1)).number == fourth.number


def test_a_large_trust_takes_the_room_of_several(files: TrustFiles) -> None:
    """As many slots are emptied as it needs; their numbers are used again, and none is used twice."""
    for number in range(3):
        files.slot(small(number))
    large = Trust((b"x" * (2 * SIZE - trusts_module._ITEM - 8),))
    assert files.slot(large).number in (1, 2)
    assert files.slot(small(2)).number == 3
    files.slot(large)
    numbers = [files.slot(trust).number for trust in (small(5), large)]
    assert len(set(numbers)) == 2
    assert max(numbers) <= 3


def test_what_trusts_share_counts_once() -> None:
    """A hundred trusts with one large authority among their own have the room of little more than one."""
    bundle = b"b" * 10_000
    with contextlib.closing(TrustFiles(12_000 + 100 * (SIZE + trusts_module._ITEM))) as files:
        slots = [files.slot(Trust((bundle, b"%03d" % number))) for number in range(100)]
        assert len({slot.number for slot in slots}) == 100
        assert [files.slot(Trust((bundle, b"%03d" % number))) for number in range(100)] == slots


def test_shared_items_are_forgotten_with_the_last() -> None:
    """An item that no other trust in a slot has counts anew."""
    bundle = b"b" * 10_000
    with contextlib.closing(TrustFiles(10_200)) as files:
        files.slot(Trust((bundle,)))
        files.slot(Trust((bundle, b"mine")))
        files.slot(Trust((b"c" * 10_100,)))
        assert list(files._own._shared) == [b"c" * 10_100]
        files.slot(Trust((bundle,)))
        assert list(files._own._shared) == [bundle]


def test_five_hundred_trusts_have_a_slot_each_and_few_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is made once for each trust, as long as an agent has it; 64 are open, and others are made again."""
    made: list[Trust] = []

    def create(trust: Trust) -> tuple[int, int]:
        made.append(trust)
        return create_trust_file(trust)

    monkeypatch.setattr(trusts_module, "create_trust_file", create)
    before = open_fds(os.getpid())
    with contextlib.closing(TrustFiles()) as files:
        for number in (*range(500), *range(500)):
            files.slot(small(number))
        assert len(made) == 500
        assert open_fds(os.getpid()) == before + 2 * trusts_module.FILES  # a mapping has an fd of its own
        again = files.file(small(0))
        assert read_trust_file(again.fd, again.size) == small(0)
        assert len(made) == 501
    assert open_fds(os.getpid()) == before


@pytest.mark.parametrize("call", ["create_trust_file", "_mapped"])
def test_a_file_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """It costs no slot and no file descriptor, and the next attempt makes it."""
    with contextlib.closing(TrustFiles(2 * SIZE)) as files:
        kept = [files.slot(ONE), files.slot(TWO)]
        before = open_fds(os.getpid())

        def fail(*_: object) -> None:
            raise OSError(errno.ENOMEM, "no memory")

        with monkeypatch.context() as patch:
            patch.setattr(f"hsframework.dispatcher.keys.trusts.{call}", fail)
            with pytest.raises(OSError, match="no memory"):
                files.slot(SIX)
        assert open_fds(os.getpid()) == before
        assert [files.slot(ONE), files.slot(TWO)] == kept
        assert files.slot(SIX).number == kept[0].number


def test_consumers_files_have_room_of_their_own() -> None:
    """The files of consumers push out each other, and none of the configuration's."""
    size = len(encode_trust(ONE))
    with contextlib.closing(TrustFiles(2 * SIZE, size)) as files:
        own = [files.slot(ONE), files.slot(TWO)]
        brought = [GivenTrust(*create_trust_file(trust), 1000) for trust in (ONE, SIX)]
        sent = [files.slot(trust) for trust in brought]
        assert [slot.number for slot in sent] == [3, 3]
        assert sent[1].generation > sent[0].generation
        file = files.file(brought[1])
        assert read_trust_file(file.fd, file.size) == SIX
        assert [files.slot(ONE), files.slot(TWO)] == own


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
