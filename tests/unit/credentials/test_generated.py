"""Two thousand generated chains: each difference from OpenSSL, GnuTLS and cryptography is decided."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chains import SHAPES, Case, cases
from tests.support.other_judges import JUDGES, gnutls_library, ours

DATA = Path(__file__).parents[2] / "data" / "chains-decisions.yaml"
DECISIONS: list[dict[str, Any]] = yaml.safe_load(DATA.read_text(encoding="utf-8"))["decisions"]
NUMBER = 2000
NEVER_ACCEPTED = {"loop", "another root of the name"}


@cache
def judged() -> list[tuple[Case, str]]:
    """Return the cases, each with the words of our refusal or an empty text."""
    return [(case, ours(case)) for case in cases(NUMBER)]


def deciding(judge: str, case: Case, ours_: str, theirs: str) -> list[int]:
    """Return the positions of the decisions for a difference."""
    they, words = ("refuse", theirs) if theirs else ("accept", ours_)
    return [
        position
        for position, decision in enumerate(DECISIONS)
        if judge in decision["judges"]
        and decision["they"] == they
        and re.search(decision["words"], words)
        and re.search(decision.get("made", ""), str(case))
    ]


@pytest.mark.parametrize("judge", JUDGES)
def test_every_difference_is_decided(judge: str) -> None:
    """Where another accepts what we refuse, or refuses what we accept, a decision says why; each is needed."""
    if judge == "gnutls" and gnutls_library() is None:
        pytest.skip("GnuTLS's library is not installed: 'make peers' installs it")
    undecided, used = [], Counter[int]()
    for case, refusal in judged():
        theirs = JUDGES[judge](case)
        if bool(theirs) != bool(refusal):
            found = deciding(judge, case, refusal, theirs)
            used.update(found)
            if not found:
                undecided.append(f"{case}: we {refusal or 'accept'}; they {theirs or 'accept'}")
    assert not undecided
    if judge != "gnutls":  # of which each system has its own version
        stale = [each for position, each in enumerate(DECISIONS) if judge in each["judges"] and not used[position]]
        assert not stale, "decided, and no difference any more"


def test_the_cases_are_of_all_kinds() -> None:
    """Chains of each shape are accepted and refused, but for shapes that nobody may accept."""
    # A feature that gives the anchor a key has it sign what is below.
    outcomes = {(case.labels[0], not refusal) for case, refusal in judged() if "key " not in str(case)}
    assert {shape for shape, accepted in outcomes if accepted} == SHAPES.keys() - NEVER_ACCEPTED
    assert {shape for shape, accepted in outcomes if not accepted} == SHAPES.keys()
    accepted = sum(not refusal for _, refusal in judged())
    assert NUMBER // 4 < accepted < NUMBER * 3 // 4


def test_the_same_seed_makes_the_same_cases() -> None:
    """The cases of a failure can be made again: the words are the same each time."""
    assert [case.labels for case in cases(300)] == [case.labels for case in cases(300)]
