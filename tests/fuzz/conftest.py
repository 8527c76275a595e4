"""The fuzz tier: each target is run on fresh random input until its share of the time is used up.

``FUZZ_SECONDS`` (60 where it is not set) is for all targets together; a longer run by hand is
``make fuzz FUZZ_SECONDS=3600``.  A target is a test with the mark ``fuzz`` that passes a Hypothesis test to the
``fuzz`` fixture::

    @pytest.mark.fuzz
    def test_target(fuzz: Fuzz) -> None:
        @given(st.binary())
        def target(data: bytes) -> None:
            with contextlib.suppress(MessageError):     # the documented errors, and nothing else
                decode(data)

        fuzz(target)

Hypothesis shrinks what it finds and prints it; such an input becomes a test of its own in tests/unit.

Beside these, atheris is guided by coverage through the parsers of what strangers send (``tests/fuzz/guided``); its
corpora are text files in ``tests/fuzz/corpus``, and each of their lines is a test of ``tests/unit/fuzz``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, Phase, settings

Fuzz = Callable[[Callable[[], None]], None]

EXAMPLES = 200
"""In one round; the clock is looked at between rounds."""

ROUND = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


TARGETS = pytest.StashKey[int]()


def pytest_collection_finish(session: pytest.Session) -> None:
    session.config.stash[TARGETS] = sum(1 for item in session.items if item.get_closest_marker("fuzz"))


def share_of(request: pytest.FixtureRequest) -> float:
    """Return the seconds that a target has."""
    return float(os.environ.get("FUZZ_SECONDS", "60")) / max(1, request.config.stash[TARGETS])


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Iterator[Fuzz]:
    """Runs a Hypothesis test for this target's share of FUZZ_SECONDS, at least once."""
    share = share_of(request)
    rounds = 0

    def run(target: Callable[[], None]) -> None:
        nonlocal rounds
        until = time.monotonic() + share
        one_round = ROUND(target)
        while rounds == 0 or time.monotonic() < until:
            one_round()
            rounds += 1

    yield run
    record_property("fuzz_examples", rounds * EXAMPLES)
