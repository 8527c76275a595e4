"""Start the agent of one protocol alone: it pulls requests from a dispatcher that runs apart.

When it is started by root it changes to --user and gives up every capability before it takes a request.
"""

from __future__ import annotations

import argparse

from hsframework.cli.options.service import add_configuration, start_configuration, surroundings
from hsframework.process.kept import CONFIGURATION

MAX_PROCESSES = 256


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="the protocol, as 'hsframework plugins' lists it")
    parser.add_argument(
        "--processes", metavar="N", type=_processes, help="agents in this group (default: the configuration's)"
    )
    parser.add_argument("--user", metavar="USER", help="user to run as, name or number (default: the configuration's)")
    add_configuration(parser)


def run(arguments: argparse.Namespace) -> int:
    manager, kept = surroundings()
    settings = start_configuration(arguments, kept)
    from hsframework.agent.main import run_agent

    status = run_agent(arguments.name, settings, manager, processes=arguments.processes, user=arguments.user)
    if status == 0:
        kept.remove(CONFIGURATION)
    return status


def _processes(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text) <= MAX_PROCESSES:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {MAX_PROCESSES}")
    return int(text)
