"""The tables of the configuration that are for plugins: those that nobody reads."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hsframework.configuration.settings import Configuration


@dataclass(frozen=True, slots=True)
class UnreadTable:
    """``name``: of the table, as ``plugins.NAME``.  ``mend``: what to do."""

    name: str
    reason: str
    mend: str


def unread_tables(configuration: Configuration, names: Collection[str]) -> Iterator[UnreadTable]:
    """The tables ``[plugins.NAME]`` and ``[agents.NAME]`` of none of these plugins and protocols.

    A slip in a name would leave the plugin without its settings, and nobody the wiser.
    """
    for kind, tables in (("agents", configuration.agents), ("plugins", configuration.plugins)):
        for name in sorted(tables):
            if name not in names:
                close = difflib.get_close_matches(name, sorted(names), n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                yield UnreadTable(
                    f"{kind}.{name}",
                    f"no plugin {name!r} is installed{hint}",
                    f"install hsframework-{name}, or remove the table",
                )
