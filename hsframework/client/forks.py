"""Clients in processes that were forked: each child makes links of its own.

Two processes on one link would read each other's results: sessions, keys and peers.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

_clients: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def renewed_in_children(client: T, renew: Callable[[T], None]) -> None:
    """Call ``renew(client)`` in every process that is forked while the client is in use, before anything else there.

    It gives up what belongs to the process that was forked.
    """
    _clients[client] = renew


def _renew() -> None:
    for client, renew in list(_clients.items()):
        renew(client)


os.register_at_fork(after_in_child=_renew)
