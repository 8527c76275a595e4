"""C2SP's x509-limbo: the answers of our judges, and each difference with its decision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tests.support.limbo import LIMBO, LimboCase

DECISIONS = yaml.safe_load(
    (Path(__file__).parents[2] / "data" / "x509-limbo-decisions.yaml").read_text(encoding="utf-8")
)

pytestmark = [
    pytest.mark.data_of_others,
    pytest.mark.skipif(
        not LIMBO.exists(),
        reason="x509-limbo is not part of this project: C2SP publishes limbo.json as github.com/C2SP/x509-limbo; "
        "name the file in the environment variable X509_LIMBO",
    ),
]


@pytest.fixture(scope="module")
def cases() -> list[LimboCase]:
    return [LimboCase(content) for content in json.loads(LIMBO.read_text(encoding="utf-8"))["testcases"]]


def test_every_difference_is_decided(cases: list[LimboCase]) -> None:
    """We accept what a case, cryptography or OpenSSL refuses only where the list says why, and refuse no more."""
    differences: dict[str, str] = {}
    for case in cases:
        ours = case.ours()
        if ours and case.good:
            differences[case.id] = f"refused: {ours}"
        elif not ours and not case.good:
            differences[case.id] = "accepted, and the case expects a refusal"
        elif not ours and (words := case.cryptographys() or case.openssls()):
            differences[case.id] = f"accepted, and refused by another: {words}"
    decided = {id_ for decision in DECISIONS["decisions"] for id_ in decision["cases"]}
    assert {id_: words for id_, words in differences.items() if id_ not in decided} == {}
    assert decided - differences.keys() == set(), "decided, and no difference any more"


def test_the_whole_suite_was_read(cases: list[LimboCase]) -> None:
    """The file holds the cases for which the decisions were made, of both kinds."""
    assert len(cases) >= DECISIONS["cases_read"]
    assert len({case.good for case in cases}) == 2
