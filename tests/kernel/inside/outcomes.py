"""One test of each outcome, for :mod:`tests.kernel.test_inside`, which names this file; by its name it is collected by
nobody else.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def test_passes() -> None:
    """In the test kernel."""
    assert Path("/run/exchange").is_dir()


def test_fails() -> None:
    """With words of its own."""
    raise AssertionError("in its own words")


def test_skips() -> None:
    """For a reason."""
    pytest.skip("for its own reason")


@pytest.fixture
def broken() -> None:
    raise RuntimeError("in the set-up")


@pytest.mark.usefixtures("broken")
def test_breaks() -> None:
    """Before it starts."""


def test_panics() -> None:
    """Takes its kernel with it."""
    Path("/proc/sysrq-trigger").write_text("c")


def test_passes_in_the_next_kernel() -> None:
    """A new one, with nothing in /tmp."""
    Path("/tmp/mark").touch(exist_ok=False)


@pytest.mark.kernel(memory="1G")
def test_has_the_memory_that_it_asked_for() -> None:
    """In a boot of its own."""
    assert os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") < 1 << 30
    Path("/tmp/mark").touch(exist_ok=False)
