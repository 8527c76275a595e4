"""Result of one check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Verdict = Literal["ok", "missing", "note"]

_MARKS: dict[Verdict, str] = {"ok": "ok", "missing": "MISSING", "note": "note"}


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    ``verdict``: ``missing`` if the service does not work without it, ``note`` if only some uses need it.
    ``mend``: advice; empty if there is nothing to do.
    """

    subject: str
    verdict: Verdict
    detail: str
    mend: str = ""


def report(findings: Sequence[Finding]) -> str:
    """Format findings for people: a line for each, and its advice below it."""
    lines = []
    for finding in findings:
        lines.append(f"{_MARKS[finding.verdict]:8} {finding.subject}: {finding.detail}")
        if finding.mend:
            lines.append(f"{'':8}   to mend: {finding.mend}")
    return "\n".join(lines)
