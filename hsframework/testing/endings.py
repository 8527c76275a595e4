"""Checks of a peer that leaves in the middle of a handshake: before each message and at each of its bytes it closes the
connection, resets it, or sends nothing more.

They are for protocols on streams; over datagrams a peer that leaves is one that is silent.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Iterator, Sequence

from hsframework.errors import errno_name
from hsframework.testing.network import BadNetwork
from hsframework.testing.observation import Observation
from hsframework.testing.recordings import Disturbed, Place, Recording, Replace, disturb, record
from hsframework.testing.stage import LIMIT, SHORT, Stage
from hsframework.testing.verdicts import ConformanceFailure, must_be_in_time

_MOST_SCENES = 200
_LEAST_SCENES = 60
_MOST_SILENCES = 2
"""Bytes of a message before which a peer is silent: virtual time to a deadline takes real time."""
_SECONDS = 3.0
"""Processor seconds for the scenes of a check, if that leaves enough of them."""


def _keep_silent(network: BadNetwork, way: str) -> None:
    """Do nothing more."""


_ENDINGS: dict[str, Callable[[BadNetwork, str], object]] = {
    "hangs up": BadNetwork.hang_up,
    "resets the connection": BadNetwork.reset,
    "is silent": _keep_silent,
}


def scenes_for(recording: Recording) -> int:
    """Return the number of scenes that a check of this plugin may have, by what one costs."""
    affordable = int(_SECONDS / max(recording.cost, 1e-4))
    return max(_LEAST_SCENES, min(_MOST_SCENES, affordable))


async def must_notice_endings(stage: Stage, seen: Observation) -> None:
    """Check that no end has a session with a peer that has left before its last byte."""
    recording = await record(stage)
    places = recording.places()
    each = max(1, scenes_for(recording) // (len(places) * 2))
    for place in places:
        size = len(recording.at(place))
        for word, then in _ENDINGS.items():
            for offset in _offsets(size, min(each, _MOST_SILENCES) if then is _keep_silent else each):
                limit = SHORT if then is _keep_silent else LIMIT
                ended = await disturb(stage, place, _cut_at(offset), then, timeout=limit)
                if ended is not None:
                    where = f"behind byte {offset} of {size} of {place}" if offset else f"before {place}"
                    _must_fail(f"the {place.sender} {word} {where}", place, ended, limit, seen)


def _cut_at(offset: int) -> Replace:
    # Messages may differ in size from one handshake to the next, and none arrives whole.
    return lambda data: data[: min(offset, len(data) - 1)]


def _offsets(size: int, most: int) -> Sequence[int]:
    """Return at most ``most`` numbers of bytes before the end of a message, from none: the first, the last, others."""
    if size <= most:
        return range(size)
    return sorted({0, size - 1, *list(_some(size))[: max(most - 2, 0)]})


def _some(size: int) -> Iterator[int]:
    for number in range(8):
        yield from (number, size - 1 - number)
    chance = random.Random(size)
    yield from chance.sample(range(size), size)


def _must_fail(what: str, place: Place, ended: Disturbed, limit: float, seen: Observation) -> None:
    outcome = ended.receiver
    if seen.blames:
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} fails with an exception of its own: {seen.blames[0]}",
            "let the endpoint's HandshakeFailed pass: it carries ECONNRESET",
        )
    if outcome.ok:
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} has a session",
            f"an end of the connection is no message: have the {place.receiver} wait for the whole message, and let "
            "the endpoint's HandshakeFailed (PEER_GONE) pass",
        )
    if limit == SHORT:
        must_be_in_time(outcome, ended.at, what)
    elif ended.waited >= LIMIT - 1:
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} waits on until its deadline",
            "let the endpoint's HandshakeFailed (PEER_GONE) pass: do not catch it and read again, or wait",
        )
    elif outcome.status in (errno.ETIMEDOUT, errno.ECANCELED):
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} says {errno_name(outcome.status)} long before its deadline",
            "let the endpoint's HandshakeFailed (PEER_GONE) pass: it carries ECONNRESET, by which consumers act",
        )
