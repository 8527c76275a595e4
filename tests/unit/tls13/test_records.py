"""Headers of records: the types, the version, and the lengths that each may have."""

from __future__ import annotations

import pytest

from hsframework.failures import Failure, HandshakeFailed
from hsframework_tls13.records import body_size, split_records, whole_records

DATA = 23


def header(kind: int, length: int, version: int = 0x0303) -> bytes:
    """Make the five bytes in front of a record."""
    return bytes((kind,)) + version.to_bytes(2, "big") + length.to_bytes(2, "big")


@pytest.mark.parametrize("kind", [20, 21, 22, DATA])
def test_lengths_of_each_type(kind: int) -> None:
    """2^14 bytes in plain text, type and tag more if they are protected; the last byte is a length, and no type."""
    most = 16_384 + (1 + 16 if kind == DATA else 0)
    for length in (0, 1, 23, 16_384, most):
        assert body_size(header(kind, length)) == length
    for length in {most + 1, 16_384 + 512 + DATA, *([] if kind == DATA else [16_384 + 1, 16_384 + DATA])}:
        with pytest.raises(HandshakeFailed, match=f"{length} bytes") as refused:
            body_size(header(kind, length))
        assert refused.value.failure is Failure.RECORD_OVERFLOW


@pytest.mark.parametrize("start", [header(19, 1), header(24, 1), header(22, 1, 0x0403), b"GET /"])
def test_what_is_no_record(start: bytes) -> None:
    """Another type or major version: the peer speaks something else."""
    with pytest.raises(HandshakeFailed, match="no TLS record starts with") as refused:
        body_size(start)
    assert refused.value.failure is Failure.GARBAGE
    with pytest.raises(HandshakeFailed):
        whole_records(start + bytes(9))


@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0304, 0x03FF])
def test_the_minor_version_is_ignored(version: int) -> None:
    """RFC 8446 section 5.1."""
    assert body_size(header(22, 7, version)) == 7


def test_whole_records_are_counted() -> None:
    """In bytes, without the last one where it is cut; what follows and is no record is left for later."""
    one, two = header(22, 3) + b"abc", header(DATA, 16_400) + bytes(16_400)
    both = one + two
    assert list(split_records(both)) == [one, two]
    for end in range(len(one) + 20):
        assert whole_records(both[:end]) == (len(one) if end >= len(one) else 0)
    assert whole_records(both) == len(both)
    assert whole_records(one + b"GET / HTTP/1.1") == len(one)
