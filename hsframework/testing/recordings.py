"""Recordings of a scenario's handshake, and handshakes in which one message is replaced or cut off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from hsframework.interface import Role
from hsframework.testing.dispatcher import Outcome, Submission
from hsframework.testing.network import BadNetwork
from hsframework.testing.stage import LIMIT, Stage, waiting
from hsframework.testing.verdicts import ConformanceFailure

RECEIVERS = {"right": Role.SERVER, "left": Role.CLIENT}
"""The end that receives in each direction."""
_MOMENT = 0.01
"""Virtual seconds that what was delivered takes to arrive."""

Replace = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Place:
    """A message of a handshake: the ``number``-th, from 0, to one end."""

    way: str
    number: int

    @property
    def receiver(self) -> str:
        """Return the end that receives the message, for texts."""
        return RECEIVERS[self.way].name.lower()

    @property
    def sender(self) -> str:
        """Return the end that sends the message, for texts."""
        return "client" if self.way == "right" else "server"

    def __str__(self) -> str:
        return f"message {self.number + 1} to the {self.receiver}"


@dataclass
class Recording:
    """The messages of a handshake that succeeded, up to the outcome of the end that receives them, by direction."""

    messages: dict[str, list[bytes]] = field(default_factory=lambda: {"right": [], "left": []})
    cost: float = 0.0
    """Seconds of the processor for both ends."""

    def places(self) -> list[Place]:
        """Return the places of all messages, in the order of their numbers."""
        found = [Place(way, number) for way, messages in self.messages.items() for number in range(len(messages))]
        return sorted(found, key=lambda place: (place.number, place.way))

    def all(self) -> list[bytes]:
        """Return all messages."""
        return [message for messages in self.messages.values() for message in messages]

    def at(self, place: Place) -> bytes:
        """Return the message at a place."""
        return self.messages[place.way][place.number]

    def is_last(self, place: Place) -> bool:
        """Return True if the message is the last one to its receiver."""
        return place.number == len(self.messages[place.way]) - 1


async def record(stage: Stage) -> Recording:
    """Run the scenario's handshake, and return its messages.  Raises ConformanceFailure if it fails."""
    recording, begun = Recording(), time.process_time()
    with stage.network() as network:
        requests = stage.submit(network, stage.pair)

        def tamper(way: str, data: bytes) -> bytes:
            if data and not _receiver(requests, way).outcomes:
                recording.messages[way].append(data)
            return data

        network.tamper = tamper
        outcomes = await _both(stage, network, requests)
    recording.cost = time.process_time() - begun
    for outcome in outcomes:
        if not outcome.ok:
            raise ConformanceFailure(f"the handshake fails: {outcome}", "see test_handshake_succeeds")
    return recording


@dataclass(frozen=True)
class Disturbed:
    """The outcomes of a handshake with one message replaced.

    ``at``: the loop's time at which it was.  ``left``: the bytes that wait in the receiver's socket then.
    """

    receiver: Outcome
    sender: Outcome
    at: float
    left: bytes = b""

    @property
    def waited(self) -> float:
        """Virtual seconds from the disturbance to the receiver's outcome."""
        return self.receiver.at - self.at


async def disturb(
    stage: Stage,
    place: Place,
    replace: Replace,
    then: Callable[[BadNetwork, str], object] | None = None,
    *,
    timeout: float = LIMIT,
    own: list[bytes] | None = None,
) -> Disturbed | None:
    """Run the scenario's handshake with one message replaced.

    ``then``: called a moment later with the network and the direction, whose further messages are lost.  ``timeout``:
    of both requests, in seconds.  ``own``: gets the messages of the receiver, as they are sent.  Returns None if the
    receiver had its outcome before the message, or none came.
    """
    with stage.network() as network:
        requests = stage.submit(network, stage.pair, timeout)
        receiver = _receiver(requests, place.way)
        count, at = 0, 0.0

        def tamper(way: str, data: bytes) -> bytes:
            nonlocal count, at
            if own is not None and way != place.way and data:
                own.append(data)
            if way != place.way or not data:
                return data
            count += 1
            if at and then is not None:
                return b""
            if count != place.number + 1 or receiver.outcomes:
                return data
            at = stage.loop.time()
            if then is not None:
                stage.loop.call_later(_MOMENT, then, network, way)
            return replace(data)

        network.tamper = tamper
        client, server = await _both(stage, network, requests)
        if not at:
            return None
        if place.way == "right":
            return Disturbed(server, client, at, waiting(network.right, 0))
        return Disturbed(client, server, at, waiting(network.left, 0))


def _receiver(requests: tuple[Submission, Submission], way: str) -> Submission:
    return requests[1] if way == "right" else requests[0]


async def _both(stage: Stage, network: BadNetwork, requests: tuple[Submission, Submission]) -> tuple[Outcome, Outcome]:
    ends = zip(requests, (network.left, network.right), strict=True)
    client, server = await asyncio.gather(*(stage.end(*end) for end in ends))
    await stage.idle()
    return client, server
