"""Start the dispatcher alone; agents come and go by themselves ('hsframework agent NAME')."""

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
    from hsframework.dispatcher import main
    from hsframework.process.kept import VAULT
    from hsframework.registry.installed import check_required, plugin_names

    if VAULT not in kept.names():
        # Its agents refuse to start as well.  After a crash those that serve go on.
        check_required(settings.required_plugins)
    plugins = [name for name in plugin_names() if name not in settings.blocked_plugins]
    load = partial(read_again, arguments)
    surrounding = main.Surroundings(kept=kept, manager=manager, plugins=plugins, joining=plugins, load=load)
    return main.run(settings, surrounding)
