"""Links to cells, one for each protocol of the plugin: when all have come, a worker is forked for the cell."""

from __future__ import annotations

import socket
from collections.abc import Sequence


class CellLinks:
    """Links of cells that do not have all of theirs yet.  ``protocols``: names, in the order of a worker's links."""

    def __init__(self, protocols: Sequence[str]) -> None:
        self._protocols = tuple(protocols)
        self._links: dict[int, dict[str, socket.socket]] = {}

    def add(self, cell: int, protocol: str, link: socket.socket) -> list[socket.socket]:
        """Keep a link, or return all of the cell's with it, in their order: they are the caller's then."""
        links = self._links.setdefault(cell, {})
        if protocol in links:
            links[protocol].close()
        links[protocol] = link
        if not links.keys() >= set(self._protocols):
            return []
        del self._links[cell]
        for unknown in links.keys() - set(self._protocols):
            links[unknown].close()
        return [links[name] for name in self._protocols]

    def close(self) -> None:
        """Close all."""
        for links in self._links.values():
            for link in links.values():
                link.close()
        self._links.clear()
