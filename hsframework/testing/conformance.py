"""The conformance suite: every rule of the plugin interface, as a test.

A plugin's tests run all of it with one class::

    class TestConformance(ConformanceSuite):
        def scenario(self) -> Scenario:
            return Scenario(plugin="noise", client=CLIENT, server=SERVER, refused={"a strange key": (CLIENT, STRANGER)})

Each method tests one rule; its docstring names the rule and its place in the documentation.  A failure says what the
plugin did and how to mend it.  The plugin runs in the agent's own code, against a dispatcher in memory and in virtual
time.
"""

from __future__ import annotations

import asyncio
import random

from hsframework.agent.handshake import GRACE
from hsframework.agent.served import prepare
from hsframework.testing.checking import check, plain
from hsframework.testing.imports import io_imports
from hsframework.testing.network import BadNetwork, Conditions
from hsframework.testing.observation import Holdings, Observation, observed, shown_secrets
from hsframework.testing.opening import opened_at_first, opened_by_a_handshake
from hsframework.testing.peers import (
    SEEDS,
    bad_conditions,
    bulk_conditions,
    cuts,
    flip_a_bit,
    garbage,
    send_and_hang_up,
    silence,
    stall_after,
)
from hsframework.testing.protection import (
    must_hide_data,
    must_leave_sessions_of_others,
    must_notice_changes,
    must_refuse_changed_messages,
    must_tell_the_end,
)
from hsframework.testing.scenario import Pair, Scenario, secrets_in
from hsframework.testing.sessions import censored, everything_shown, use_session
from hsframework.testing.stage import LIMIT, SHORT, Stage
from hsframework.testing.verdicts import (
    ConformanceFailure,
    log_says,
    must_be_in_time,
    must_be_left,
    must_be_one_each,
    must_be_refused,
    must_have_a_session,
    must_leave_datagrams,
    must_name_a_known_peer,
    must_name_the_key,
    must_notice_the_end,
    must_survive,
    poisoned,
    role_of,
)

__all__ = ["ConformanceFailure", "ConformanceSuite", "Pair", "Scenario"]

AT_ONCE = 20
"""Handshakes that run at once in :meth:`ConformanceSuite.test_exactly_one_outcome`."""


