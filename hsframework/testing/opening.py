"""What handshakes open.

A module that a handshake imports is read from its file once in the life of a process, so the first handshake of a
plugin is watched whichever check it is that comes first.
"""

from __future__ import annotations

import encodings.idna  # noqa: F401  (what the suite's own sockets import with their first address)

from hsframework.testing.observation import Observation
from hsframework.testing.stage import Stage

_first: dict[str | int, tuple[object, list[str]]] = {}
"""By the plugin's name, or by the id of the object with its hooks, which is kept so that the id stays its own."""


async def opened_at_first(stage: Stage, seen: Observation) -> list[str]:
    """What the first handshake of this plugin in this process has opened; what it logged counts for nothing."""
    plugin = stage.scenario.plugin
    key = plugin if isinstance(plugin, str) else id(plugin)
    if key not in _first:
        opened: list[str] = []
        _first[key] = plugin, opened
        opened += await opened_by_a_handshake(stage, seen)
        seen.events.clear()
    return _first[key][1]


async def opened_by_a_handshake(stage: Stage, seen: Observation) -> list[str]:
    """The files, and the processes that were started; a few words each."""
    seen.opened.clear()
    seen.watch_files = True
    try:
        await stage.handshake()
    finally:
        seen.watch_files = False
    return list(seen.opened)
