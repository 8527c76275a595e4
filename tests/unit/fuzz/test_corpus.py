"""Every input of the fuzzer's corpora: those by which it begins, those that it found, and those that were a fault."""

from __future__ import annotations

import pytest

from tests.fuzz.guided.corpus import FOLDER, read_corpus
from tests.fuzz.guided.targets import TARGETS


@pytest.mark.parametrize("name", TARGETS)
def test_inputs(name: str) -> None:
    """Each ends in the way that its target allows; one alone too, at any place where it may be cut off."""
    inputs = read_corpus(name)
    assert inputs
    for each in inputs:
        TARGETS[name](each)
    for size in range(len(inputs[0])):
        TARGETS[name](inputs[0][:size])


def test_each_corpus_has_its_target() -> None:
    """A file without a target would never be read."""
    assert {path.stem for path in FOLDER.iterdir()} == set(TARGETS)
