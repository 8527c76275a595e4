"""Corpora of the targets: text files with one input a line, in hexadecimal.

An input that was found by a fault is added as a line, with a comment above it, and is from then on a test
(``tests/unit/fuzz``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "corpus"


def read_corpus(name: str) -> list[bytes]:
    """Return the inputs of a target."""
    lines = (FOLDER / f"{name}.hex").read_text("ascii").splitlines()
    return [bytes.fromhex(line) for line in lines if not line.startswith("#")]


def add_to_corpus(name: str, inputs: Iterable[bytes]) -> int:
    """Add the inputs that are new, shortest first.  Return their number."""
    path = FOLDER / f"{name}.hex"
    known = set(read_corpus(name))
    new = sorted(set(inputs) - known, key=lambda each: (len(each), each))
    with path.open("a", encoding="ascii") as file:
        file.writelines(f"{each.hex()}\n" for each in new)
    return len(new)
