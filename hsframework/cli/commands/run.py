"""Start the dispatcher and an agent for each installed plugin, and supervise them until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import os

from hsframework.cli.options.service import add_configuration, add_kernel, add_tlshd, start_configuration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    add_kernel(parser)
    add_tlshd(parser)


def run(arguments: argparse.Namespace) -> int:
    settings = start_configuration(arguments)
    from hsframework.process.service_manager import ServiceManager, passed_descriptors
    from hsframework.supervisor.main import run as supervise

    manager = ServiceManager(os.environ)
    return supervise(settings, manager, passed_descriptors(os.environ))
