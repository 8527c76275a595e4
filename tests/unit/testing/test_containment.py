"""Checks in processes of their own: their exceptions, and limits that nothing inside them can escape."""

from __future__ import annotations

import os
import signal

import pytest

from hsframework.testing import containment
from hsframework.testing.containment import CheckBroke, run_contained
from hsframework.testing.verdicts import ConformanceFailure
from tests.unit.testing import broken_handshakers as broken
from tests.unit.testing.test_broken_plugins import Fault
from tests.unit.testing.toy_plugin import plugin_with


@pytest.fixture(autouse=True)
def _no_hang_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containment, "_hung", False)


def test_a_failure_is_raised_as_it_was() -> None:
    """With what the plugin did and how to mend it."""

    def fail() -> None:
        raise ConformanceFailure("it is broken", "repair it")

    with pytest.raises(ConformanceFailure, match="it is broken\n  Mend it: repair it"):
        run_contained(fail, 30)


def test_another_exception_comes_with_its_traceback() -> None:
    """As text, since not every exception can leave its process."""

    def fail() -> None:
        raise KeyError(lambda: None)

    with pytest.raises(CheckBroke, match=r"raise KeyError"):
        run_contained(fail, 30)


def test_success_is_silent() -> None:
    """A check that passes raises nothing, and what it did to its process is gone with it."""
    seen: list[int] = []
    run_contained(lambda: seen.append(1), 30)
    assert seen == []


def test_the_end_of_the_process() -> None:
    """By a signal, as a crash is."""
    with pytest.raises(ConformanceFailure, match="ends the process that serves it: signal SIGKILL"):
        run_contained(lambda: os.kill(os.getpid(), signal.SIGKILL), 30)


def test_what_nothing_ends_is_ended() -> None:
    """A plugin that swallows everything is killed, and the failure shows the line at which it hangs."""
    check = Fault("", "", plugin_with(broken.NeverLetsGo)).suite().test_deadline_is_kept
    with pytest.raises(ConformanceFailure, match=r"(?s)the plugin hangs: .* after 2 seconds.*virtual_time\.py"):
        run_contained(check.__wrapped__.__get__(check.__self__), 2)  # type: ignore[attr-defined]
    assert containment._hung
