"""Checks of the messages of a handshake: changed, cut, emptied, repeated, exchanged, reflected, replayed, too long.

The end that receives such a message must not have a session, and refuses at once where the message is whole.

They are for protocols on streams: over datagrams anybody can send anything, so what makes no sense is passed over.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hsframework.errors import errno_name
from hsframework.failures import Blame, Failure
from hsframework.testing.dispatcher import Outcome
from hsframework.testing.endings import scenes_for
from hsframework.testing.framing import Framing, guess_framing
from hsframework.testing.network import BadNetwork
from hsframework.testing.observation import Observation
from hsframework.testing.recordings import RECEIVERS, Disturbed, Place, Recording, Replace, disturb, record
from hsframework.testing.stage import LIMIT, Stage
from hsframework.testing.verdicts import ConformanceFailure

_MOST_FILL = 1 << 16
"""Bytes that follow a header with the largest length; a longer body is not sent."""
_ENDLESS = 200
"""Repeats of a message that is not expected."""

_AT_HOME = (
    *(failure for failure in Failure if failure.blame is Blame.US),
    Failure.NO_KEY,
    Failure.NO_KERNEL_SESSION,
    Failure.NOT_OFFERED_HERE,
)
"""Failures that no message of a peer can cause: this side lacks something, or has failed."""

Then = Callable[[BadNetwork, str], object]
_LEAST_PROOF = 8
"""Bytes."""
_BODIES: dict[str, Replace] = {
    "without a body": lambda body: b"",
    "without its last byte": lambda body: body[:-1],
    "cut to half": lambda body: body[: len(body) // 2],
    "with zeros for a body": lambda body: bytes(len(body)),
    "with ones for a body": lambda body: b"\xff" * len(body),
}


@dataclass(frozen=True)
class Alteration:
    """A message in place of another.

    ``at_once``: it is refused before the deadline, since it is whole.  ``reflects``: it is the receiver's own.
    """

    word: str
    change: Replace
    at_once: bool = True
    then: Then | None = None
    reflects: bool = False


async def must_refuse_alterations(stage: Stage, seen: Observation) -> None:
    """Check every message of the scenario's handshake with every alteration."""
    older, recording = await record(stage), await record(stage)
    framing = guess_framing(
        message for each in (older, recording) for ways in each.messages.values() for message in ways
    )
    for place in recording.places():
        if stage.scenario.protected and place.number < len(older.messages[place.way]):
            replay = Alteration("that of an earlier handshake (a replay)", _always(older.at(place)), at_once=False)
            ended = await disturb(stage, place, replay.change)
            if ended is not None:
                _must_refuse(replay, place, ended, stage, seen)
            await _must_refuse_its_own_proofs(stage, seen, place, (older, recording), framing)
        for alteration in (*_of_others(recording, place, framing), *_of_its_own(recording, place, framing)):
            if alteration.reflects and not stage.scenario.protected:
                continue
            ended = await disturb(stage, place, alteration.change, alteration.then)
            if ended is not None:
                _must_refuse(alteration, place, ended, stage, seen)
    await _must_refuse_a_recording(stage, older)


async def _must_refuse_a_recording(stage: Stage, older: Recording) -> None:
    """Check that no end has a session with a peer that plays all messages of an earlier handshake."""
    for way, options in zip(("left", "right"), stage.pair, strict=True):
        if not stage.scenario.protected or RECEIVERS[way] in stage.scenario.unconfirmed:
            continue
        played = b"".join(older.messages[way])
        outcome = await stage.alone(options, lambda network, to, data=played: network.inject(to, data))  # type: ignore[misc]
        if outcome.ok:
            end = RECEIVERS[way].name.lower()
            raise ConformanceFailure(
                f"a peer plays all messages of an earlier handshake to the {end}, which has a session (a replay)",
                f"have each proof to the {end} cover a random value that the {end} has made for this handshake",
            )


async def _must_refuse_its_own_proofs(
    stage: Stage, seen: Observation, place: Place, recordings: tuple[Recording, Recording], framing: Framing | None
) -> None:
    """Check that a message is refused whose body is the end of a message of its receiver's own, in this handshake.

    A proof that does not say who makes it is accepted then by the end that has made it.  A body that is always the
    same, or shorter than a proof, is left alone.
    """
    header = framing.header if framing else 0
    bodies = [recording.at(place)[header:] for recording in recordings]
    if bodies[0] == bodies[1] or len(bodies[1]) < _LEAST_PROOF:
        return
    for number in range(len(recordings[1].messages["left" if place.way == "right" else "right"])):
        own: list[bytes] = []
        made: list[bytes] = []

        def reflected(data: bytes, number: int = number, own: list[bytes] = own, made: list[bytes] = made) -> bytes:
            if number >= len(own) or len(own[number]) < len(data) - header:
                return data
            made.append(data[:header] + own[number][len(own[number]) - len(data) + header :])
            return made[0]

        ended = await disturb(stage, place, reflected, own=own)
        if ended is not None and made:
            word = f"it with the end of the {place.receiver}'s own message {number + 1} for a body (a reflection)"
            _must_refuse(Alteration(word, reflected, at_once=False), place, ended, stage, seen)


