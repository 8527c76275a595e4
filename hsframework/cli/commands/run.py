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


def run(arguments: argparse.Namespace) -> int:
    manager, kept = surroundings()
    settings = start_configuration(arguments, kept)
    from hsframework.supervisor.main import run as supervise

    return supervise(settings, manager, kept, partial(read_again, arguments))
