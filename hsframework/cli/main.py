"""The command line: command look-up, exit status, and one-line error messages.

* A command is a module of :mod:`hsframework.cli.commands`, imported only when it is run.
* Exit status: 0 done, 1 failed, 2 wrong command line or configuration, 130 interrupted.
* An error is one line ``hsframework: ...`` on stderr that says what to change.  There are no tracebacks.
* File descriptors 0 to 2 are never a socket: if the caller has closed one, input is at its end, output fails, and
  messages are lost.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import NoReturn

from hsframework import __version__
from hsframework.cli.interrupt import EXIT_INTERRUPTED, raise_when_interrupted
from hsframework.errors import ConfigurationError, HsframeworkError, errno_name
from hsframework.telemetry.journal import is_journal, with_priority

PROGRAM = "hsframework"

COMMANDS: Mapping[str, str] = {
    "run": "start the dispatcher and an agent for each installed plugin, and supervise them",
    "dispatcher": "start the dispatcher alone",
    "agent": "start the agent of one plugin alone",
    "connect": "connect to a server and talk to it over a secure session",
    "listen": "serve clients over secure sessions",
    "forward": "protect the connections of programs that cannot be changed",
    "status": "show the running service: groups, agents, requests, failures of the last minutes, files in use",
    "top": "show the same live, on a terminal",
    "sessions": "list the sessions that are open in the kernel, with their peers",
    "trace": "show each message of the next handshakes with a peer",
    "reload": "have the running service read its files again",
    "groups": "list the groups that the running service serves, and by whom",
    "plugins": "list the installed plugins",
    "plugin": "make the package of a new plugin",
    "units": "write the units for systemd, with the paths of this installation",
    "config": "check a configuration without starting anything, or show it whole",
    "explain": "say how a request of the kernel would be served, and whether a peer would be admitted",
    "doctor": "say what is missing on this machine, and how to mend it",
    "demo": "run the main job on this machine and show what happened",
}

EXIT_FAILURE = 1
EXIT_USAGE = 2

_LONGEST_WORD = 1000
_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))
"""Standard streams, and the mode in which a closed one is opened; writing to a closed stdout must fail."""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{message}; see '{self.prog} --help'")
        sys.exit(EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.  Raises SystemExit for ``--help`` and for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_standard_streams()
    try:
        status = _run(words)
        _flush_output()
        return status
    except HsframeworkError as error:
        wrong_usage = isinstance(error, ConfigurationError)
        _complain(str(error) if wrong_usage else f"{error} [{errno_name(error.errno)}]")
        return EXIT_USAGE if wrong_usage else EXIT_FAILURE
    except KeyboardInterrupt:
        # A second SIGINT, while threads are being joined, ends the process silently.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it
        _forget_output()
        return EXIT_FAILURE
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        _flush_or_forget_output()
        return EXIT_FAILURE


def _run(words: Sequence[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"see '{PROGRAM} --help'"
        raise ConfigurationError(f"there is no command {name!r}; {hint}")
    parsed, unknown = build_parser(() if name is None else (name,)).parse_known_args(words)
    if unknown:
        program = " ".join(filter(None, (PROGRAM, parsed.command)))
        raise ConfigurationError(f"{', '.join(unknown)}: not known here; see '{program} --help'")
    if parsed.command is None:
        raise ConfigurationError(f"no command was given; see '{PROGRAM} --help'")
    module = importlib.import_module(f"hsframework.cli.commands.{parsed.command}")
    raise_when_interrupted()
    status: int = module.run(parsed)
    return status


def build_parser(complete: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser for all commands, with the options of those in ``complete`` only."""
    parser = _Parser(
        prog=PROGRAM,
        description="Transport security handshakes as a service, for the Linux kernel and for programs in user space.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser, title="commands")
    for name, text in COMMANDS.items():
        if name not in complete:
            commands.add_parser(name, help=text, add_help=False)
            continue
        module = importlib.import_module(f"hsframework.cli.commands.{name}")
        sub = commands.add_parser(
            name,
            help=text,
            description=module.__doc__,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(sub)
    return parser


def _complain(message: str) -> None:
    line = f"{PROGRAM}: {' '.join(map(_short, message.split()))}"
    print(with_priority(line, "error") if is_journal(2, os.environ) else line, file=sys.stderr)


def _short(word: str) -> str:
    """Cut an overlong word, such as a pasted certificate."""
    return word if len(word) <= _LONGEST_WORD else f"{word[:200]}...{word[-50:]}"


def _open_standard_streams() -> None:
    """Open closed standard streams on ``/dev/null``, so that no other file gets their file descriptors."""
    for number, (name, flags) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, flags)  # the lowest number that is free, and 0 to 2 are opened in order
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", closefd=False))  # noqa: SIM115


def _flush_output() -> None:
    try:
        sys.stdout.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, "output") from None


def _flush_or_forget_output() -> None:
    try:
        sys.stdout.flush()
    except OSError:
        _forget_output()


def _forget_output() -> None:
    """Send further output to ``/dev/null``, so that the interpreter's flush at exit does not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
