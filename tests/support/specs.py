"""The repository's netlink specs, the kernel's schemas for them, and the kernel's own tools for specs (YNL).

``python -m tests.support.specs`` renews ``tests/foreign/hsframework.h``, after ``make kernel``, which has the tool.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from hsframework.netlink.spec import Specification

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT / "tests" / "data" / "netlink-schemas"
KERNEL = ROOT / "build" / "kernel" / "tree"
"""The source tree of the test kernel, if it is built."""
LICENCE = "# SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)"
"""First line of a spec; the kernel's generator refuses any other."""
LOCAL = ROOT / "hsframework" / "netlink" / "specs" / "local.yaml"
C_HEADER = ROOT / "tests" / "foreign" / "hsframework.h"
"""Header that the kernel's generator makes of ``LOCAL``."""

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


def check_numbers(header: Path, specification: Specification, *include: Path) -> None:
    """Have the C compiler compare each number in a generated header with the one that our loader reads."""
    assertions = [f'_Static_assert({name} == {value}, "{name}");\n' for name, value in _numbers(specification)]
    program = f'#include "{header}"\n' + "".join(assertions)
    compile_c(program, *include)


def compile_c(program: str, *include: Path) -> None:
    """Compile a C program to nothing.  Raises AssertionError with what the compiler says, be it a warning."""
    warnings = ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"]  # the generator leaves parameters unused
    flags = ["-std=gnu11", *warnings, "-fsyntax-only", *(f"-I{folder}" for folder in include)]
    done = subprocess.run(["cc", *flags, "-x", "c", "-"], input=program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _numbers(specification: Specification) -> Iterator[tuple[str, int]]:
    """Yield the name in C and the number of each operation, attribute and value of an enumeration."""
    for operation in specification.operations.values():
        yield _name(specification.name, "cmd", operation.name), operation.value
    for used in specification.sets.values():
        for attribute in used.attributes.values():
            yield _name(specification.name, "a", used.name, attribute.name), attribute.value
    for enum, values in specification.enums.items():
        for name, value in values.items():
            yield _name(specification.name, enum, name), value


def _name(*parts: str) -> str:
    return "_".join(parts).upper().replace("-", "_")


if __name__ == "__main__":
    if not KERNEL.exists():
        sys.exit("the kernel's generator is in the tree of the test kernel: run make kernel first")
    with tempfile.TemporaryDirectory() as made:
        shutil.copy(generate(LOCAL, Path(made), "uapi"), C_HEADER)
