"""The trust file: whole, cut at each byte, and in memory that is not sealed."""

from __future__ import annotations

import fcntl
import itertools
import os
import struct
from collections.abc import Iterator

import pytest

from hsframework.errors import MessageError
from hsframework.interface import ClientUsage, CrlCheck, Trust
from hsframework.local import trustfile
from hsframework.local.trustfile import check_given, create_trust_file, decode_trust, encode_trust, read_trust_file

TRUST = Trust((b"anchor", b"", b"another one"), (b"list", b"second list"))
WHOLE = encode_trust(TRUST)
ALL_SEALS = (fcntl.F_SEAL_SEAL, fcntl.F_SEAL_SHRINK, fcntl.F_SEAL_GROW, fcntl.F_SEAL_WRITE)


@pytest.fixture(autouse=True)
def _no_fd_is_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


def test_records_are_as_documented() -> None:
    """Kind and length in the host's byte order, then the bytes, anchors first."""
    assert encode_trust(Trust((b"aa",), (b"rrr",))) == struct.pack("=II2sII3s", 1, 2, b"aa", 2, 3, b"rrr")
    assert decode_trust(WHOLE) == TRUST
    assert decode_trust(b"") == Trust(())


def test_a_trust_that_was_cut_is_refused() -> None:
    """At each byte but those between two records, where it is a shorter trust."""
    ends = {len(encode_trust(Trust(TRUST.anchors[:count]))) for count in range(4)}
    ends |= {len(encode_trust(Trust(TRUST.anchors, TRUST.crls[:count]))) for count in range(3)}
    for length in range(len(WHOLE) + 1):
        if length in ends:
            decode_trust(WHOLE[:length])
        else:
            with pytest.raises(MessageError, match="cut off"):
                decode_trust(WHOLE[:length])


@pytest.mark.parametrize("kind", [0, 6])
def test_records_of_an_unknown_kind_are_refused(kind: int) -> None:
    """They are not passed over: an anchor or a list would be missing."""
    with pytest.raises(MessageError, match="unknown kind"):
        decode_trust(WHOLE + struct.pack("=II", kind, 0))


@pytest.mark.parametrize(
    "trust",
    [
        TRUST,
        Trust(()),
        Trust((), admit=()),
        Trust((b"a",), admit=("dns:a", "subject:O=\u00e4")),
        *(Trust((b"a",), (), *checks) for checks in itertools.product(CrlCheck, ClientUsage)),
    ],
)
def test_there_and_back(trust: Trust) -> None:
    """A file is read by its fd and size; both stay as they were."""
    fd, size = create_trust_file(trust)
    assert os.fstat(fd).st_size == size == len(encode_trust(trust))
    assert read_trust_file(fd, size) == read_trust_file(fd, size) == trust
    os.close(fd)


@pytest.mark.parametrize("missing", ALL_SEALS)
def test_memory_without_one_of_the_seals_is_refused(missing: int) -> None:
    """Its sender could change it while it is read."""
    fd = os.memfd_create("trust", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, WHOLE)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sum(ALL_SEALS) - missing)
    with pytest.raises(MessageError, match="not sealed"):
        read_trust_file(fd, len(WHOLE))
    os.close(fd)


def test_an_admission_list_that_is_not_whole_is_refused() -> None:
    """A part of a list, two lists, or bytes that are no text: none of them becomes a trust that admits everybody."""
    whole = encode_trust(Trust((), admit=("dns:a.example", "dns:b.example")))
    (length,) = struct.unpack_from("=I", whole, 4)
    cut = struct.pack("=II", 5, length - 1) + whole[8:-1]
    for content, words in (
        (cut, "cut off"),
        (whole + whole, "more than one"),
        (struct.pack("=II2s", 5, 2, b"\xff\n"), "UTF-8"),
    ):
        with pytest.raises(MessageError, match=words):
            decode_trust(content)


def test_another_size_or_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte more or less than the message says, more than the limit, and what is no memfd."""
    fd, size = create_trust_file(TRUST)
    for wrong in (size - 1, size + 1):
        with pytest.raises(MessageError, match="not of the size"):
            read_trust_file(fd, wrong)
    monkeypatch.setattr(trustfile, "MAX_SIZE", size)
    assert read_trust_file(fd, size) == TRUST
    monkeypatch.setattr(trustfile, "MAX_SIZE", size - 1)
    with pytest.raises(MessageError, match="not of the size"):
        read_trust_file(fd, size)
    os.close(fd)
    reading, writing = os.pipe()
    with pytest.raises(MessageError, match="comes in a memfd"):
        read_trust_file(reading, size)
    os.close(reading)
    os.close(writing)


def test_a_file_that_cannot_be_sealed_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is passed on."""

    def refused(*_: object) -> int:
        raise PermissionError

    monkeypatch.setattr(fcntl, "fcntl", refused)
    with pytest.raises(PermissionError):
        create_trust_file(TRUST)


def written(content: bytes) -> int:
    """Return a sealed memfd with a content."""
    fd = os.memfd_create("trust", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, content)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, sum(ALL_SEALS))
    return fd


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (WHOLE, None),
        (b"", None),
        (struct.pack("=II", 3, 0), None),
        (WHOLE[:-1], "cut off"),
        (WHOLE + b"\1", "cut off"),
        (struct.pack("=II", 4, 0), None),
        (struct.pack("=II", 5, 0), None),
        (WHOLE + struct.pack("=II", 6, 0), "unknown kind"),
        (struct.pack("=II", 2, 0xFFFFFFFF), "cut off"),
        (encode_trust(Trust((bytes(trustfile.MAX_GIVEN_ANCHORS),))), None),
        (encode_trust(Trust((bytes(trustfile.MAX_GIVEN_ANCHORS), b"1"))), "more than 1 MiB of anchors"),
        (encode_trust(Trust((), admit=("dns:" + "x" * trustfile.MAX_GIVEN_ANCHORS,))), "more than 1 MiB of anchors"),
        (struct.pack("=II", 2, 0) * (trustfile.MAX_GIVEN_RECORDS - 1), None),
        (struct.pack("=II", 2, 0) * trustfile.MAX_GIVEN_RECORDS, "records"),
    ],
)
def test_a_consumers_file_is_checked_by_its_heads(content: bytes, words: str | None) -> None:
    """A file that would be refused, or that an agent could not bear, is known without reading a certificate."""
    fd = written(content)
    if words is None:
        check_given(fd, len(content))
    else:
        with pytest.raises(MessageError, match=words):
            check_given(fd, len(content))
    with pytest.raises(MessageError, match="not of the size"):
        check_given(fd, len(content) + 1)
    os.close(fd)


def test_a_consumers_file_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file above the limit is refused, however few records it has."""
    monkeypatch.setattr(trustfile, "MAX_GIVEN_SIZE", len(WHOLE) - 1)
    fd = written(WHOLE)
    with pytest.raises(MessageError, match=f"above {len(WHOLE) - 1} bytes"):
        check_given(fd, len(WHOLE))
    os.close(fd)
