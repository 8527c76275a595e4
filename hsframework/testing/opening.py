"""Observation of the files that handshakes open.

A module that a handshake imports is read from its file once in the life of a process, so the first handshake of a
plugin is observed in whichever check runs first.
"""

from __future__ import annotations

import concurrent.futures.thread  # noqa: F401  (the agent has imported it too: asyncio.to_thread needs it)
import encodings.idna  # noqa: F401  (imported by the suite's own sockets with their first address)

from hsframework.testing.observation import Observation
from hsframework.testing.stage import Stage

_first: dict[str | int, tuple[object, list[str]]] = {}
"""Files opened by the first handshake of each plugin, by its name, or by the id of the object with its hooks.  The
object is kept, so that its id is not reused."""


async def opened_at_first(stage: Stage, seen: Observation) -> list[str]:
    """Return the files that the first handshake of this plugin in this process opened.

    Runs that handshake, unless it has been run, and drops its log events.
    """
    plugin = stage.scenario.plugin
    key = plugin if isinstance(plugin, str) else id(plugin)
    if key not in _first:
        opened: list[str] = []
        _first[key] = plugin, opened
        opened += await opened_by_a_handshake(stage, seen)
        seen.events.clear()
    return _first[key][1]


async def opened_by_a_handshake(stage: Stage, seen: Observation) -> list[str]:
    """Run a handshake, and return the files that it opened and the processes that it started, a short text each."""
    seen.opened.clear()
    seen.watch_files = True
    try:
        await stage.handshake()
    finally:
        seen.watch_files = False
    return list(seen.opened)
