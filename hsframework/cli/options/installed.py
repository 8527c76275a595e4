"""Which plugins are installed here, and whether they can be used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hsframework.cli.interrupt import leave_when_interrupted, raise_when_interrupted
from hsframework.errors import ConfigurationError

if TYPE_CHECKING:
    from hsframework.registry.plugins import PluginRegistry


def try_plugins(blocked: Sequence[str]) -> PluginRegistry:
    """All that are installed.  One that exits or hangs when it is imported is recorded so, and we live."""
    from hsframework.registry.plugins import load_plugins
    from hsframework.registry.trial import unfit_plugins

    # A KeyboardInterrupt in what is called at a fork would be printed and forgotten; the trials die with us.
    leave_when_interrupted()
    try:
        unfit = unfit_plugins(blocked)
    finally:
        raise_when_interrupted()
    return load_plugins(blocked=blocked, unfit=unfit)


def check_installed(name: str) -> None:
    """Raises ConfigurationError that says what is there instead, or what is wrong with it."""
    from hsframework.registry.plugins import load_plugins

    registry = load_plugins()
    if name in registry.protocols:
        return
    for error in registry.errors:
        if error.name == name:
            raise ConfigurationError(f"the plugin {name!r} cannot be used: {error.message}")
    known = ", ".join(sorted(registry.protocols)) or "none"
    raise ConfigurationError(f"no plugin serves the protocol {name!r}: install hsframework-{name} (installed: {known})")
