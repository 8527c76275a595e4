"""Start the dispatcher alone; agents come and go by themselves ('hsframework agent NAME')."""

from __future__ import annotations

import argparse

from hsframework.cli.options.service import add_configuration, add_kernel, add_tlshd, start_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    add_kernel(parser)
    add_tlshd(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = start_configuration(arguments)
    from hsframework.dispatcher import main

    return main.run(settings) or 0
