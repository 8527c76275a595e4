"""docs/generate.py makes complete pages."""

from __future__ import annotations

import dataclasses
import importlib.util
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from hsframework.configuration.settings import NO_KEY, Configuration

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    specification = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def tables(kind: type[Any], path: str) -> Iterator[tuple[str, type[Any]]]:
    """Yield the dataclass of each table of the configuration, with the end of the table's name."""
    yield path, kind
    hints = typing.get_type_hints(kind)
    for item in (each for each in dataclasses.fields(kind) if each.metadata != NO_KEY):
        for inner in (hints[item.name], *typing.get_args(hints[item.name])):
            if isinstance(inner, type) and dataclasses.is_dataclass(inner):
                yield from tables(inner, item.name)


def test_every_key_of_the_configuration_has_a_row(generator: ModuleType) -> None:
    """Each key stands in the table of its own section, with a meaning and a type."""
    sections = generator.configuration_tables().split("\n### ")
    for name, kind in tables(Configuration, ""):
        section = sections[0] if not name else next(item for item in sections[1:] if name in item.split("\n")[0])
        hints = typing.get_type_hints(kind)
        for item in dataclasses.fields(kind):
            keys_alone = not any(map(dataclasses.is_dataclass, (hints[item.name], *typing.get_args(hints[item.name]))))
            if item.metadata != NO_KEY and keys_alone and (kind, item.name) != (Configuration, "plugins"):
                key = item.name.replace("_", "-")
                row = [line for line in section.splitlines() if line.startswith(f"| `{key}` |")]
                assert len(row) == 1, f"{name}.{key}"
                assert len(row[0].split(" | ")[3]) > 3, f"{name}.{key} has no meaning"
