"""The checks of the conformance suite about peers: those that leave, send anything, or are not who they should be."""

from __future__ import annotations

import random

from hsframework.testing.alterations import must_check_every_byte, must_refuse_alterations
from hsframework.testing.checking import check
from hsframework.testing.containment import contained
from hsframework.testing.endings import must_notice_endings
from hsframework.testing.network import BadNetwork
from hsframework.testing.observation import Observation
from hsframework.testing.peers import (
    SEEDS,
    flip_a_bit,
    garbage,
    send_and_hang_up,
)
from hsframework.testing.refusals import must_be_refused, must_know_no_stranger, must_say_who_refuses
from hsframework.testing.stage import Stage
from hsframework.testing.suite import Checks
from hsframework.testing.verdicts import (
    ConformanceFailure,
    must_notice_the_end,
    must_survive,
    poisoned,
    role_of,
)


class PeerChecks(Checks):
    """Handshakes with peers that leave, alter messages or prove nothing: they end in an errno, never in a session."""

    @contained
    def test_changed_messages_are_refused(self) -> None:
        """The end that receives a message has no session if a byte of it is changed on its way, since proofs cover all
        messages (docs/howto/test-a-plugin.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_check_every_byte(stage, seen)

        check(self.scenario(), body)

    @contained
    def test_every_ending_is_noticed(self) -> None:
        """A peer that closes or resets the connection, or falls silent, before any byte of the handshake leaves nobody
        with a session (hsframework.interface: Endpoint)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_notice_endings(stage, seen)

        check(self.scenario(), body)

    @contained
    def test_altered_messages_are_refused(self) -> None:
        """A message that is cut, emptied, repeated, exchanged, reflected, replayed or has the largest length is refused
        at once by its receiver (docs/topics/failures.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_refuse_alterations(stage, seen)

        check(self.scenario(), body)

    @contained
    def test_garbage_survives(self) -> None:
        """Invalid input of a peer ends its own handshake with an errno, and no other one (docs/topics/failures.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            chance = random.Random("garbage")
            for word, data in garbage(chance):
                for options in stage.pair:
                    outcome = await stage.alone(options, send_and_hang_up(data))
                    must_survive(f"{word} ({role_of(outcome)})", outcome, seen)
            for seed in range(3 * SEEDS):
                await stage.handshake(prepare=flip_a_bit(seed))
                if seen.blames:
                    raise poisoned(f"a handshake with one bit changed (seed {seed})", seen)
            ended = await stage.handshake()
            if not ended.ok:
                raise ConformanceFailure(
                    f"after garbage the scenario's pair does not succeed any more: {ended}",
                    "keep nothing of one handshake in the Handshaker: a peer can poison it",
                )

        check(self.scenario(), body)

    @contained
    def test_errors_carry_an_errno(self) -> None:
        """A handshake that fails raises HandshakeError with an errno and a text, at once and for the right reason
        (docs/topics/failures.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            must_say_who_refuses(stage)
            for word in stage.scenario.refused:
                await must_be_refused(word, stage, seen)
            await must_know_no_stranger(stage, seen)
            if stage.streams:
                for options in stage.pair:
                    begun = stage.loop.time()
                    outcome = await stage.alone(options, BadNetwork.hang_up)
                    must_notice_the_end(outcome, begun, seen)

        check(self.scenario(), body)
