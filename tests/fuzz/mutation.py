"""Damage to good input."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

_KINDS = ["change", "cut", "insert", "repeat", "truncate"]
_Piece = tuple[str, int, int, bytes]


class Damage:
    """Changes to any input; drawn before the input is known, which may differ from run to run."""

    def __init__(self, pieces: Sequence[_Piece], right_length: bool) -> None:
        self._pieces = pieces
        self._right_length = right_length

    def __repr__(self) -> str:
        return f"Damage({self._pieces!r}, {self._right_length})"

    def __call__(self, good: bytes) -> bytes:
        data = bytearray(good)
        for kind, position, size, new in self._pieces:
            start = position % (len(data) + 1)
            match kind:
                case "change":
                    data[start : start + len(new)] = new[: len(data) - start]
                case "cut":
                    del data[start : start + size]
                case "insert":
                    data[start:start] = new
                case "repeat":
                    data[start:start] = data[start : start + size]
                case "truncate":
                    del data[start:]
        if self._right_length and len(data) >= 4:
            data[:4] = len(data).to_bytes(4, "little")
        return bytes(data)


def damages(reach: int) -> SearchStrategy[Damage]:
    """Change, cut out, put in, repeat or cut off up to four pieces in the first ``reach`` bytes.

    In half of the cases the first four bytes, the length of a netlink message, are put right afterwards.
    """
    piece = st.tuples(st.sampled_from(_KINDS), st.integers(0, reach), st.integers(0, 8), st.binary(max_size=8))
    return st.builds(Damage, st.lists(piece, min_size=1, max_size=4), st.booleans())


def damaged(good: bytes) -> SearchStrategy[bytes]:
    """Draw ``good`` with such damage anywhere."""
    return damages(len(good)).map(lambda damage: damage(good))
