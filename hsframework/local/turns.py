"""A queue in which consumers take turns, and the remote networks of one consumer.

A consumer is a user of one source: what one user asks for makes another wait for one request, and not for all of them.
Of one consumer's requests with one network, first come is first served.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Collection, Hashable, Iterator
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Turn(NamedTuple):
    """The consumer and the network for which a request takes its turn."""

    consumer: Hashable
    network: Hashable


NOBODY = Turn(None, None)
"""The turn of a request that has none yet."""


class Turns(Generic[T]):
    """Queue of things with turns, each of a kind that not everybody takes."""

    def __init__(self) -> None:
        self._consumers: OrderedDict[Hashable, OrderedDict[Hashable, deque[tuple[int, T]]]] = OrderedDict()

    def __iter__(self) -> Iterator[T]:
        """Yield everything that waits, of each consumer in turn."""
        queues = [queue for networks in self._consumers.values() for queue in networks.values()]
        return iter([item for queue in queues for _, item in queue])

    def append(self, item: T, turn: Turn, kind: int = 0) -> None:
        """Add a thing as the last of its consumer's with its network."""
        self._consumers.setdefault(turn.consumer, OrderedDict()).setdefault(turn.network, deque()).append((kind, item))

    def take(self, most: int, kinds: Collection[int] = ()) -> list[T]:
        """Remove and return up to ``most`` things of these kinds (empty: any).

        Whoever had a turn is behind the others then, with consumers and with a consumer's networks.
        """
        found: list[T] = []
        while len(found) < most and (item := self._next(kinds)) is not None:
            found.append(item)
        return found

    def remove(self, item: T, turn: Turn) -> None:
        """Remove a thing.  Raises ValueError or KeyError if it is not there."""
        queue = self._consumers[turn.consumer][turn.network]
        # One that was refused after all is the last.
        index = next((place for place, (_, other) in enumerate(reversed(queue)) if other == item), None)
        if index is None:
            raise ValueError("it does not wait here")
        del queue[-1 - index]
        self._settle(turn, behind=False)

    def _next(self, kinds: Collection[int]) -> T | None:
        for consumer, networks in self._consumers.items():
            for network, queue in networks.items():
                for index, (kind, item) in enumerate(queue):
                    if not kinds or kind in kinds:
                        del queue[index]
                        self._settle(Turn(consumer, network), behind=True)
                        return item
        return None

    def _settle(self, turn: Turn, *, behind: bool) -> None:
        """Drop what is empty; ``behind``: put the rest behind the others."""
        networks = self._consumers[turn.consumer]
        if not networks[turn.network]:
            del networks[turn.network]
        elif behind:
            networks.move_to_end(turn.network)
        if not networks:
            del self._consumers[turn.consumer]
        elif behind:
            self._consumers.move_to_end(turn.consumer)
