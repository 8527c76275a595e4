"""The commands of docs/howto/kernel-consumer.md build a module outside of the tree."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from tests.support.specs import KERNEL

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "kernel-consumer.md"
MODULES = ROOT / "tests" / "kernel" / "modules"


def test_a_module_outside_of_the_tree(tmp_path: Path) -> None:
    """The page's makefile and its two commands: first the service with its symbols, then a module that uses them."""
    page = PAGE.read_text("utf-8")
    makefile = re.search(r"```make\n(.*?)```", page, re.DOTALL)
    commands = re.findall(r"^\$ (make -C .*)$", page, re.MULTILINE)
    assert makefile is not None
    assert len(commands) == 2
    modules, mine = tmp_path / "MODULES", tmp_path / "mine"
    shutil.copytree(MODULES, modules)
    mine.mkdir()
    shutil.copy(modules / "greeter" / "greeter.c", mine / "mine.c")
    (mine / "Makefile").write_text(makefile[1].replace("/path/to/MODULES", str(modules)))
    for command in commands:
        line = command.replace("/path/to/MODULES", str(modules)).replace("$kernel", str(KERNEL)) + " ARCH=um"
        done = subprocess.run(["sh", "-c", line], cwd=mine, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    assert (mine / "mine.ko").exists()
    assert (modules / "handshake" / "hsframework_handshake.ko").exists()
