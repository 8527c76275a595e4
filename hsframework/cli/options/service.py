"""Options that the long-running commands share, and the configuration that results from them."""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hsframework.configuration.runtime_dir import DEFAULT_PATH
from hsframework.configuration.settings import Configuration
from hsframework.configuration.toml import load_configuration
from hsframework.errors import ConfigurationError
from hsframework.local.places import VARIABLE, default_runtime_dir, environment_runtime_dir

if TYPE_CHECKING:
    from hsframework.process.kept import Kept
    from hsframework.process.service_manager import ServiceManager

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("console", "json")


def add_runtime_dir(parser: argparse.ArgumentParser) -> None:
    """Add ``--runtime-dir``."""
    parser.add_argument(
        "--runtime-dir",
        metavar="DIR",
        type=Path,
        help=f"folder of the dispatcher's sockets (default: {VARIABLE} in the environment, the configuration's, here "
        f"{default_runtime_dir()})",
    )


def add_configuration_file(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``."""
    parser.add_argument(
        "--config", metavar="FILE", type=Path, help=f"configuration in TOML (default: {DEFAULT_PATH} if it is there)"
    )


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """Add ``--config``, ``--runtime-dir``, ``--log-level`` and ``--log-format``, for a command that serves."""
    add_configuration_file(parser)
    add_runtime_dir(parser)
    parser.add_argument("--log-level", choices=LEVELS, help="overrides the configuration's")
    parser.add_argument("--log-format", choices=FORMATS, help="overrides the configuration's")


def add_kernel(parser: argparse.ArgumentParser) -> None:
    """Add ``--netns``."""
    parser.add_argument(
        "--netns",
        metavar="NAME|PATH",
        action="append",
        default=[],
        help="a further network namespace whose kernel consumers are served: a name of 'ip netns', or a path; may be "
        "given several times",
    )


def add_tlshd(parser: argparse.ArgumentParser) -> None:
    """Add ``--tlshd-config``."""
    parser.add_argument(
        "--tlshd-config",
        metavar="FILE",
        type=Path,
        nargs="?",
        const=True,
        help="tlshd's own configuration, for the kernel's requests and beside --config; without FILE: /etc/tlshd.conf "
        "if it is there, else /etc/tlshd/config",
    )


def configuration(arguments: argparse.Namespace) -> Configuration:
    """Load the configuration file and apply the command line to it, as far as it has the options.

    Raises ConfigurationError.
    """
    return _configuration(arguments)[0]


def configuration_and_warnings(arguments: argparse.Namespace) -> tuple[Configuration, tuple[str, ...]]:
    """Return the same, and warnings about what was passed over.  Raises ConfigurationError."""
    return _configuration(arguments)


def _configuration(arguments: argparse.Namespace) -> tuple[Configuration, tuple[str, ...]]:
    """Return the configuration, and warnings for the log."""
    result = load_configuration(arguments.config)
    warnings: tuple[str, ...] = ()
    asked = getattr(arguments, "tlshd_config", None)
    if asked is not None:
        from hsframework.configuration.tlshd import load_tlshd_configuration

        tlshd = load_tlshd_configuration(None if asked is True else asked)
        result, warnings = tlshd.onto(result), tlshd.warnings
    log = result.log
    level, form = getattr(arguments, "log_level", None), getattr(arguments, "log_format", None)
    log = replace(log, level=level or log.level, format=form or log.format)
    folder = getattr(arguments, "runtime_dir", None)
    runtime_dir = folder.absolute() if folder is not None else environment_runtime_dir() or result.runtime_dir
    further = tuple(name for name in getattr(arguments, "netns", ()) if name not in result.kernel.namespaces)
    kernel = replace(result.kernel, namespaces=(*result.kernel.namespaces, *dict.fromkeys(further)))
    return replace(result, log=log, runtime_dir=runtime_dir, kernel=kernel), warnings


def surroundings() -> tuple[ServiceManager, Kept]:
    """Return the service manager that has started this process, and the descriptors that it has passed."""
    from hsframework.process.kept import Kept
    from hsframework.process.service_manager import ServiceManager, passed_descriptors

    manager = ServiceManager(os.environ)
    return manager, Kept(passed_descriptors(os.environ), manager)


def start_configuration(arguments: argparse.Namespace, kept: Kept) -> Configuration:
    """Load the configuration as :func:`configuration` does, and set up logging by it.  Raises ConfigurationError.

    ``kept``: descriptors of a predecessor.  One that died has left its configuration there, which is used if the files
    have become wrong meanwhile.
    """
    import structlog

    from hsframework.process.kept import CONFIGURATION
    from hsframework.process.signals import ignore_hangup
    from hsframework.telemetry.log import configure

    ignore_hangup()
    log = structlog.get_logger("hsframework.configuration")
    before = _configuration_before(kept)
    try:
        settings, warnings = _configuration(arguments)
    except ConfigurationError as error:
        if before is None:
            raise
        settings, warnings = before, (f"the configuration has become wrong; the one before is used: {error}",)
    configure(settings.log.level, settings.log.format)
    for warning in warnings:
        log.warning(warning)
    _report_versions(arguments.command)
    kept.put_snapshot(CONFIGURATION, settings)
    return settings


def read_again(arguments: argparse.Namespace) -> Configuration:
    """Load the configuration of a service that runs anew.  Raises ConfigurationError."""
    import structlog

    settings, warnings = _configuration(arguments)
    for warning in warnings:
        structlog.get_logger("hsframework.configuration").warning(warning)
    return settings


def _configuration_before(kept: Kept) -> Configuration | None:
    from hsframework.process.kept import CONFIGURATION
    from hsframework.process.snapshot import thaw

    fd = kept.take(CONFIGURATION)
    if fd is None:
        return None
    try:
        before = thaw(fd)
    except ValueError:
        return None
    return before if isinstance(before, Configuration) else None


def _report_versions(command: str) -> None:
    """Log what is started, once and by the first process."""
    import platform

    import structlog

    from hsframework import __version__
    from hsframework.registry.installed import installed

    found = installed()
    structlog.get_logger("hsframework").info(
        "hsframework starts",
        command=command,
        version=__version__,
        plugins={each.name: each.version for each in found.plugins},
        python=platform.python_version(),
        kernel=platform.release(),
    )
