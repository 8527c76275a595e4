"""Our kernel modules pass the kernel's own checks, and each of these checks can fail."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.kernel import checks
from scripts.kernel.modules import SOURCES

pytestmark = pytest.mark.skipif(checks.unavailable() is not None, reason=str(checks.unavailable()))

STYLE = """
int hsf_fault(void)
{
	return(0);
}
"""
DOCUMENTATION = """
/**
 * hsf_fault - nothing
 */
int hsf_fault(int of)
{
	return of;
}
"""
SEMANTICS = """
int hsf_fault(const int __user *from)
{
	return *from;
}
"""


def test_the_modules_pass() -> None:
    """No complaint comes from checkpatch, kernel-doc, the compiler or sparse."""
    assert checks.complaints() == []


@pytest.mark.parametrize(
    ("check", "code", "complaints"),
    [
        (checks.styled, STYLE, ["RETURN_PARENTHESES"]),
        (checks.documented, DOCUMENTATION, ["'of' not described"]),
        (checks.compiled, SEMANTICS, ["no previous prototype", "dereference of noderef"]),
    ],
    ids=["checkpatch", "kernel-doc", "compiler and sparse"],
)
def test_each_check_can_fail(
    tmp_path: Path, check: Callable[[Path, Path], Iterator[str]], code: str, complaints: list[str]
) -> None:
    """A fault of its kind, in a copy of the sources, is found, and nothing else."""
    copy = tmp_path / "modules"
    shutil.copytree(SOURCES, copy)
    with open(copy / "handshake/tls.c", "a") as source:
        source.write(code)
    found = list(check(copy, checks.TREE.resolve()))
    for complaint in complaints:
        assert any(complaint in line for line in found), found
    assert all("handshake/tls.c" in line for line in found), found
