"""The framing of a protocol's messages, inferred from messages that were recorded.

Most protocols on streams send records: a header of fixed size, with the length of the body in it.  A framing that takes
all recorded messages apart without a rest lets the suite make records that are whole and wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

_LARGEST_OFFSET = 8
_LARGEST_TAIL = 4
_WIDTHS = (4, 3, 2, 1)


@dataclass(frozen=True)
class Framing:
    """A header with a length: ``before`` bytes, ``width`` bytes of length, ``after`` bytes; then the body.

    ``whole``: True if the length counts the header too.
    """

    before: int
    width: int
    after: int = 0
    order: Literal["big", "little"] = "big"
    whole: bool = False

    @property
    def header(self) -> int:
        """Return the size of the header in bytes."""
        return self.before + self.width + self.after

    @property
    def largest(self) -> int:
        """Return the largest body that a header can announce, in bytes."""
        return (1 << 8 * self.width) - 1 - (self.header if self.whole else 0)

    def split(self, data: bytes) -> list[bytes] | None:
        """Return the records in ``data``; None: it is not a sequence of whole records."""
        found = []
        while data:
            size = self.header + self._body(data)
            if len(data) < self.header or not self.header <= size <= len(data):
                return None
            found.append(data[:size])
            data = data[size:]
        return found

    def with_length(self, record: bytes, length: int) -> bytes:
        """Return a record whose header announces a body of ``length`` bytes."""
        number = length + (self.header if self.whole else 0)
        field = number.to_bytes(self.width, self.order)
        return record[: self.before] + field + record[self.before + self.width :]

    def with_body(self, record: bytes, body: bytes) -> bytes:
        """Return a record with the header of ``record``, and with another body."""
        return self.with_length(record[: self.header], len(body)) + body

    def _body(self, data: bytes) -> int:
        number = int.from_bytes(data[self.before : self.before + self.width], self.order)
        return number - (self.header if self.whole else 0)


def guess_framing(messages: Iterable[bytes]) -> Framing | None:
    """Return the framing that takes all messages apart; else one for most of them; None if there is none.

    Of several the one with the widest length wins: a length of two bytes is also one of one byte, for short bodies.
    """
    recorded = [message for message in messages if message]
    for least in (len(recorded), max(3, len(recorded) // 2 + 1)):
        for candidate in _candidates() if least <= len(recorded) >= 2 else ():
            if _fits(candidate, recorded, least):
                return candidate
    return None


def _candidates() -> Iterable[Framing]:
    for width in _WIDTHS:
        for before in range(_LARGEST_OFFSET + 1):
            for after in range(_LARGEST_TAIL + 1):
                for order in ("big", "little") if width > 1 else ("big",):
                    for whole in (False, True):
                        yield Framing(before, width, after, order, whole)


def _fits(candidate: Framing, recorded: Sequence[bytes], least: int) -> bool:
    """Return True if the framing takes ``least`` messages apart, into records that are not all empty."""
    records = [each for each in map(candidate.split, recorded) if each]
    return len(records) >= least and any(len(record) > candidate.header for each in records for record in each)
