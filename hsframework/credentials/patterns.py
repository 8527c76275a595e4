"""Patterns of names, for admission lists and for rules.

``*`` stands for any characters within one part of a name, at least one, and ``**`` for any at all.  Parts end at a
separator: ``.`` in host names, ``/`` in URIs.  No other character has a meaning of its own.  Stars and names are few
and short, since a peer chooses the names that are compared.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST_STARS = 2
"""Stars, single or double, of one pattern."""
LONGEST_NAME = 1024
"""Characters of a name that patterns with stars match; a longer one is looked up alone."""

_STARS = re.compile(r"(\*+)")


class Patterns:
    """Patterns with one separator.  Those without a star are looked up, so that a list may have thousands.

    Raises ValueError for a pattern with too many stars.
    """

    def __init__(self, patterns: Iterable[str], separator: str) -> None:
        self._exact: dict[str, str] = {}
        self._others: list[tuple[re.Pattern[str], str]] = []
        for pattern in patterns:
            if "*" in pattern:
                self._others.append((_compiled(pattern, separator), pattern))
            else:
                self._exact[pattern] = pattern

    def match(self, name: str) -> str | None:
        """Return the first pattern that the whole name matches, one without a star before all others; None: none."""
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        if len(name) > LONGEST_NAME:
            return None
        return next((text for pattern, text in self._others if pattern.fullmatch(name)), None)


def check_pattern(pattern: str) -> None:
    """Check the stars of a pattern.  Raises ValueError."""
    stars = _STARS.findall(pattern)
    if len(stars) > MOST_STARS or any(len(each) > 2 for each in stars):
        raise ValueError(f"a pattern has at most {MOST_STARS} stars, single or double")


def _compiled(pattern: str, separator: str) -> re.Pattern[str]:
    check_pattern(pattern)
    stars = {"*": f"[^{re.escape(separator)}]+", "**": ".*"}
    parts = _STARS.split(pattern)
    return re.compile("".join(stars[part] if part[:1] == "*" else re.escape(part) for part in parts), re.DOTALL)
