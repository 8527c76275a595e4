"""The kernel's generator makes C of our netlink specs, and the compiler takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hsframework.netlink.spec import load_specification
from tests.support.specs import (
    C_HEADER,
    KERNEL,
    LOCAL,
    SCHEMAS,
    SPECIFICATIONS,
    check_numbers,
    compile_c,
    generate,
    name_of,
    tree_of,
)

SPECS = LOCAL.parent


@pytest.mark.parametrize("path", SPECIFICATIONS, ids=name_of)
def test_numbers(path: Path, tmp_path: Path) -> None:
    """Every operation, attribute and enumeration has a name in C, and the number that our loader reads."""
    specification = load_specification(path)
    assert specification.sets
    check_numbers(generate(path, tmp_path, "uapi"), specification)


@pytest.mark.parametrize("family", ["handshake", "handshake-raw"])
def test_a_library_on_top(family: str, tmp_path: Path) -> None:
    """The families that an agent of the kernel's speaks: requests, answers and events as structures and functions."""
    path = SPECS / f"{family}.yaml"
    numbers = generate(path, tmp_path, "uapi")
    installed = tmp_path / tree_of(path).get("uapi-header", f"linux/{family}.h")
    installed.parent.mkdir(exist_ok=True)
    numbers.rename(installed)
    generate(path, tmp_path, "user")
    source = generate(path, tmp_path, "user", "source")
    compile_c(source.read_text("utf-8"), tmp_path, KERNEL / "tools" / "net" / "ynl" / "lib")


def test_the_committed_header_is_what_is_generated(tmp_path: Path) -> None:
    """Otherwise: python -m tests.support.specs."""
    assert generate(LOCAL, tmp_path, "uapi").read_text("utf-8") == C_HEADER.read_text("utf-8")


def test_the_copies_of_the_kernels_files_are_the_kernels() -> None:
    """The schemas and specs that tests without a kernel tree use are those of the tree; otherwise copy them again."""
    copies = sorted(SCHEMAS.rglob("*.yaml"))
    assert len(copies) == 4
    for copy in copies:
        theirs = KERNEL / "Documentation" / "netlink" / copy.relative_to(SCHEMAS)
        assert copy.read_bytes() == theirs.read_bytes(), copy.name