async def must_check_every_byte(stage: Stage, seen: Observation) -> None:
    """Check that no end has a session if a byte of a message to it is changed on its way, its headers aside.

    What is in a message is a proof, or covered by one.
    """
    recording = await record(stage)
    framing = guess_framing(recording.all())
    places = recording.places()
    each = max(4, scenes_for(recording) // (2 * len(places)))
    for place in places:
        offsets = _bytes_of_bodies(recording.at(place), framing)
        for offset in _spread(offsets, each):
            word = f"byte {offset + 1} of {len(recording.at(place))} changed"
            changed = Alteration(word, lambda data, at=offset: _flipped(data, at), at_once=False)  # type: ignore[misc]
            ended = await disturb(stage, place, changed.change)
            if ended is not None:
                _must_refuse(changed, place, ended, stage, seen)


def _bytes_of_bodies(message: bytes, framing: Framing | None) -> list[int]:
    """Return the positions in a message that are in no header, those of its last record last."""
    records = framing.split(message) if framing else None
    if not framing or not records:
        return list(range(len(message)))
    found: list[int] = []
    start = 0
    for part in records:
        found += range(start + framing.header, start + len(part))
        start += len(part)
    return found


def _spread(offsets: list[int], most: int) -> list[int]:
    """Return at most ``most`` of the offsets, from the first to the last."""
    if len(offsets) <= most:
        return offsets
    return sorted({offsets[number * (len(offsets) - 1) // (most - 1)] for number in range(most)})


def _flipped(data: bytes, at: int) -> bytes:
    # Messages may differ in size from one handshake to the next.
    at = min(at, len(data) - 1)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _of_others(recording: Recording, place: Place, framing: Framing | None) -> Iterator[Alteration]:
    """Yield messages of another place, in place of this one."""
    whole = framing is not None
    for way, messages in recording.messages.items():
        for number, message in enumerate(messages):
            if way == place.way and number != place.number:
                yield Alteration(f"message {number + 1} in its place", _always(message), whole)
                yield Alteration(
                    f"message {number + 1} in its place, {_ENDLESS} times", _always(message * _ENDLESS), whole
                )
            elif way != place.way:
                word = f"message {number + 1} of its receiver's own (a reflection)"
                yield Alteration(word, _always(message), whole, reflects=True)
    if not recording.is_last(place):
        yield Alteration("it twice", lambda data: data + data, whole)
        yield Alteration(f"it {_ENDLESS} times", lambda data: data * _ENDLESS, whole)


def _of_its_own(recording: Recording, place: Place, framing: Framing | None) -> Iterator[Alteration]:
    """Yield forms of a message with another body: none, a shorter, a longer, one without information."""
    yield Alteration("it wrong, and then it right", lambda data: _flipped(data, len(data) - 1) + data, at_once=False)
    yield Alteration("nothing, and then the end of the connection", _always(b""), at_once=True, then=BadNetwork.hang_up)
    if framing is None or not (records := framing.split(recording.at(place))):
        return
    for number in sorted({0, len(records) - 1}):
        record = "it" if len(records) == 1 else f"its record {number + 1} of {len(records)}"
        for word, body in _BODIES.items():
            yield Alteration(f"{record} {word}", _with_body(framing, number, body), then=BadNetwork.hang_up)
        yield Alteration(f"{record} with a byte more", _with_body(framing, number, _longer), at_once=False)
    yield _largest(framing)


def _longer(body: bytes) -> bytes:
    return body + b"\0"


def _largest(framing: Framing) -> Alteration:
    """Return a message with the largest length; its body follows, unless it is too large to be sent."""
    fill = framing.largest if framing.largest <= _MOST_FILL else 0
    word = f"a header that announces {framing.largest} bytes" + (", and as many bytes" if fill else "")
    return Alteration(word, lambda data: framing.with_length(data[: framing.header], framing.largest) + b"\xa5" * fill)


def _with_body(framing: Framing, number: int, change: Replace) -> Replace:
    """Return the change of a message that changes the body of one of its records."""

    def replace(data: bytes) -> bytes:
        records = framing.split(data)
        if not records:
            return data[:-1]
        at = min(number, len(records) - 1)
        changed = framing.with_body(records[at], change(records[at][framing.header :]))
        return b"".join([*records[:at], changed, *records[at + 1 :]])

    return replace


def _always(message: bytes) -> Replace:
    return lambda data: message


def _blamed_at_home(outcome: Outcome) -> str:
    """Return the failure or the errno by which an end names itself as the cause, or nothing."""
    if outcome.ok:
        return ""
    for failure in _AT_HOME:
        if outcome.message.startswith(failure.meaning):
            return failure.name
    return errno_name(outcome.status) if outcome.status in (errno.EINVAL, errno.EIO, errno.ENOMEM) else ""


def _must_refuse(alteration: Alteration, place: Place, ended: Disturbed, stage: Stage, seen: Observation) -> None:
    what = f"in place of {place} the {place.sender} sends {alteration.word}"
    if "changed" in alteration.word:
        what = f"{place} has {alteration.word} on its way"
    if seen.blames:
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} fails with an exception of its own: {seen.blames[0]}",
            "check what the peer sends before you use it: raise HandshakeFailed(Failure.GARBAGE, detail)",
        )
    early = RECEIVERS[place.way] in stage.scenario.unconfirmed
    if ended.receiver.ok and (ended.sender.ok or not early):
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} has a session all the same"
            + ("" if ended.sender.ok else f"; the {place.sender} has none"),
            f"have the {place.receiver} check the proof of its peer, over all messages and a fresh value of its own, "
            "before the handshake returns",
        )
    if blamed := _blamed_at_home(ended.receiver):
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} says that the fault is its own side's ({blamed}): {ended.receiver}",
            "name what the peer did, or who sets this side right looks in the wrong place: Failure.GARBAGE, "
            "Failure.ILLEGAL_PARAMETER, Failure.BAD_RECORD_MAC",
        )
    if alteration.at_once and not ended.receiver.ok and ended.waited >= LIMIT - 1:
        raise ConformanceFailure(
            f"{what}, and the {place.receiver} waits until its deadline",
            "refuse at once what is not the expected message: its type, its length, its contents; pass over nothing",
        )
