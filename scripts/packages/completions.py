"""Completion of the command line for bash, zsh and fish, made by shtab from the argument parsers."""

from __future__ import annotations

import shtab

from hsframework.cli.main import COMMANDS, PROGRAM, build_parser
from scripts.packages.manuals import command_parsers

PLACES = {
    "bash": f"usr/share/bash-completion/completions/{PROGRAM}",
    "zsh": f"usr/share/zsh/vendor-completions/_{PROGRAM}",
    "fish": f"usr/share/fish/vendor_completions.d/{PROGRAM}.fish",
}
"""Path of each shell's file in a package."""

_COMPLETED = {"FILE": shtab.FILE, "DIR": shtab.DIRECTORY}


def completions() -> dict[str, str]:
    """Return the files, path → text."""
    root = build_parser(tuple(COMMANDS))
    for _, parser in command_parsers(root):
        for action in parser._actions:
            if isinstance(action.metavar, str) and action.metavar in _COMPLETED:
                action.complete = _COMPLETED[action.metavar]  # type: ignore[attr-defined]
    return {path: shtab.complete(root, shell) for shell, path in PLACES.items()}
