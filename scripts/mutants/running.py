"""Runs of mutants: some tests that call the mutant's function, and then, unless one of them has caught it, all."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from scripts.mutants.mutants import Mutant
from scripts.mutants.subjects import Subject
from scripts.mutants.tree import Tree, Verdict, copied

LIMIT_OF_TESTS = 600.0
"""Seconds for the tests of a subject without a mutant."""
LIMIT = 90.0
"""Seconds for a run with a mutant, and further ones as its tests take without."""

CALLERS = 30
"""Tests that are tried before all: the quickest of those that call the mutant's function."""


@dataclass(frozen=True, slots=True)
class Result:
    """A mutant, and the test that caught it (in brackets: another way in which the run ended), or None."""

    mutant: Mutant
    caught: str | None


class Broken(Exception):
    """The tests of a subject fail without a mutant."""


def run(subject: Subject, mutants: Sequence[Mutant], *, jobs: int = 1, map_tests: bool = True) -> Iterator[Result]:
    """Yield the result of each mutant of the subject, ``jobs`` at once; of a kernel module one, which boots a kernel.

    ``map_tests``: run the tests without a mutant first, and learn which of them call what.  The record misses what runs
    in another process, so no mutant escapes by it.  Raises Broken if a test fails without a mutant.
    """
    tests = subject.tests
    jobs = 1 if subject.kernel else jobs
    with contextlib.ExitStack() as stack:
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        first = stack.enter_context(copied(kernel=subject.kernel))
        seconds, record = _recorded(first, tests) if map_tests else (LIMIT_OF_TESTS, {})
        for tree in (first, *(stack.enter_context(copied(kernel=subject.kernel)) for _ in range(jobs - 1))):
            trees.put(tree)

        def with_mutant(mutant: Mutant) -> Result:
            tree = trees.get()
            try:
                some = _callers(record, mutant) if map_tests else subject.first
                caught = tree.run(some, seconds + LIMIT, mutant=mutant).caught if some else None
                if not _is_test(caught):
                    caught = tree.run(tests, seconds + LIMIT, mutant=mutant).caught
                    # Tests that do not call the function fail once more, or it was the machine's load.
                    if caught is not None and _is_test(caught):
                        again = tree.run([caught], seconds + LIMIT, mutant=mutant).caught
                        caught = again or tree.run(tests, seconds + LIMIT, mutant=mutant).caught
                return Result(mutant, caught)
            finally:
                trees.put(tree)

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        try:
            yield from pool.map(with_mutant, mutants)
        finally:
            pool.shutdown(cancel_futures=True)


def _recorded(tree: Tree, tests: Sequence[str]) -> tuple[float, dict[str, Any]]:
    verdict: Verdict = tree.run(tests, LIMIT_OF_TESTS)
    if verdict.caught is not None:
        raise Broken(f"{verdict.caught} fails without a mutant\n{verdict.output}")
    record = verdict.report["tests"]
    return sum(it["seconds"] for it in record.values()), record


def _callers(record: dict[str, Any], mutant: Mutant) -> list[str]:
    """Return the names of the quickest tests that call the mutant's function, in that order."""
    called = [mutant.path, mutant.function]
    found = sorted((it["seconds"], name) for name, it in record.items() if called in it.get("calls", ()))
    return [name for _, name in found[:CALLERS]]


def _is_test(caught: str | None) -> bool:
    return caught is not None and not caught.startswith("[")
