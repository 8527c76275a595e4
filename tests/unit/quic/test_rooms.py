"""The rooms of the QUIC plugin: which folder may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import hsframework_quic

PACKAGE = Path(hsframework_quic.__file__).parent
NAME = PACKAGE.name

SHELL = frozenset({"hooks", "plugin", "protocol"})
"""Modules at the top that know every room.  The other modules at the top know none."""

ALLOWED: dict[str, frozenset[str]] = {
    "shared": frozenset(),
    "aioquic_adapter": frozenset({"shared"}),
    "handshake": frozenset({"shared", "aioquic_adapter"}),
    "consumer": frozenset({"shared", "aioquic_adapter"}),
    "port": frozenset({"shared", "aioquic_adapter"}),
    "kernel": frozenset({"shared", "aioquic_adapter"}),
    "shell": frozenset({"shared", "aioquic_adapter", "handshake", "consumer", "port", "kernel"}),
}
"""Each room, and the rooms that it imports: no more than these, and no fewer."""

Edge = tuple[str, str, str]


def room(parts: tuple[str, ...]) -> str:
    """Return the room of a module, given by its path within the package."""
    if len(parts) == 1 and not (PACKAGE / parts[0]).is_dir():
        return "shell" if parts[0] in SHELL else "shared"
    return parts[0]


def imported(tree: ast.AST) -> Iterator[tuple[str, ...]]:
    """Yield the path within the package of every module of it that is imported, in functions and for types too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            first = (node.module or "").split(".")
            names = [[*first, alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        for name in names:
            parts = tuple(name[1:])
            if name[0] == NAME and parts:
                yield parts if is_module(parts) else parts[:-1]


def is_module(parts: tuple[str, ...]) -> bool:
    """Return True if the package has a module or a folder of this path."""
    path = PACKAGE.joinpath(*parts)
    return path.is_dir() or path.with_suffix(".py").is_file()


def edges(sources: dict[tuple[str, ...], str]) -> set[Edge]:
    """Return (importing module, its room, imported room) for every import from one room into another."""
    found = set()
    for parts, source in sources.items():
        for other in imported(ast.parse(source)):
            if other and room(parts) != room(other):
                found.add((".".join(parts), room(parts), room(other)))
    return found


@pytest.fixture(scope="module")
def sources() -> dict[tuple[str, ...], str]:
    """The text of every module but the package's own ``__init__``, by its path within the package."""
    paths = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    return {parts: path.read_text("utf-8") for parts, path in paths.items() if parts != ("__init__",)}


def test_every_folder_is_in_the_table(sources: dict[tuple[str, ...], str]) -> None:
    """A new folder needs a row."""
    assert {room(parts) for parts in sources} == set(ALLOWED)


def test_imports_keep_to_the_table(sources: dict[tuple[str, ...], str]) -> None:
    """No room imports one that its row does not name."""
    assert {edge for edge in edges(sources) if edge[2] not in ALLOWED[edge[1]]} == set()


def test_the_table_allows_nothing_else(sources: dict[tuple[str, ...], str]) -> None:
    """Every room that a row names is imported by it."""
    used = {(importing, other) for _, importing, other in edges(sources)}
    assert used == {(importing, other) for importing, others in ALLOWED.items() for other in others}


def test_the_table_has_no_circle() -> None:
    """The rooms can be put in an order in which each imports earlier ones alone."""
    ordered: list[str] = []
    while len(ordered) < len(ALLOWED):
        ready = [name for name, others in ALLOWED.items() if name not in ordered and others <= set(ordered)]
        assert ready, f"a circle among {set(ALLOWED) - set(ordered)}"
        ordered += ready


@pytest.mark.parametrize(
    "source",
    [
        "from hsframework_quic.consumer.blocking import QuicStream",
        "from hsframework_quic.consumer import blocking",
        "from hsframework_quic import consumer",
        "import hsframework_quic.consumer.blocking as one",
        "def later() -> None:\n    from hsframework_quic.consumer import endings",
        "if TYPE_CHECKING:\n    from hsframework_quic.consumer.driver import Driver",
    ],
)
def test_each_way_of_importing_is_seen(source: str) -> None:
    """An import from a room into another is found however it is written."""
    assert edges({("handshake", "new"): source}) == {("handshake.new", "handshake", "consumer")}
