"""Start the dispatcher alone; agents come and go by themselves ('hsframework agent NAME')."""

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
    from hsframework.dispatcher import main
    from hsframework.process.kept import Kept
    from hsframework.process.service_manager import ServiceManager, passed_descriptors
    from hsframework.registry.installed import plugin_names

    manager = ServiceManager(os.environ)
    kept = Kept(passed_descriptors(os.environ), manager)
    plugins = [name for name in plugin_names() if name not in settings.blocked_plugins]
    return main.run(settings, main.Surroundings(kept=kept, manager=manager, plugins=plugins))
