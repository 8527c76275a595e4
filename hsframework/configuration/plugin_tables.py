"""Tables of the configuration for plugins that are not installed.

An agent is named by its plugin, in ``[agents.NAME]`` as by `hsframework agent NAME`.  The settings in
``[plugins.NAME]`` are a protocol's, or those of a plugin that has no protocol.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from hsframework.configuration.settings import Configuration


@dataclass(frozen=True, slots=True)
class UnreadTable:
    """A table that no plugin reads.  ``name``: for example ``plugins.NAME``.  ``mend``: advice."""

    name: str
    reason: str
    mend: str


def unread_tables(
    configuration: Configuration, plugins: Collection[str], protocols: Mapping[str, str]
) -> Iterator[UnreadTable]:
    """Yield the tables ``[agents.NAME]`` and ``[plugins.NAME]`` that no plugin reads.

    ``protocols``: those of the plugins, each with its plugin.  The tables must be reported, because a slip in a name
    leaves the plugin without its settings.
    """
    yield from unread_agents(configuration, plugins, protocols)
    names = {*plugins, *protocols}
    for name in sorted(configuration.plugins):
        if name not in names:
            yield UnreadTable(
                f"plugins.{name}", _not_installed(name, names), f"install hsframework-{name}, or remove the table"
            )


def unread_agents(
    configuration: Configuration, plugins: Collection[str], protocols: Mapping[str, str]
) -> Iterator[UnreadTable]:
    """Yield the tables ``[agents.NAME]`` that no plugin reads, those with the name of a protocol among them."""
    for name in sorted(configuration.agents):
        if name in plugins:
            continue
        if name in protocols:
            reason = f"{name!r} is a protocol of the plugin {protocols[name]!r}, by which its agent is named"
            yield UnreadTable(f"agents.{name}", reason, f"write [agents.{protocols[name]}]")
        else:
            mend = f"install hsframework-{name}, or remove the table; an agent is named by its plugin"
            yield UnreadTable(f"agents.{name}", _not_installed(name, plugins), mend)


def _not_installed(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"no plugin {name!r} is installed" + (f"; did you mean {close[0]!r}?" if close else "")
