"""The kernel modules of a copy of the tree: built within it, where the test kernel of the copy finds them."""

from __future__ import annotations

import shutil
from pathlib import Path

from scripts.kernel import modules
from scripts.lint.sources import ROOT

SOURCES = modules.SOURCES.relative_to(ROOT)
KERNEL = Path("build", "kernel")


class Unbuilt(Exception):
    """A source that the compiler refuses."""


def link_builds(root: Path) -> None:
    """Link what is built in the checkout into a copy of the tree, but its modules, for which the copy has a folder."""
    for folder in (KERNEL.parent, KERNEL):
        if not (ROOT / folder).is_dir():
            return
        (root / folder).mkdir()
        for entry in (ROOT / folder).iterdir():
            if entry.relative_to(ROOT) != KERNEL and entry.relative_to(ROOT) != KERNEL / "ko":
                (root / folder / entry.name).symlink_to(entry)


def build(root: Path, work: Path) -> None:
    """Build the modules of a copy; in ``work`` is kept what need not be built again.  Raises Unbuilt."""
    for source in (root / SOURCES).rglob("*"):
        copy = work / source.relative_to(root / SOURCES)
        if source.is_file() and (not copy.exists() or copy.read_bytes() != source.read_bytes()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    done = modules.make(work, (ROOT / KERNEL / "tree").resolve())
    if done.returncode:
        raise Unbuilt(f"{done.stdout}{done.stderr}")
    shutil.rmtree(root / KERNEL / "ko", ignore_errors=True)
    (root / KERNEL / "ko").mkdir()
    for module in work.rglob("*.ko"):
        shutil.copyfile(module, root / KERNEL / "ko" / module.name)
