"""Tables of the configuration for plugins that are not installed."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from hsframework.configuration.settings import Configuration


@dataclass(frozen=True, slots=True)
class UnreadTable:
    """A table that no plugin reads.  ``name``: for example ``plugins.NAME``.  ``mend``: advice."""

    name: str
    reason: str
    mend: str


def unread_tables(configuration: Configuration, names: Collection[str]) -> Iterator[UnreadTable]:
    """Yield the tables ``[plugins.NAME]`` and ``[agents.NAME]`` whose NAME is not in ``names``.

    They must be reported, because a slip in a name leaves the plugin without its settings.
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
