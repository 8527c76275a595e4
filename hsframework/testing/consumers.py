"""Checks of what consumers are given: their own bytes, time for a slow peer, the kernel's sessions, authorization."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from hsframework.interface import PeerIdentity, Role
from hsframework.testing.dispatcher import Outcome
from hsframework.testing.network import Conditions
from hsframework.testing.peers import MARKER
from hsframework.testing.recordings import disturb, record
from hsframework.testing.stage import Stage
from hsframework.testing.verdicts import ConformanceFailure, must_be_left, role_of

_SLOW = 8.0
"""Longest delay of a piece in seconds."""
_LONG = 3600.0


async def must_leave_what_follows(stage: Stage) -> None:
    """Check that data in one piece with a message stays in the socket, if the handshake ends with that message."""
    recording = await record(stage)
    for place in recording.places():
        if recording.is_last(place):
            ended = await disturb(stage, place, lambda data: data + MARKER)
            if ended is not None and ended.receiver.ok and not ended.receiver.values.get("in-kernel"):
                must_be_left(place.receiver, f"nowhere, in one piece with {place}", ended.left)


async def must_wait_for_the_slow(stage: Stage) -> None:
    """Check that a handshake whose peer is slow succeeds within its deadline."""
    for seed in range(2):
        ended = await stage.handshake(conditions=Conditions(seed=seed, delay=_SLOW), timeout=_LONG)
        if not ended.ok:
            raise ConformanceFailure(
                f"a handshake with a slow peer (up to {_SLOW:.0f} s for a message) fails long before its deadline, "
                f"which is {_LONG:.0f} s: {ended}",
                "leave the deadline to the agent, which cancels the handshake: no timeout of your own",
            )


async def must_serve_the_kernel(stage: Stage) -> None:
    """Check that a consumer in the kernel gets a session that is in the socket, or an error."""
    with stage.network() as network:
        requests = stage.submit(network, stage.pair, kernel_consumers=True)
        outcomes = await asyncio.gather(*(request.outcome() for request in requests))
        await stage.idle()
        for outcome in outcomes:
            if outcome.ok and not outcome.values.get("in-kernel"):
                raise ConformanceFailure(
                    f"a consumer in the kernel gets a session that is not in the socket ({role_of(outcome)}): it would "
                    "go on in plain text",
                    "if request.kernel_consumer, plant the session into the socket and return in_kernel=True, or raise "
                    "HandshakeFailed(Failure.NO_KERNEL_SESSION)",
                )


async def must_obey_authorize(stage: Stage) -> None:
    """Check that ``authorize`` is asked about the peer that is reported, and that its refusal ends the handshake."""
    asked = stage.authorizations.asked
    asked.clear()
    ended = await stage.handshake()
    for outcome in ended.outcomes:
        for role, peer in asked:
            if role is outcome.options.role and outcome.ok and peer != _reported(outcome):
                raise ConformanceFailure(
                    f"the {role.name.lower()} asks authorize about {peer}, and reports {_reported(outcome)}",
                    "give authorize the very PeerIdentity that the Result has",
                )
    for refused in Role:
        asked.clear()
        with _refusing(stage, refused):
            ended = await stage.handshake()
        questions = [role for role, _ in asked if role is refused]
        for outcome in ended.outcomes:
            if outcome.options.role is refused and outcome.ok:
                raise ConformanceFailure(f"a refusal of authorize is passed over ({role_of(outcome)})", "let it pass")
        if len(questions) > 1:
            raise ConformanceFailure(
                f"the {refused.name.lower()}'s handshake goes on after authorize has refused its peer, and is refused "
                "again at its end, when the peer has been let in",
                "let the HandshakeError of request.authorize pass, and send no last message to the peer",
            )


@contextlib.contextmanager
def _refusing(stage: Stage, role: Role) -> Iterator[None]:
    stage.authorizations.refused = role
    try:
        yield
    finally:
        stage.authorizations.refused = None


def _reported(outcome: Outcome) -> PeerIdentity:
    values = outcome.values
    return PeerIdentity(
        certificates=tuple(values.get("remote-certificate", ())),
        psk_identity=values.get("remote-psk-identity"),
        public_key=values.get("remote-public-key"),
    )
