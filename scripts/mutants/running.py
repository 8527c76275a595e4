"""Runs of mutants: some tests that call the mutant's function, and then, unless one of them has caught it, all.

A plugin's conformance suite comes before its own tests: what it catches, it catches in any plugin.
"""

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
    by_suite: bool = False
    """True if the conformance suite caught it."""


class Broken(Exception):
    """The tests of a subject fail without a mutant."""


def run(
    subject: Subject, mutants: Sequence[Mutant], *, jobs: int = 1, map_tests: bool = True, suite_first: bool = True
) -> Iterator[Result]:
    """Yield the result of each mutant of the subject, ``jobs`` at once; of a kernel module one, which boots a kernel.

    ``map_tests``: run the tests without a mutant first, and learn which of them call what.  The record misses what runs
    in another process, so no mutant escapes by it.  ``suite_first``: have a plugin's conformance suite judge.  Raises
    Broken if a test fails without a mutant.
    """
    jobs = 1 if subject.kernel else jobs
    with contextlib.ExitStack() as stack:
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        first = stack.enter_context(copied(kernel=subject.kernel, project=subject.project))
        seconds, record = _recorded(first, subject.tests) if map_tests else (LIMIT_OF_TESTS, None)
        further = (copied(kernel=subject.kernel, project=subject.project) for _ in range(jobs - 1))
        for tree in (first, *map(stack.enter_context, further)):
            trees.put(tree)

        def with_mutant(mutant: Mutant) -> Result:
            tree = trees.get()
            try:
                return _judged(subject, tree, mutant, record, seconds + LIMIT, suite_first=suite_first)
            finally:
                trees.put(tree)

        pool = stack.enter_context(ThreadPoolExecutor(jobs))
        try:
            yield from pool.map(with_mutant, mutants)
        finally:
            pool.shutdown(cancel_futures=True)


def _judged(
    subject: Subject,
    tree: Tree,
    mutant: Mutant,
    record: dict[str, Any] | None,
    limit: float,
    *,
    suite_first: bool,
) -> Result:
    """Return the result of one mutant.  ``record``: the calls and seconds of each test, or None."""
    suite = of_suite(subject, record, mutant) if suite_first else ()
    caught = tree.run(suite, limit, mutant=mutant).caught if suite else None
    if caught is not None:
        return Result(mutant, caught, by_suite=True)
    some = subject.first if record is None else callers(record, mutant, but=suite)
    caught = tree.run(some, limit, mutant=mutant).caught if some else None
    if not _is_test(caught):
        caught = tree.run(subject.tests, limit, mutant=mutant).caught
        # Tests that do not call the function fail once more, or it was the machine's load.
        if caught is not None and _is_test(caught):
            again = tree.run([caught], limit, mutant=mutant).caught
            caught = again or tree.run(subject.tests, limit, mutant=mutant).caught
    return Result(mutant, caught, by_suite=caught is not None and caught.startswith(subject.suite))


def _recorded(tree: Tree, tests: Sequence[str]) -> tuple[float, dict[str, Any]]:
    verdict: Verdict = tree.run(tests, LIMIT_OF_TESTS)
    if verdict.caught is not None:
        raise Broken(f"{verdict.caught} fails without a mutant\n{verdict.output}")
    record = verdict.report["tests"]
    return sum(it["seconds"] for it in record.values()), record


def of_suite(subject: Subject, record: dict[str, Any] | None, mutant: Mutant) -> Sequence[str]:
    """Return what of the conformance suite judges the mutant: all that calls its function, the quickest first."""
    if record is None or not subject.suite:
        return subject.suite
    called = [mutant.path, mutant.function]
    found = sorted(
        (it["seconds"], name)
        for name, it in record.items()
        if name.startswith(subject.suite) and (not mutant.function or called in it.get("calls", ()))
    )
    return [name for _, name in found]


def callers(record: dict[str, Any], mutant: Mutant, *, but: Sequence[str]) -> list[str]:
    """Return the names of the quickest tests that call the mutant's function, in that order, without those in but."""
    called = [mutant.path, mutant.function]
    found = sorted((it["seconds"], name) for name, it in record.items() if called in it.get("calls", ()))
    return [name for _, name in found if name not in but][:CALLERS]


def _is_test(caught: str | None) -> bool:
    return caught is not None and not caught.startswith("[")
