"""Start the dispatcher and an agent for each installed plugin, and supervise them until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
from functools import partial

from hsframework.cli.options.service import (
    add_configuration,
    add_kernel,
    add_tlshd,
    read_again,
    start_configuration,
    surroundings,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    add_kernel(parser)
    add_tlshd(parser)
    parser.add_argument(
        "--agents-apart",
        action="store_true",
        help="agents come by themselves ('hsframework agent NAME'), as under the systemd units; those started here "
        "serve the users whom [[allow]] names, and nobody else",
    )


def run(arguments: argparse.Namespace) -> int:
    manager, kept = surroundings()
    settings = start_configuration(arguments, kept)
    from hsframework.supervisor.main import run as supervise

    return supervise(settings, manager, kept, partial(read_again, arguments), apart=arguments.agents_apart)
