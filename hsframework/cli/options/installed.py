"""Installed plugins, for commands that report on them or need one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsframework.cli.interrupt import leave_when_interrupted, raise_when_interrupted
from hsframework.errors import ConfigurationError

if TYPE_CHECKING:
    from hsframework.registry.plugins import PluginRegistry


def try_plugins(blocked: Sequence[str]) -> PluginRegistry:
    """Load all installed plugins; one that exits, crashes or hangs on import is recorded as an error."""
    from hsframework.registry.plugins import load_plugins
    from hsframework.registry.trial import unfit_plugins

    # A KeyboardInterrupt in a callback at a fork would be printed and lost; the trial processes die with this one.
    leave_when_interrupted()
    try:
        unfit = unfit_plugins(blocked)
    finally:
        raise_when_interrupted()
    return load_plugins(blocked=blocked, unfit=unfit)


def check_installed(name: str) -> None:
    """Raise ConfigurationError, which says what is installed instead, unless protocol ``name`` is in use."""
    from hsframework.registry.plugins import load_plugins

    registry = load_plugins()
    if name in registry.protocols:
        return
    for error in registry.errors:
        if error.name == name:
            raise ConfigurationError(f"the plugin {name!r} cannot be used: {error.message}")
    known = ", ".join(sorted(registry.protocols)) or "none"
    raise ConfigurationError(f"no plugin serves the protocol {name!r}: install hsframework-{name} (installed: {known})")
