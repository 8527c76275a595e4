"""Subjects: files, the tests that are to catch their mutants, and how many of these are run (``subjects.toml``)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from scripts.lint.sources import ROOT
from scripts.mutants.mutants import Mutant, chosen, mutants_of

FILE = Path(__file__).with_name("subjects.toml")


@dataclass(frozen=True, slots=True)
class Subject:
    """Files with the same tests."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    first: tuple[str, ...]
    """Quick ones among them, which are tried before all where it is not recorded which of them call what."""
    most: int
    suite: tuple[str, ...]
    """The conformance suite of a plugin, which judges its mutants before the plugin's own tests do; empty: none is."""
    project: str
    """Folder in which the tests run, from the root: an example's own, which no environment has installed; or "."."""
    kernel: bool
    """True if the files are a kernel module's, and the tests run in the test kernel."""
    mutants: tuple[Mutant, ...] = field(repr=False)
    """Every one that there is."""

    @property
    def outside(self) -> bool:
        """True if the files are those of plugins and examples."""
        return all(name.startswith(("plugins/", "examples/")) for name in self.files)

    def chosen(self, seed: str, most: int | None = None) -> list[Mutant]:
        """Return the mutants that are run: those of ``most`` that the seed chooses."""
        return chosen(self.mutants, self.most if most is None else most, seed)


def subjects(path: Path = FILE, root: Path = ROOT) -> Iterator[Subject]:
    """Yield the subjects.  Raises ValueError for a pattern that matches no file of its own."""
    taken: set[str] = set()
    for entry in tomllib.loads(path.read_text())["subject"]:
        files: list[str] = []
        for pattern in entry["files"]:
            matching = sorted(str(found.relative_to(root)) for found in root.glob(pattern))
            own = [name for name in matching if name not in taken]
            if not own:
                raise ValueError(f"{path.name}: {entry['name']}: {pattern}: no file matches that is not another's")
            taken.update(own)
            files.extend(own)
        found = tuple(mutant for name in files for mutant in mutants_of(root / name, root))
        yield Subject(
            entry["name"],
            tuple(files),
            tuple(entry["tests"]),
            tuple(entry["first"]),
            entry["most"],
            tuple(entry.get("suite", ())),
            entry.get("project", "."),
            entry.get("kernel", False),
            found,
        )
