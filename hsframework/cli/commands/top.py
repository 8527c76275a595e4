"""Show the running service as `hsframework status` does, again and again, until q or Ctrl-C.

On a terminal; into a pipe or a file goes one report.  NO_COLOR is kept to.  For root and the service's own user.

example:
  hsframework top
  hsframework top --interval 0.5
"""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from hsframework.cli.commands.status import report
from hsframework.cli.options.service import add_runtime_dir
from hsframework.errors import ConfigurationError, HsframeworkError

INTERVALS = (0.1, 3600.0)
"""Seconds between two looks, at least and at most."""

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"
_REVERSED, _PLAIN = "\x1b[7m", "\x1b[0m"
_SIZE = os.terminal_size((80, 24))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--interval", type=float, default=2.0, metavar="SECONDS", help="between two looks (default: 2)")
    add_runtime_dir(parser)


def run(arguments: argparse.Namespace) -> int:
    least, most = INTERVALS
    if not least <= arguments.interval <= most:
        raise ConfigurationError(f"--interval: from {least:g} to {most:g} seconds")
    if not sys.stdout.isatty() or not sys.stdin.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        ready, lines = report(arguments.runtime_dir)
        print("\n".join(lines))
        return 0 if ready else 1
    with _screen(), contextlib.suppress(KeyboardInterrupt):
        while True:
            sys.stdout.write(frame(_look(arguments.runtime_dir), _size(), colored=not os.environ.get("NO_COLOR")))
            sys.stdout.flush()
            if select.select([sys.stdin], [], [], arguments.interval)[0]:
                key = os.read(sys.stdin.fileno(), 1)
                if key in (b"q", b"Q", b""):
                    break
    return 0


def frame(lines: Sequence[str], size: os.terminal_size, *, colored: bool) -> str:
    """Return what is written for one look: as many lines as there is room for, cut to the width, and no control
    characters but ours: names and reasons come from others."""
    shown = ["".join(map(_shown, line[: size.columns])) for line in lines[: max(1, size.lines - 1)]]
    if colored:
        shown[0] = f"{_REVERSED}{shown[0].ljust(size.columns)}{_PLAIN}"
    return _HOME + "".join(f"{line}{_REST_OF_LINE}\r\n" for line in shown) + _REST


def _look(runtime_dir: Path | None) -> list[str]:
    head = f"hsframework top  {time.strftime('%Y-%m-%d %H:%M:%S')}  q: quit"
    try:
        return [head, "", *report(runtime_dir)[1]]
    except HsframeworkError as error:
        # It may be started again at any moment.
        return [head, "", str(error)]


def _size() -> os.terminal_size:
    try:
        size = os.get_terminal_size(sys.stdout.fileno())
    except OSError:
        return _SIZE
    return size if size.columns and size.lines else _SIZE


def _shown(character: str) -> str:
    return character if character.isprintable() else "?"


@contextlib.contextmanager
def _screen() -> Iterator[None]:
    """Take the terminal's other screen and its keys, and give both back at the end."""
    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        sys.stdout.write(_ENTER)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        sys.stdout.write(_LEAVE)
        sys.stdout.flush()
