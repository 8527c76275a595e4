"""The tree of exceptions that is drawn on top of hsframework/errors.py, against the classes themselves."""

from __future__ import annotations

import ast
import copy
import errno
import importlib
import pickle
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import hsframework
import hsframework_psp
import hsframework_quic
import hsframework_tls13
from hsframework import errors
from hsframework.errors import ClientTimeout, HandshakeError, HsframeworkError, StreamError
from hsframework.failures import Failure, HandshakeFailed

PACKAGES = (hsframework, hsframework_psp, hsframework_quic, hsframework_tls13)
ROW = re.compile(r"^    (?P<branches>[│├└─ ]*)(?P<name>\w+) +(?P<errno>errno|\(any\)|\(table\)|E[A-Z]+)(?: |$)")
END_A_TEST = {"CheckBroke", "ConformanceFailure", "LoopBlocked"}
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


def test_a_program_that_catches_oserror_catches_ours(exceptions: dict[str, type[BaseException]]) -> None:
    """Marked in the drawing, and those below, are OSErrors; no others, and the text is the text alone."""
    marked = set(re.findall(r"── (\w+) +\S+ ?\*", str(errors.__doc__)))
    ours = {name for name, kind in exceptions.items() if issubclass(kind, HsframeworkError)}
    for name in ours:
        bases = {kind.__name__ for kind in exceptions[name].__mro__}
        assert issubclass(exceptions[name], OSError) == bool(bases & marked), name
    assert issubclass(ClientTimeout, HandshakeError)
    error = ClientTimeout("no answer")
    assert isinstance(error, TimeoutError)
    assert (str(error), error.strerror, error.errno) == ("no answer", "no answer", errno.ETIMEDOUT)


@pytest.mark.parametrize(
    "error",
    [
        HandshakeFailed(Failure.REVOKED, "serial 7", peer_alert=44),
        StreamError("over", errno=errno.EPIPE),
        errors.ConfigurationError("a text"),
    ],
)
def test_errors_pass_between_processes(error: HsframeworkError) -> None:
    """A copied and a pickled error have class, text, errno and attributes of the first."""
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(other) is type(error)
        assert (str(other), other.errno, vars(other)) == (str(error), error.errno, vars(error))


def test_no_handler_of_oserror_takes_an_error_of_ours(exceptions: dict[str, type[BaseException]]) -> None:
    """No ``try`` catches by its handler of OSError an error that its own body raises."""
    ours = {name for name, kind in exceptions.items() if {HsframeworkError, OSError} <= set(kind.__mro__)}
    ours |= {"socket_closed", "link_lost", "connect_error", "cannot_send"}
    for package in PACKAGES:
        for path in Path(package.__path__[0]).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Try) and _caught_first(node) == "OSError":
                    raised = {ast.unparse(each.exc).partition("(")[0] for each in _raises(node.body) if each.exc}
                    assert not raised & ours, f"{path}:{node.lineno}"


def _caught_first(node: ast.Try) -> str | None:
    names = [ast.unparse(handler.type) for handler in node.handlers if handler.type is not None]
    known = [name for name in names if re.search(r"OSError|HsframeworkError|Refused|StreamError|HandshakeError", name)]
    return "OSError" if known and "OSError" in known[0] and "HsframeworkError" not in known[0] else None


def _raises(body: list[ast.stmt]) -> Iterator[ast.Raise]:
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Raise):
                yield node


def _below(kind: type[BaseException]) -> Iterator[type[BaseException]]:
    for child in kind.__subclasses__():
        yield child
        yield from _below(child)
