"""Reports of a keeper about its start: what it has loaded, and the exit status of an error."""

from __future__ import annotations

from hsframework.agent.served import Served
from hsframework.agent.warmup import ExitStatus
from hsframework.errors import ConfigurationError, HsframeworkError, MessageError, PluginError, RequiredPluginError
from hsframework.local.control import Loaded


def loaded(served: tuple[Served, ...]) -> Loaded:
    """Return the report of what a plugin serves.  Raises PluginError for names that cannot be sent."""
    groups = sorted({group for item in served for group in item.protocol.groups})
    try:
        return Loaded(tuple(groups), tuple(item.name for item in served))
    except MessageError as error:
        raise PluginError(f"the plugin's groups or protocols cannot be reported: {error}") from None


def status_of(error: HsframeworkError) -> ExitStatus:
    """Return the exit status of a keeper that cannot start for this error."""
    if isinstance(error, RequiredPluginError):
        # Not for good: on a busy machine the trial of an import may have taken too long.
        return ExitStatus.REQUIRED
    return ExitStatus.CONFIGURATION if isinstance(error, (ConfigurationError, PluginError)) else ExitStatus.FAILED
