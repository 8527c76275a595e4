"""First lines of docstrings are plain: no riddle, no question, and a verb where a function begins.

The rules, by name:

* ``clause``: no first line begins with a question word, a conjunction or an auxiliary verb ("What ...", "If ...",
  "Is ...").  A class or a module begins with a noun, a condition with "True if".
* ``question``: no first line has a question mark.
* ``verb``: a function's first word is a verb in the imperative (``scripts/lint/verbs.txt``), or it begins "True if".
  Exempt are properties and fixtures, which are named by nouns, and tests, whose line is a sentence.
* ``longer``: "no longer" stands in place of "not ... any more", in comments too.

Usage: ``python -m scripts.lint.prose [FILE_OR_FOLDER ...]``; without arguments, the whole repository.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.lint.sources import FOLDERS, ROOT, Function, comments, docstrings, python_files

RULES = ("clause", "question", "verb", "longer")

VERBS = frozenset((Path(__file__).parent / "verbs.txt").read_text().split())

_CLAUSE = re.compile(
    r"(?:who|whom|whose|whoever|what|whatever|which|whichever|where|when|whenever|whether|why|how|if|does|did|is|are|was"
    r"|were|has|had|may|might|can|could|will|would|should|must)\b",
    re.IGNORECASE,
)
_ANY_MORE = re.compile(r"\bany\s?more\b", re.IGNORECASE)
_LITERAL = re.compile(r"`+[^`]*`+|\"[^\"]*\"")


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that breaks a rule.  ``path``: from the repository's root, if the file lies below it."""

    path: str
    line: int
    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.text}"


def problems(path: Path) -> Iterator[Problem]:
    """Yield what breaks a rule in one file."""
    source = path.read_text()
    shown = str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    for docstring in docstrings(ast.parse(source)):
        first = docstring.text.strip().partition("\n")[0]
        yield from (Problem(shown, docstring.line, rule, first) for rule in broken(docstring.owner, first))
        for offset, line in enumerate(_without_quotations(docstring.text).splitlines()):
            if _ANY_MORE.search(line):
                yield Problem(shown, docstring.line + offset, "longer", line.strip())
    for number, comment in comments(source):
        if _ANY_MORE.search(_without_quotations(comment)):
            yield Problem(shown, number, "longer", comment)


def _without_quotations(text: str) -> str:
    """Return the text with every quotation and literal blanked out, line by line as before."""
    return _LITERAL.sub(lambda match: re.sub(r"\S", " ", match[0]), text)


def broken(owner: ast.AST, first: str) -> Iterator[str]:
    """Yield the rules that the first line of the docstring of ``owner`` breaks."""
    if _CLAUSE.match(first):
        yield "clause"
    if "?" in _without_quotations(first):
        yield "question"
    demanded = isinstance(owner, Function) and not _is_exempt(owner)
    if demanded and not _begins_with_a_verb(first) and not first.startswith("True if "):
        yield "verb"


def _begins_with_a_verb(line: str) -> bool:
    match = re.match(r"([A-Z][a-z-]*)\b( of\b)?", line)
    if match is None or match[1].lower() not in VERBS:
        return False
    return match[2] is None or match[1] in ("Warn", "Tell", "Dispose")  # "Name of the peer" begins with a noun


def _is_exempt(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    names = [ast.unparse(decorator).partition("(")[0] for decorator in function.decorator_list]
    return function.name.startswith("test_") or any(
        name.endswith(("property", ".setter", ".getter", "fixture")) for name in names
    )


def main(arguments: list[str]) -> int:
    """Print what breaks the rules in the files and folders that are named, else in all, and return an exit status."""
    folders = [Path(argument).resolve() for argument in arguments] or [ROOT / name for name in FOLDERS]
    found = [problem for folder in folders for path in python_files(folder) for problem in problems(path)]
    print("".join(f"{problem}\n" for problem in found), end="")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
