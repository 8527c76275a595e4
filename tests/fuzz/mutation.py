"""Damage to good input."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy


@st.composite
def _damaged(draw: st.DrawFn, good: bytes) -> bytes:
    data = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 8)))
        match draw(st.sampled_from(["change", "cut", "insert", "repeat", "truncate"])):
            case "change":
                data[start:end] = draw(st.binary(min_size=end - start, max_size=end - start))
            case "cut":
                del data[start:end]
            case "insert":
                data[start:start] = draw(st.binary(max_size=8))
            case "repeat":
                data[start:start] = data[start:end]
            case "truncate":
                del data[start:]
    if draw(st.booleans()) and len(data) >= 4:
        data[:4] = len(data).to_bytes(4, "little")
    return bytes(data)


def damaged(good: bytes) -> SearchStrategy[bytes]:
    """``good`` with up to four pieces changed, cut out, put in, repeated or cut off.

    In half of the cases the first four bytes, the length of a netlink message, are put right afterwards.
    """
    return _damaged(good)
