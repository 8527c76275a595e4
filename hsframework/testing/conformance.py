"""The conformance suite: every rule of the plugin interface, as a test.

A plugin's tests run all of it with one class::

    class TestConformance(ConformanceSuite):
        def scenario(self) -> Scenario:
            wrong = refused((CLIENT, STRANGER), client=errno.EKEYREJECTED, server=errno.EACCES)
            return Scenario(plugin="noise", client=CLIENT, server=SERVER, refused={"a strange key": wrong})

Each method tests one rule; its docstring names the rule and its place in the documentation.  A failure says what the
plugin did and how to mend it.  The plugin runs in the agent's own code, against a dispatcher in memory and in virtual
time.
"""

from __future__ import annotations

import asyncio

from hsframework.agent.handshake import GRACE
from hsframework.agent.served import prepare
from hsframework.testing.checking import check, plain
from hsframework.testing.company import must_not_mix, must_not_wait
from hsframework.testing.consumers import must_leave_what_follows, must_wait_for_the_slow
from hsframework.testing.containment import contained
from hsframework.testing.demands import must_keep_to_demands
from hsframework.testing.holdings import RUNS, Holdings
from hsframework.testing.imports import io_imports, open_comparisons
from hsframework.testing.network import Conditions
from hsframework.testing.observation import Observation, observed
from hsframework.testing.opening import opened_at_first, opened_by_a_handshake
from hsframework.testing.peer_checks import PeerChecks
from hsframework.testing.peers import (
    bad_conditions,
    cuts,
    silence,
    stall_after,
)
from hsframework.testing.scenario import Pair, Refusal, Scenario, refused
from hsframework.testing.session_checks import SessionChecks
from hsframework.testing.stage import SHORT, Stage, left_by_closing, objects_left
from hsframework.testing.verdicts import (
    ConformanceFailure,
    log_says,
    must_be_in_time,
    must_be_left,
    must_be_one_each,
    must_have_a_session,
    must_leave_datagrams,
    must_name_a_known_peer,
    must_name_the_key,
    role_of,
)

__all__ = ["ConformanceFailure", "ConformanceSuite", "Pair", "Refusal", "Scenario", "refused"]

AT_ONCE = 20
"""Handshakes that run at once in :meth:`ConformanceSuite.test_exactly_one_outcome`."""


