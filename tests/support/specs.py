"""The repository's netlink specs, the kernel's schemas for them, and the kernel's own tools for specs (YNL)."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "tests" / "data" / "netlink-schemas"
KERNEL = ROOT / "build" / "kernel" / "tree"
"""The source tree of the test kernel, if it is built."""
LICENCE = "# SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)"
"""First line of a spec; the kernel's generator refuses any other."""

_FOLDERS = ("hsframework", "plugins", "examples")


def _is_source(path: Path) -> bool:
    return not {".venv", "build", "dist"} & set(path.relative_to(ROOT).parts)


FILES = sorted(path for name in _FOLDERS for path in (ROOT / name).rglob("specs/*.yaml") if _is_source(path))
SENSITIVE = [path for path in FILES if path.name.endswith(".sensitive.yaml")]
"""The files that name secrets."""
SPECIFICATIONS = [path for path in FILES if path not in SENSITIVE]


def name_of(path: Path) -> str:
    """Return a spec's path in the repository, for the names of tests."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def tree_of(path: Path) -> dict[str, Any]:
    """Return a spec's YAML tree."""
    tree = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(tree, dict)
    return tree


def generate(specification: Path, folder: Path, mode: str, kind: str = "header") -> Path:
    """Make C from a spec by the kernel's generator, in a folder laid out as a kernel's tree, and return the file.

    ``mode``: ``uapi``, the numbers alone, or ``user``, a library on top of them.  ``kind``: ``header`` or ``source``.
    """
    specs = folder / "Documentation" / "netlink" / "specs"
    specs.mkdir(parents=True, exist_ok=True)
    (folder / "MAINTAINERS").touch()  # by which the generator knows a kernel's tree
    for schema in SCHEMAS.glob("*.yaml"):
        shutil.copy(schema, specs.parent)
    shutil.copy(specification, specs)
    made = folder / f"{specification.stem}-{mode}.{'h' if kind == 'header' else 'c'}"
    generator = KERNEL / "tools" / "net" / "ynl" / "pyynl" / "ynl_gen_c.py"
    arguments = ["--mode", mode, f"--{kind}", "--spec", f"Documentation/netlink/specs/{specification.name}"]
    command = [sys.executable, "-B", str(generator), *arguments, "-o", str(made)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return made
