"""Mutants of a C file in the kernel's style, by patterns: the operators of the same names as in Python.

Only what is within a function is changed, and within it no declaration, no preprocessor line, no text and no comment.
Calls that lock are left alone: the test kernel has one processor, on which no test can tell.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple


class Change(NamedTuple):
    """A fault: first byte, byte after the last, the text in their place, and where that is."""

    operator: str
    first: int
    end: int
    after: str
    scope: str
    line: int
    function: int


_HIDDEN = re.compile(
    r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'|^#(?:[^\n]*\\\n)*[^\n]*", re.S | re.M
)
_FUNCTION = re.compile(r"^[A-Za-z][^;{}=]*?\b(\w+)\([^;{}]*\)\n\{\n(.*?)^\}", re.S | re.M)
_STATEMENT = r"^(?P<indent>\t+)(?P<statement>{})$"
_CALL = re.compile(_STATEMENT.format(r"(?!return\b)\w+\((?:[^;{}\n]|\n\t)*?\);"), re.M)
_CHANGE = re.compile(
    _STATEMENT.format(r"[*\w]+(?:(?:->|\.)\w+(?:\[[^\]\n]*\])?)+ [-+|]?= [^;{}]*;|\w+->\w+(?:\+\+|--);"), re.M
)
_IF = re.compile(r"\bif \((?P<condition>(?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*)\)")
_UNTOUCHED = re.compile(r"lock|WARN|BUILD_BUG|pr_|init_|INIT_|kref_init|sizeof\(\*")
_ENDING = re.compile(r"put|free|release|destroy|remove|del|clear|close|forget|deregister|ended")
_WORDS = {
    "compare": {"==": "!=", "!=": "==", "<=": "<", ">=": ">", " < ": " <= ", " > ": " >= "},
    "junction": {"&&": "||", "||": "&&"},
    "order": {
        "list_add_tail(": "list_add(",
        "list_first_entry(": "list_last_entry(",
        "__fls(": "__ffs(",
    },
    "roles": {
        "HSF_A_SOCKFD": "HSF_A_PROTOCOL",
        "HSF_P_TLS_X509_CERT": "HSF_P_TLS_X509_PRIVKEY",
        "HSF_P_TLS_X509_PRIVKEY": "HSF_P_TLS_X509_CERT",
        "HSF_A_X509_CERT": "HSF_A_X509_PRIVKEY",
        "num_queued": "num_lent",
        "hsf_limit": "hsf_lent_limit",
    },
    "status": {
        "HSF_STATUS_INVAL": "HSF_STATUS_BADF",
        "HSF_STATUS_BADF": "HSF_STATUS_INVAL",
        "HSF_STATUS_NOTREADY": "HSF_STATUS_SYSTEMFAULT",
        "HSF_STATUS_SYSTEMFAULT": "HSF_STATUS_NOTREADY",
        "HSF_LENT": "HSF_QUEUED",
        "HSF_OVER": "HSF_LENT",
        "true": "false",
        "false": "true",
        "return 0;": "return -EIO;",
    },
}
"""By operator, each word with the one in its place."""


def changes(source: str) -> Iterator[Change]:
    """Yield the faults of a file, in no order."""
    code = _HIDDEN.sub(lambda found: re.sub(r"[^\n]", " ", found[0]), source)
    for function in _FUNCTION.finditer(code):
        begin, end = function.span(2)
        line = code.count("\n", 0, function.start()) + 1
        for operator, first, last, after in _faults(source, code, begin, end):
            at = code.count("\n", 0, first) + 1
            yield Change(operator, first, last, after, function[1], at, line)


def _faults(source: str, code: str, begin: int, end: int) -> Iterator[tuple[str, int, int, str]]:
    for found in _IF.finditer(code, begin, end):
        condition = source[slice(*found.span("condition"))]
        yield "invert", *found.span("condition"), f"!({condition})"
        yield "check", *found.span("condition"), f"0 && ({condition})"
    for pattern, operator in ((_CALL, "drop-call"), (_CHANGE, "drop-change")):
        for found in pattern.finditer(code, begin, end):
            if not _UNTOUCHED.search(found["statement"]):
                ending = operator == "drop-call" and _ENDING.search(found["statement"])
                yield "drop-ending" if ending else operator, *found.span("statement"), ";"
    for operator, words in _WORDS.items():
        names = "|".join(rf"(?<![\w>-]){re.escape(word)}" if word[0].isalpha() else re.escape(word) for word in words)
        for found in re.compile(rf"(?:{names})(?!=)(?!\w)|(?:{names})(?= )").finditer(code, begin, end):
            yield operator, *found.span(), words[found[0]]
    for found in re.compile(r"(?<!\w)-E[A-Z]+\b").finditer(code, begin, end):
        yield "status", *found.span(), "-EPROTO"
