"""Ten thousand generated chains: each difference from OpenSSL, GnuTLS and cryptography is decided."""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509

from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.interface import Trust
from tests.support.chains import DAY, NAME, NOW, SHAPES, Case, authority, cases, finished, straight
from tests.support.der import TRUE, extension
from tests.support.other_judges import JUDGES, gnutls_library, ours

DATA = Path(__file__).parents[2] / "data" / "chains-decisions.yaml"
DECISIONS: list[dict[str, Any]] = yaml.safe_load(DATA.read_text(encoding="utf-8"))["decisions"]
NUMBER = 2000
"""Cases of each seed."""
SEEDS = (15, 1, 2, 3, 4)
NEVER_ACCEPTED = {"loop", "another root of the name"}


@cache
def judged() -> list[tuple[Case, str]]:
    """Return the cases, each with the words of our refusal or an empty text."""
    return [(case, ours(case)) for seed in SEEDS for case in cases(NUMBER, seed)]


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
    """Each difference between another judge and ours has a decision that says why; each decision is needed."""
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
    assert 1 / 4 < accepted / len(judged()) < 3 / 4


def test_the_same_seed_makes_the_same_cases() -> None:
    """The cases of a failure can be made again: the words are the same each time."""
    assert [case.labels for case in cases(300)] == [case.labels for case in cases(300)]


@pytest.mark.parametrize("purpose", [Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH])
@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_in_both_roles(shape: str, purpose: Purpose) -> None:
    """Every path is tried, for servers and for clients: a dead end that comes first ends nothing."""
    plan = SHAPES[shape]()
    plan.purpose = purpose
    for sent_first in (plan.sent_first, not plan.sent_first):
        plan.sent_first = sent_first
        refusal = ours(finished((shape,), plan, random.Random(15)))
        assert bool(refusal) is (shape in NEVER_ACCEPTED), refusal


@pytest.mark.parametrize("purpose", [Purpose.SERVER_AUTH, Purpose.CLIENT_AUTH])
@pytest.mark.parametrize("defect", ["weak", "rsa1024", "expired", "unknown critical extension"])
def test_what_is_beyond_the_anchor_judges_nothing(defect: str, purpose: Purpose) -> None:
    """An old cross certificate of our root, signed with SHA-1 or by a short key, and its own root, are passed over."""
    plan = straight("Issuing")
    plan.purpose = purpose
    old = authority("Old Root", "rsa1024" if defect == "rsa1024" else "p256-3")
    cross = authority("Root", "p256-0", old)
    for certificate in (old, cross):
        certificate.weak = defect == "weak"
        if defect == "expired":
            certificate.end = NOW - DAY
        if defect == "unknown critical extension":
            certificate.extensions["1.2.3"] = extension("1.2.3", b"\x05\x00", TRUE)
    for sent in ([cross], [cross, old], [old, cross]):
        for sent_first in (True, False):
            case = finished((defect,), replace(plan, sent=sent, sent_first=sent_first), random.Random(15))
            assert not ours(case)


def test_a_thousand_anchors_of_one_name() -> None:
    """The authority key identifier chooses among them: the others are not even parsed."""
    plan = straight()
    right = plan.path[1]
    others = []
    for number in range(1000):
        other = authority("Root", f"p256-{number % 5 + 1}")
        other.put(x509.SubjectKeyIdentifier(b"%d" % number))
        others.append(other.der())
    for position in (0, 500, 1000):
        anchors = (*others[:position], right.der(), *others[position:])
        verifier = ChainVerifier(Trust(anchors))
        verifier.verify((plan.path[0].der(),), purpose=Purpose.SERVER_AUTH, peer_name=NAME, now=NOW)
        assert [anchor.facts.label for anchor in verifier._anchors if "facts" in vars(anchor)] == ["CN=Root"]
