"""Ctrl-C at any moment of a command's start: no traceback, and the status that it has later."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from hsframework.cli.interrupt import EXIT_INTERRUPTED
from tests.unit.cli.conftest import Command

INTERRUPTED_IMPORT = """
import signal, sys

class _Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, _Interrupt())
"""
"""More of the ``sitecustomize``: Ctrl-C at the moment when the module is to be imported."""

DOORS = [
    pytest.param(("-m", "hsframework"), id="module"),
    pytest.param(("-c", "import sys; from hsframework.__main__ import main; sys.exit(main())"), id="console-script"),
]


def run(command: Command, door: tuple[str, ...], *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *door, *map(str, words)],
        cwd=command.plugins,
        env=command.environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "name",
    [
        "hsframework.cli.main",
        "argparse",  # the first that it imports
        "hsframework.cli.commands.doctor",
        "hsframework.client",  # the first of the command's own
        "hsframework.dispatcher.keys.vault",  # in the midst of its work
    ],
)
@pytest.mark.parametrize("door", DOORS)
def test_while_it_is_imported(command: Command, tmp_path: Path, door: tuple[str, ...], name: str) -> None:
    """Nothing is said."""
    with (command.plugins / "sitecustomize.py").open("a") as file:
        file.write(INTERRUPTED_IMPORT.format(name=name))
    ended = run(command, door, "doctor", "--runtime-dir", tmp_path)
    assert (ended.returncode, ended.stdout, ended.stderr) == (EXIT_INTERRUPTED, "", "")


def test_an_interrupt_that_is_ignored(command: Command, tmp_path: Path) -> None:
    """A process that a shell starts in the background is not interrupted."""
    with (command.plugins / "sitecustomize.py").open("a") as file:
        file.write("import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n")
        file.write(INTERRUPTED_IMPORT.format(name="hsframework.cli.main"))
    ended = run(command, ("-m", "hsframework"), "plugins", "--json")
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_usual_way_is_restored(command: Command, tmp_path: Path) -> None:
    """A command at work gets a KeyboardInterrupt, and can end its sessions."""
    with (command.plugins / "sitecustomize.py").open("a") as file:
        file.write("import atexit, signal\natexit.register(lambda: print(signal.getsignal(signal.SIGINT).__name__))\n")
    ended = run(command, ("-m", "hsframework"), "plugins", "--json")
    assert ended.stdout.splitlines()[-1] == signal.default_int_handler.__name__
