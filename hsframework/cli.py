"""The command line: finds the command, and turns every error into one line.

* A command is a module of :mod:`hsframework.commands` and is imported only when it is the one that was asked for.
* Exit status: 0 done, 1 it failed, 2 the command line or the configuration is wrong, 130 interrupted.
* An error is one line ``hsframework: ...`` on stderr that says what to change.  There are no tracebacks.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import NoReturn

from hsframework import __version__
from hsframework.errors import ConfigurationError, HsframeworkError, errno_name

PROGRAM = "hsframework"

COMMANDS: Mapping[str, str] = {
    "run": "start the dispatcher and an agent for each installed plugin, and supervise them",
    "dispatcher": "start the dispatcher alone",
    "agent": "start the agent of one protocol alone",
    "connect": "connect to a server and talk to it over a secure session",
    "listen": "serve clients over secure sessions",
    "plugins": "list the installed plugins",
    "plugin": "make the package of a new plugin",
    "doctor": "say what is missing on this machine, and how to mend it",
    "demo": "run the main job on this machine and show what happened",
}

EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """Errors in one line; options are not guessed from their beginnings."""

    def error(self, message: str) -> NoReturn:
        _complain(f"{message}; see '{self.prog} --help'")
        sys.exit(EXIT_USAGE)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.  Returns the exit status; raises SystemExit for ``--help`` and for a wrong command line."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)
    except HsframeworkError as error:
        wrong_usage = isinstance(error, ConfigurationError)
        _complain(str(error) if wrong_usage else f"{error} [{errno_name(error.errno)}]")
        return EXIT_USAGE if wrong_usage else EXIT_FAILURE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's own flush at exit must not fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_FAILURE
    except OSError as error:
        _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error))
        return EXIT_FAILURE


def _run(words: Sequence[str]) -> int:
    name = next((word for word in words if not word.startswith("-")), None)
    if name is not None and name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"see '{PROGRAM} --help'"
        raise ConfigurationError(f"there is no command {name!r}; {hint}")
    parsed = build_parser(name).parse_args(words)
    if parsed.command is None:
        raise ConfigurationError(f"no command was given; see '{PROGRAM} --help'")
    module = importlib.import_module(f"hsframework.commands.{parsed.command}")
    status: int = module.run(parsed)
    return status


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser, with the options of ``command`` alone."""
    parser = _Parser(
        prog=PROGRAM,
        description="Transport security handshakes as a service, for the Linux kernel and for programs in user space.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"{PROGRAM} {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser, title="commands")
    for name, text in COMMANDS.items():
        if name != command:
            commands.add_parser(name, help=text, add_help=False)
            continue
        module = importlib.import_module(f"hsframework.commands.{name}")
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
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr)