class ConformanceSuite(PeerChecks, SessionChecks):
    """The base class of a plugin's conformance test; :meth:`scenario` names handshakes that succeed and that fail."""

    @contained
    def test_handshake_succeeds(self) -> None:
        """Both ends of the scenario's pair succeed, each with a session (hsframework.interface: Result)."""

        async def body(stage: Stage, seen: Observation) -> None:
            ended = await stage.handshake()
            if not ended.ok:
                raise ConformanceFailure(
                    f"the scenario's client and server do not succeed with each other: {ended}{log_says(seen)}",
                    "see why in the outcome above (EOPNOTSUPP: name the auth mode in the protocol's auth_modes, and "
                    "the demand in its understands); all other checks build on this pair",
                )
            for outcome in ended.outcomes:
                must_have_a_session(outcome)
                must_name_a_known_peer(outcome, stage.pair)

        check(self.scenario(), body)

    @contained
    def test_exactly_one_outcome(self) -> None:
        """Each request has one outcome, also when many run at once (docs/topics/completion.md).

        One handshaker serves them all, so the state of each handshake is in its coroutine.
        """

        async def body(stage: Stage, seen: Observation) -> None:
            every = [Conditions(), Conditions(chunk=200), Conditions(coalesce=True), Conditions(delay=0.2)]
            chosen = [every[number % len(every)] for number in range(AT_ONCE)]
            ended = await asyncio.gather(*(stage.handshake(conditions=item) for item in chosen))
            failed = [item for item in ended if not item.ok]
            if failed:
                raise ConformanceFailure(
                    f"of {AT_ONCE} handshakes at once {len(failed)} fail, where one alone succeeds: {failed[0]}",
                    "keep nothing of one handshake in the Handshaker or in a module: use local variables",
                )
            must_be_one_each(request for item in ended for request in item.requests)

        check(self.scenario(), body)

    @contained
    def test_different_pairs_are_kept_apart(self) -> None:
        """Handshakes of different pairs at once have each its own peer, facts and keys, and none waits for another
        (docs/topics/completion.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            await must_not_mix(stage, seen)
            await must_not_wait(stage)

        check(self.scenario(), body)

    @contained
    def test_demands_are_kept(self) -> None:
        """A handshake whose peer does not meet a demand that the protocol understands fails
        (hsframework.interface: Demand)."""

        async def body(stage: Stage, seen: Observation) -> None:
            await must_keep_to_demands(stage)

        check(self.scenario(), body)

    @contained
    def test_deadline_is_kept(self) -> None:
        """A handshake ends by its deadline, whatever its peer does, and does not block the loop until then
        (hsframework.interface: the rules for a handshaker)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for options in stage.pair:
                begun = stage.loop.time()
                outcome = await stage.alone(options, silence, timeout=SHORT)
                must_be_in_time(outcome, begun, f"a peer that says nothing ({role_of(outcome)})")
            for flights in range(1, 4):
                begun = stage.loop.time()
                ended = await stage.handshake(timeout=SHORT, prepare=stall_after(flights))
                for outcome in ended.outcomes:
                    if not outcome.ok:
                        what = f"a peer that stops after {flights} messages ({role_of(outcome)})"
                        must_be_in_time(outcome, begun, what)
            if seen.blames:
                raise ConformanceFailure(
                    f"a handshake goes on after its deadline: {seen.blames[0]}",
                    "let asyncio.CancelledError pass, and wait for nothing in finally blocks",
                )

        check(self.scenario(), body)

    @contained
    def test_no_byte_too_many_is_read(self) -> None:
        """Bytes that follow the handshake on the wire stay in the socket, however the stream is cut
        (hsframework.interface: Endpoint, receive_record)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if not stage.streams:
                await must_leave_datagrams(stage)
                return
            for word, sizes in cuts():
                ended = await stage.cut(sizes)
                if not ended.ok:
                    raise ConformanceFailure(
                        f"the handshake fails when the stream is cut {word}: {ended}{log_says(seen)}",
                        "a record may come in any number of pieces: read it by receive_exactly or receive_record",
                    )
                for role, found in (("client", ended.left), ("server", ended.right)):
                    must_be_left(role, word, found)
            await must_leave_what_follows(stage)

        check(self.scenario(), body)

    @contained
    def test_nothing_is_left_behind(self) -> None:
        """A handshake leaves no open file, task or thread, however it ends, nor does a handshaker that is closed
        (docs/topics/fd-custody.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for word, scene in stage.endings():
                await scene()
                before = Holdings()
                for _ in range(RUNS):
                    await scene()
                left = Holdings().more_than(before)
                if word == "success" or word.startswith("refusal"):
                    left = left or await objects_left(stage, seen, scene)
                if left:
                    raise ConformanceFailure(
                        f"{RUNS} handshakes that end by {word} leave behind: {', '.join(left)}",
                        "close what you open in a finally block or a with block; await or cancel every task you start; "
                        "cancel timers; never copy endpoint.socket or its fd; keep nothing of a handshake that is over",
                    )
            if left := await left_by_closing(stage):
                raise ConformanceFailure(
                    f"{RUNS} handshakers that are closed leave behind: {', '.join(left)}",
                    "end in Handshaker.close what the handshaker has begun: its timers, tasks, threads and files",
                )

        check(self.scenario(), body)

    @contained
    def test_cancellation_is_honoured(self) -> None:
        """A handshake that is withdrawn ends at once: CancelledError passes through it (docs/topics/completion.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for role in (0, 1):
                for flights in range(4):
                    await stage.cancel(role, flights)
                    if seen.blames:
                        raise ConformanceFailure(
                            f"a handshake is cancelled after {flights} messages, and goes on: {seen.blames[0]}",
                            "let asyncio.CancelledError pass (catch Exception, never BaseException), and wait for "
                            f"nothing in finally blocks: there are {GRACE} seconds for a goodbye to the peer",
                        )

        check(self.scenario(), body)

    @contained
    def test_bad_network(self) -> None:
        """The handshake succeeds over streams that are split, joined and delayed, and over datagrams that are lost,
        duplicated, delayed and reordered (hsframework.interface: Endpoint)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_wait_for_the_slow(stage)
            for conditions in bad_conditions(stage.streams):
                ended = await stage.handshake(conditions=conditions)
                if not ended.ok:
                    raise ConformanceFailure(
                        f"the handshake fails on a bad network, {conditions}: {ended}{log_says(seen)}",
                        "a stream has no borders: read exact sizes"
                        if stage.streams
                        else "send again what was not answered, and pass over what came twice",
                    )

        check(self.scenario(), body)

    @contained
    def test_settings_errors_are_readable(self) -> None:
        """Wrong settings are refused by prepare, with a ConfigurationError that names the key
        (hsframework.interface: Protocol.prepare)."""
        with observed() as seen, plain(self.scenario()) as scenario:
            registry = scenario.registry()
            name = scenario.protocol_name(registry)
            if registry.protocols[name].protocol.settings_type is not None and not scenario.wrong_settings:
                raise ConformanceFailure(
                    f"{name} has settings, and the scenario does not say which values are wrong",
                    'add wrong_settings={"key": {"key": a wrong value}}',
                )
            prepare(registry, name, scenario.settings).handshaker.close()
            for key, table in scenario.wrong_settings.items():
                must_name_the_key(registry, name, key, table, seen)

    @contained
    def test_no_file_is_opened_by_a_handshake(self) -> None:
        """After prepare no handshake opens a file, starts a program or forks, because the root filesystem may be
        waiting for this very handshake (hsframework.interface: Protocol.prepare)."""

        async def body(stage: Stage, seen: Observation) -> None:
            opened = [*await opened_at_first(stage, seen), *await opened_by_a_handshake(stage, seen)]
            if opened:
                raise ConformanceFailure(
                    f"a handshake opens files or starts processes: {', '.join(opened[:5])}",
                    "load what all handshakes need in prepare, and import modules at the top of the file",
                )

        check(self.scenario(), body)

    @contained
    def test_protocol_does_no_io(self) -> None:
        """The protocol itself imports no socket, event loop, clock, thread or file (docs/topics/architecture.md)."""
        for module in self.scenario().sans_io:
            try:
                found = io_imports(module)
            except LookupError as error:
                raise ConformanceFailure(str(error), "correct sans_io in the scenario") from None
            if found:
                raise ConformanceFailure(
                    f"protocol code does input or output: {'; '.join(found)}",
                    "give it bytes and take bytes from it; sockets, time and tasks belong to the handshaker around it",
                )

    @contained
    def test_proofs_are_compared_in_constant_time(self) -> None:
        """No code of the plugin compares a proof or a secret with ``==``, whose time tells how much of it is right
        (hsframework.interface: Secret)."""
        with plain(self.scenario()) as scenario:
            registry = scenario.registry()
            protocol = registry.protocols[scenario.protocol_name(registry)].protocol
        found = open_comparisons(type(protocol).__module__)
        if found:
            raise ConformanceFailure(
                f"a proof or a secret is compared with == or !=: {'; '.join(found)}",
                "use hmac.compare_digest, or compare two Secrets",
            )
