"""Start the dispatcher and an agent for each installed plugin, and supervise them until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse

from hsframework.cli.options.service import add_configuration, add_kernel, add_tlshd, start_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    add_kernel(parser)
    add_tlshd(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = start_configuration(arguments)
    from hsframework.supervisor.main import run as supervise

    return supervise(settings)