class ConformanceSuite:
    """The base class of a plugin's conformance test; :meth:`scenario` names handshakes that succeed and that fail."""

    def scenario(self) -> Scenario:
        """Return the plugin and its handshakes.  Called once for each check."""
        raise NotImplementedError("a conformance test says what is tested: def scenario(self) -> Scenario")

    # The checks

    def test_handshake_succeeds(self) -> None:
        """Both ends of the scenario's pair succeed, each with a session (hsframework.interface: Result)."""

        async def body(stage: Stage, seen: Observation) -> None:
            ended = await stage.handshake()
            if not ended.ok:
                raise ConformanceFailure(
                    f"the scenario's client and server do not succeed with each other: {ended}{log_says(seen)}",
                    "see why in the outcome above; all other checks build on this pair",
                )
            for outcome in ended.outcomes:
                must_have_a_session(outcome)
                must_name_a_known_peer(outcome, stage.pair)

        check(self.scenario(), body)

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

        check(self.scenario(), body)

    def test_no_bytes_are_lost(self) -> None:
        """All bytes that a consumer sends over its session arrive, also those sent before the other end's handshake has
        ended (hsframework.interface: Result, AsyncStream)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for conditions in bulk_conditions(stage.streams):
                with stage.network(conditions) as network:
                    requests = stage.submit(network, stage.pair)
                    ends = zip(requests, (network.left, network.right), strict=True)
                    streams = stage.scenario.streams
                    try:
                        async with asyncio.timeout(10 * LIMIT):
                            await asyncio.gather(*(use_session(request, sock, streams) for request, sock in ends))
                    except TimeoutError:
                        raise ConformanceFailure(
                            f"bytes that were sent over the session do not arrive ({conditions})",
                            "look for bytes that the handshaker has read and the session does not know of",
                        ) from None

        check(self.scenario(), body)

    def test_nothing_is_left_behind(self) -> None:
        """A handshake leaves no open file, task or thread, however it ends (docs/topics/fd-custody.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for word, scene in stage.endings():
                await scene()
                before = Holdings()
                for _ in range(5):
                    await scene()
                left = Holdings().more_than(before)
                if left:
                    raise ConformanceFailure(
                        f"five handshakes that end by {word} leave behind: {', '.join(left)}",
                        "close what you open in a finally block or a with block; await or cancel every task you start; "
                        "never copy endpoint.socket or its fd",
                    )

        check(self.scenario(), body)

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

    def test_errors_carry_an_errno(self) -> None:
        """A handshake that fails raises HandshakeError with an errno and a text, at once and for the right reason
        (docs/topics/failures.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if not stage.scenario.refused:
                raise ConformanceFailure(
                    "the scenario has no pair that is refused", "add at least one to refused={...}: a wrong key, say"
                )
            strange = stage.scenario.refused_by.keys() - stage.scenario.refused.keys()
            if strange:
                raise ConformanceFailure(
                    f"refused_by has {sorted(strange)}, and refused has not", "use the words of refused"
                )
            for word, pair in stage.scenario.refused.items():
                stage.authorized.clear()
                must_be_refused(word, await stage.handshake(pair), stage, seen)
            if stage.streams:
                for options in stage.pair:
                    begun = stage.loop.time()
                    outcome = await stage.alone(options, BadNetwork.hang_up)
                    must_notice_the_end(outcome, begun, seen)

        check(self.scenario(), body)

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

    def test_bad_network(self) -> None:
        """The handshake succeeds over streams that are split, joined and delayed, and over datagrams that are lost,
        duplicated, delayed and reordered (hsframework.interface: Endpoint)."""

        async def body(stage: Stage, seen: Observation) -> None:
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

    def test_no_secret_is_shown(self) -> None:
        """No log line, output, error, tag or repr contains a key (hsframework.interface: Secret)."""
        texts: list[str] = []
        secrets: set[bytes] = set()

        async def body(stage: Stage, seen: Observation) -> None:
            secrets.update(stage.scenario.known_secrets())
            with stage.network() as network:
                requests = stage.submit(network, stage.pair)
                for request, sock in zip(requests, (network.left, network.right), strict=True):
                    session = (await request.outcome()).session(sock)
                    texts.extend(await everything_shown(session, stage.scenario.streams))
                    secrets.update(secrets_in(session.parameters))
            for pair in stage.scenario.refused.values():
                texts.extend(map(str, (await stage.handshake(pair)).outcomes))
            for _, data in garbage(random.Random("secrets")):
                texts.extend([str(await stage.alone(options, send_and_hang_up(data))) for options in stage.pair])
            texts.extend(repr(item.handshaker) for item in stage.service.served)
            texts.extend(repr(vars(item.handshaker)) for item in stage.service.served)
            texts.extend(seen.texts)

        check(self.scenario(), body)
        found = shown_secrets(secrets, texts)
        if found:
            raise ConformanceFailure(
                f"a secret is shown, in {len(found)} places; one of them: {censored(found[0], secrets)}",
                "keep keys in hsframework.interface.Secret until the moment of use, name them in "
                "NAME.sensitive.yaml beside the specification, and put facts into logs, errors and tags, never what "
                "was computed from a key",
            )

    def test_changed_messages_are_refused(self) -> None:
        """Not both ends succeed if the last byte of a message is changed on its way, since it ends a proof
        (docs/howto/test-a-plugin.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_refuse_changed_messages(stage)

        check(self.scenario(), body)

    def test_data_is_protected(self) -> None:
        """Data of a session is not to be read on its way; what is changed, repeated or lost there is an error of the
        stream (hsframework.streams: UserSpaceSession)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams and stage.scenario.protected:
                await must_hide_data(stage)
                await must_notice_changes(stage)

        check(self.scenario(), body)

    def test_end_of_data_is_told(self) -> None:
        """A connection that ends without the peer's goodbye is an error of the stream (hsframework.streams:
        UserSpaceSession.receive_eof)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_tell_the_end(stage)

        check(self.scenario(), body)

    def test_sessions_of_others_are_left(self) -> None:
        """A plugin gives streams over sessions of its own protocol alone (hsframework.hookspecs:
        hsframework_attach_session)."""

        async def body(stage: Stage, seen: Observation) -> None:
            await must_leave_sessions_of_others(stage)

        check(self.scenario(), body)

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
