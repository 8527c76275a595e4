"""The tree of exceptions that is drawn on top of hsframework/errors.py, against the classes themselves."""

from __future__ import annotations

import errno
import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import hsframework
import hsframework_psp
import hsframework_quic
import hsframework_tls13
from hsframework import errors
from hsframework.errors import HandshakeError, HsframeworkError, StreamError

PACKAGES = (hsframework, hsframework_psp, hsframework_quic, hsframework_tls13)
ROW = re.compile(r"^    (?P<branches>[│├└─ ]*)(?P<name>\w+) +(?P<errno>errno|\(any\)|\(table\)|E[A-Z]+)(?: |$)")
END_A_TEST = {"ConformanceFailure", "LoopBlocked"}
WITHIN_A_PLUGIN = {"BadToken", "HalfInstalled", "KernelRefused", "PlainDataWaits", "Refused", "SpisUsedUp"}
"""Exceptions that each plugin catches itself: no public function raises them."""


def drawn() -> list[tuple[str, str | None, str]]:
    """Return name, base and errno of each row of the drawing."""
    rows: list[tuple[str, str | None, str]] = []
    bases: list[str] = []
    for match in filter(None, map(ROW.match, str(errors.__doc__).splitlines())):
        depth = len(match["branches"]) // 4
        del bases[depth:]
        rows.append((match["name"], bases[-1] if bases else None, match["errno"]))
        bases.append(match["name"])
    return rows


@pytest.fixture(scope="module")
def exceptions() -> dict[str, type[BaseException]]:
    """Import everything, and return the public exception classes of the core and of the plugins by name."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    roots = {package.__name__ for package in PACKAGES}
    found = [kind for kind in _below(BaseException) if kind.__module__.partition(".")[0] in roots]
    public = {kind.__name__: kind for kind in found if not kind.__name__.startswith("_")}
    assert all(public.get(kind.__name__, kind).__module__ == kind.__module__ for kind in found), "two of one name"
    return public


def test_the_drawing_is_the_tree(exceptions: dict[str, type[BaseException]]) -> None:
    """Each class of the tree is drawn below its base, and nothing else is drawn."""
    real = {
        name: kind.__bases__[0].__name__ if kind is not HsframeworkError else None
        for name, kind in exceptions.items()
        if issubclass(kind, HsframeworkError)
    }
    assert {name: base for name, base, _ in drawn()} == real


def test_what_is_not_drawn_is_known(exceptions: dict[str, type[BaseException]]) -> None:
    """An exception outside the tree ends a test, or never leaves its plugin."""
    outside = {name for name, kind in exceptions.items() if not issubclass(kind, HsframeworkError)}
    assert outside == END_A_TEST | WITHIN_A_PLUGIN
    assert all(name in str(errors.__doc__) for name in END_A_TEST)


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, _, number in drawn() if number[0] == "E"])
def test_the_errno_is_the_one_drawn(exceptions: dict[str, type[BaseException]], name: str, number: str) -> None:
    """A class whose row names an errno has it, where the raiser names none."""
    error = exceptions[name]() if name == "SessionTruncated" else exceptions[name]("a text")
    assert isinstance(error, HsframeworkError)
    assert error.errno == getattr(errno, number)


def test_a_broken_session_is_no_failed_handshake() -> None:
    """A program that catches HandshakeError does not catch the end of a session."""
    assert not issubclass(StreamError, HandshakeError)
    assert not issubclass(HandshakeError, StreamError)


def _below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
