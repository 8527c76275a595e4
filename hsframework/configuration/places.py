"""Places of keys in a TOML file, for messages: ``FILE:LINE`` for each key, table and item of a list.

The text has been parsed as TOML before, so it is well formed; only keys are read here, and values passed over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

_BLANK = re.compile(r"[ \t]*")
_REST = re.compile(r"[^\n]*")
_PART = re.compile(r"""[ \t]*(?:([A-Za-z0-9_-]+)|"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)')[ \t]*""")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""+' r"|'''.*?'''+" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)
_LAST = re.compile(r"(\.[^.\[\]]*|\[\d+\])$")
_KEY = re.compile(r"([\w-]+(?:\[\d+\])?(?:\.[\w-]+(?:\[\d+\])?)*)(?=:| =| must| is | and )")


def places_in(text: str, path: Path) -> Mapping[str, str]:
    """Return ``FILE:LINE`` of each key in a TOML file's text, by its path, such as ``rule[0].networks[1]``."""
    return {key: f"{path}:{line}" for key, line in _Scan(text).lines.items()}


def place_of(places: Mapping[str, str], key: str) -> str | None:
    """Return the place of a key, or else of the innermost table that would have it; None: of neither."""
    while key not in places:
        shorter = _LAST.sub("", key)
        if shorter == key:
            return None
        key = shorter
    return places[key]


def located(places: Mapping[str, str], message: str, key: str = "") -> str:
    """Return a message that begins with a key, with the key's place before it; any other as it is.

    ``rule[0]: networks: ...`` is about the key ``rule[0].networks``.  ``key``: the key that the message is about, where
    it is more exact than the message's.
    """
    if key:
        place = place_of(places, key)
        return message if place is None else f"{place}: {message}"
    found = _KEY.match(message)
    if found is None:
        return message
    key = found[1]
    inner = _KEY.match(message, found.end() + 2) if message.startswith(": ", found.end()) else None
    if inner is not None and f"{key}.{inner[1]}" in places:
        key = f"{key}.{inner[1]}"
    place = place_of(places, key)
    return message if place is None else f"{place}: {message}"


class _Scan:
    """One pass over a text; ``lines`` has the line of each key, from 1 on."""

    def __init__(self, text: str) -> None:
        self.lines: dict[str, int] = {}
        self._text = text
        self._at = self._counted = 0
        self._line_number = 1
        self._counts: dict[str, int] = {}
        """Number of tables so far of each array of tables."""
        table = ""
        while self._at < len(text):
            self._at = _end(_BLANK, text, self._at)
            if text.startswith("[", self._at):
                table = self._header()
            elif text[self._at : self._at + 1] not in ("#", "\n", "\r", ""):
                self._pair(table)
            self._at = _end(_REST, text, self._at) + 1

    def _header(self) -> str:
        many = self._text.startswith("[[", self._at)
        line = self._line()
        self._at += 2 if many else 1
        parts = self._key()
        name = ""
        for position, part in enumerate(parts, start=1):
            name = f"{name}.{part}" if name else part
            if many and position == len(parts):
                self._counts[name] = self._counts.get(name, -1) + 1
            if name in self._counts:
                name = f"{name}[{self._counts[name]}]"
            self.lines.setdefault(name, line)
        return name

    def _pair(self, table: str) -> None:
        line = self._line()
        name = table
        for part in self._key():
            name = f"{name}.{part}" if name else part
            self.lines.setdefault(name, line)
        self._at += 1  # the equals sign
        self._value(name)

    def _key(self) -> list[str]:
        parts = []
        while found := _PART.match(self._text, self._at):
            parts.append(next(part for part in found.groups() if part is not None))
            self._at = found.end()
            if not self._text.startswith(".", self._at):
                break
            self._at += 1
        return parts

    def _value(self, name: str) -> None:
        """Pass over a value, and note the lines of a list's items."""
        depth, item, fresh = 0, 0, False
        listed = self._text.startswith("[", _end(_BLANK, self._text, self._at))
        while self._at < len(self._text):
            character = self._text[self._at]
            if character == "\n" and not depth:
                return
            if fresh and depth == 1 and character not in " \t\r\n#]":
                self.lines.setdefault(f"{name}[{item}]", self._line())
                fresh = False
            if character in "\"'":
                found = _STRING.match(self._text, self._at)
                self._at = found.end() if found else len(self._text)
                continue
            if character == "#":
                self._at = _end(_REST, self._text, self._at)
                continue
            if character in "[{":
                depth += 1
                fresh = fresh or (depth == 1 and listed)
            elif character in "]}":
                depth -= 1
            elif character == "," and depth == 1 and listed:
                item, fresh = item + 1, True
            self._at += 1

    def _line(self) -> int:
        self._line_number += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line_number


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return start if found is None else found.end()
