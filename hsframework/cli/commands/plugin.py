"""Make the package of a new plugin: one that installs, serves a trivial handshake, and passes its tests.

example:
  hsframework plugin new my-way
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hsframework.errors import ConfigurationError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["new"], help="make a package")
    parser.add_argument("name", metavar="NAME", help="of the protocol and its group; the package is hsframework-NAME")
    parser.add_argument("--folder", metavar="DIR", type=Path, default=Path(), help="where to put it (default: here)")


def run(arguments: argparse.Namespace) -> int:
    from hsframework.registry.plugins import load_plugins
    from hsframework.scaffold import Names, create

    names = Names(arguments.name)
    if names.name in load_plugins().protocols:
        raise ConfigurationError(f"{names.name!r} is the name of a protocol that is installed; choose another")
    files = create(names, arguments.folder)
    folder = arguments.folder / names.distribution
    print(f"{folder}/")
    for path in files:
        print(f"    {path}")
    print(f"\nIt is a plugin that works.  Next:\n    cd {folder}\n    pip install --editable '.[test]'\n    pytest")
    return 0
