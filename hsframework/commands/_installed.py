"""Whether a protocol's plugin is installed in this process."""

from __future__ import annotations

from hsframework.errors import ConfigurationError


def check_installed(name: str) -> None:
    """Raises ConfigurationError that says what is there instead, or what is wrong with it."""
    from hsframework.plugins import load_plugins

    registry = load_plugins()
    if name in registry.protocols:
        return
    for error in registry.errors:
        if error.name == name:
            raise ConfigurationError(f"the plugin {name!r} cannot be used: {error.message}")
    known = ", ".join(sorted(registry.protocols)) or "none"
    raise ConfigurationError(f"no plugin serves the protocol {name!r}: install hsframework-{name} (installed: {known})")
