"""Configuration that was read again, in place of the one in force: what holds at once, and what waits for a restart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from hsframework.configuration.settings import NO_KEY, Configuration
from hsframework.errors import ConfigurationError

AT_ONCE = frozenset(
    {
        "log.level",
        "timeouts.client",
        "timeouts.server",
        "timeouts.maximum",
        "kernel.client-profile",
        "kernel.server-profile",
        "groups",
        "identities",
        "psks",
        "trust",
        "profiles",
        "rule",
        "allow",
        "key-groups",
        "watch-files",
        "end-sessions",
    }
)
"""Keys whose new values hold from the moment at which they have been read again.  All others wait for a restart."""


def renewed(before: Configuration, now: Configuration) -> tuple[Configuration, tuple[str, ...]]:
    """Return the configuration to be in force, and the keys whose new values wait for a restart.

    Raises ConfigurationError if a file that the one before was made of is no longer there: what is left are defaults.
    """
    if before.file is not None and now.file is None:
        raise ConfigurationError(f"{before.file}: the file is gone; put it back, or restart the service without it")
    merged, waiting = _merged(before, now, "")
    assert isinstance(merged, Configuration)
    return merged, tuple(sorted(waiting))


def _merged(before: Any, now: Any, table: str) -> tuple[Any, list[str]]:
    """Return ``now`` with the values of ``before`` for the keys that wait, and these keys."""
    kept: dict[str, Any] = {}
    waiting: list[str] = []
    for field in dataclasses.fields(now):
        key = f"{table}{field.name.replace('_', '-')}"
        old, new = getattr(before, field.name), getattr(now, field.name)
        if key in AT_ONCE or old == new or field.metadata == NO_KEY:
            continue
        if any(other.startswith(f"{key}.") for other in AT_ONCE):
            kept[field.name], further = _merged(old, new, f"{key}.")
            waiting += further
        else:
            kept[field.name] = old
            waiting += _changed(key, old, new)
    return dataclasses.replace(now, **kept), waiting


def _changed(key: str, before: Any, now: Any) -> Iterator[str]:
    """Yield the keys below ``key`` whose values differ: ``plugins.tls13``."""
    if dataclasses.is_dataclass(now):
        for field in dataclasses.fields(now):
            if getattr(before, field.name) != getattr(now, field.name):
                yield f"{key}.{field.name.replace('_', '-')}"
    elif isinstance(now, Mapping):
        yield from (f"{key}.{name}" for name in {*before, *now} if before.get(name) != now.get(name))
    else:
        yield key
