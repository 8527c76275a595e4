"""Command: ``make mutants``, or ``python -m scripts.mutants``.

* ``run [SUBJECT ...]`` runs the chosen mutants of the subjects (of all if none is named), and prints each as caught,
  with the test, as decided or as escaped.  The exit status is 1 if one escaped, or a decision is stale.
* ``list [SUBJECT ...]`` prints the mutants that ``run`` would run.
* ``show NAME`` prints a mutant as a difference.

``--plugins`` takes the subjects that are plugins or examples, whose first judge is the conformance suite.
``--sample N`` takes N of those that are chosen, over all subjects that need no test kernel.  ``--most N`` takes N of
each subject instead of the table's number.  ``--only NAME``, which may be repeated, takes the named ones of all that
there are.
"""

from __future__ import annotations

import argparse
import difflib
import signal
import sys
from collections.abc import Iterator, Sequence

from scripts.lint.sources import ROOT
from scripts.mutants.decisions import by_mutant, decisions
from scripts.mutants.mutants import Mutant, chosen
from scripts.mutants.running import Result, run
from scripts.mutants.subjects import Subject, subjects

SEED = "12"

Plan = list[tuple[Subject, list[Mutant]]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = _parser().parse_args(arguments)
    plan = _plan(options)
    if options.command == "run":
        ordered = not options.unordered
        return _run(plan, options.jobs, map_tests=ordered, suite_first=ordered or options.plugins)
    for subject, mutants in plan:
        for mutant in mutants:
            if options.command == "list":
                print(f"{subject.name} {mutant} [{mutant.scope}, {mutant.nth}]")
            else:
                sys.stdout.writelines(_difference(mutant))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts.mutants", description="General faults in our own code, one at a time."
    )
    parser.add_argument("command", choices=("run", "list", "show"))
    parser.add_argument("names", nargs="*", help="of subjects; for show, of mutants")
    parser.add_argument("--seed", default=SEED)
    parser.add_argument("--most", type=int, help="mutants of each subject")
    parser.add_argument("--sample", type=int, help="mutants of all subjects together")
    parser.add_argument("--plugins", action="store_true", help="only subjects that are plugins or examples")
    parser.add_argument("--only", action="append", help="name of a mutant")
    parser.add_argument("--jobs", type=int, default=1, help="mutants that are run at once")
    parser.add_argument(
        "--unordered",
        action="store_true",
        help="run no test without a mutant first, to learn which call what: for a few mutants",
    )
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    only = options.names if options.command == "show" else options.only
    named = [] if options.command == "show" else options.names
    known = list(subjects())
    unknown = set(named) - {subject.name for subject in known}
    if unknown:
        sys.exit(f"no such subject: {', '.join(sorted(unknown))}; there are {', '.join(it.name for it in known)}")
    known = [subject for subject in known if not named or subject.name in named]
    if options.plugins:
        known = [subject for subject in known if subject.outside]
    if only:
        plan = [(subject, [mutant for mutant in subject.mutants if mutant.name in only]) for subject in known]
    else:
        plan = [(subject, subject.chosen(options.seed, options.most)) for subject in known]
    if options.sample is not None:
        # Those with a decision escape all tests, so they take the longest.
        decided, _ = by_mutant(decisions())
        plan = [(subject, [mutant for mutant in mutants if mutant.name not in decided]) for subject, mutants in plan]
        plan = [(subject, mutants) for subject, mutants in plan if not subject.kernel]
        some = chosen([mutant for _, mutants in plan for mutant in mutants], options.sample, options.seed)
        plan = [(subject, [mutant for mutant in mutants if mutant in some]) for subject, mutants in plan]
    return [(subject, mutants) for subject, mutants in plan if mutants]


def _run(plan: Plan, jobs: int, *, map_tests: bool, suite_first: bool) -> int:
    decided, stale = by_mutant(decisions())
    results: list[Result] = []
    for subject, mutants in plan:
        for result in run(subject, mutants, jobs=jobs, map_tests=map_tests, suite_first=suite_first):
            results.append(result)
            decision = decided.get(result.mutant.name)
            if decision is None:
                judge = " (the conformance suite)" if result.by_suite else ""
                word = f"caught by {result.caught}{judge}" if result.caught else "ESCAPED"
            elif result.caught:
                word = f"caught by {result.caught}: the decision is stale"
                stale.append(f"{result.mutant}: decided, but {result.caught} catches it")
            else:
                word = f"decided: {decision.because}"
            print(f"{result.mutant}\n    {word}", flush=True)
    escaped = [it.mutant for it in results if not it.caught and it.mutant.name not in decided]
    for mutant in escaped:
        print(f"escaped: {mutant}")
    for line in stale:
        print(f"stale: {line}")
    print(_sums(results, len(escaped), len(stale)))
    return 1 if escaped or stale else 0


def _sums(results: Sequence[Result], escaped: int, stale: int) -> str:
    caught = sum(it.caught is not None for it in results)
    by_suite = sum(it.by_suite for it in results)
    share = f", {by_suite} of them by the conformance suite" if by_suite else ""
    decided = len(results) - caught - escaped
    score = 100 * caught // max(1, caught + escaped)
    return (
        f"{len(results)} mutants: {caught} caught{share}, {decided} decided, {escaped} escaped; score {score} %; "
        f"{stale} stale decisions"
    )


def _difference(mutant: Mutant) -> Iterator[str]:
    source = (ROOT / mutant.path).read_bytes()
    before, after = (text.decode().splitlines(keepends=True) for text in (source, mutant.applied(source)))
    yield from difflib.unified_diff(before, after, mutant.path, f"{mutant.path} with {mutant.name}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so the copies are removed then, too
    sys.exit(main())
