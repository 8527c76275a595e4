"""The conformance suite: what every plugin owes to the consumers, to the agent and to the other plugins.

A plugin's tests run all of it with one class::

    class TestConformance(ConformanceSuite):
        def scenario(self) -> Scenario:
            return Scenario(plugin="noise", client=CLIENT, server=SERVER, refused={"a strange key": (CLIENT, STRANGER)})

Each method is one rule; its docstring says the rule and where it stands.  A failure says what the plugin did and how to
mend it.  The plugin runs in the agent's own code, against a dispatcher in memory and in virtual time.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

from hsframework.agent.handshake import GRACE
from hsframework.agent.served import prepare
from hsframework.client.session import AsyncSession
from hsframework.deadlines import GRAIN
from hsframework.errors import ConfigurationError, HsframeworkError, errno_name
from hsframework.interface import AsyncStream
from hsframework.testing.dispatcher import Outcome, Submission
from hsframework.testing.imports import io_imports
from hsframework.testing.network import BadNetwork, Conditions
from hsframework.testing.observation import Holdings, Observation, observed, shown_secrets
from hsframework.testing.scenario import Pair, Scenario, secrets_in
from hsframework.testing.stage import LIMIT, MARKER, Ended, Stage, cuts, garbage, open_stage
from hsframework.testing.virtual_time import LoopBlocked, VirtualTimeLoop, run

__all__ = ["ConformanceFailure", "ConformanceSuite", "Pair", "Scenario"]

AT_ONCE = 20
SEEDS = 20
SHORT = 2.0
"""Virtual seconds of a request whose peer is silent."""

_BULK = bytes(range(256)) * 800


class ConformanceFailure(AssertionError):
    """A plugin breaks a rule: what it did, and how to mend it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}\n  Mend it: {mend}")


class ConformanceSuite:
    """Derive from it in a test module, and say in :meth:`scenario` which handshakes succeed and which fail."""

    def scenario(self) -> Scenario:
        """The plugin and its handshakes.  Called once for each check."""
        raise NotImplementedError("a conformance test says what is tested: def scenario(self) -> Scenario")

    # The checks

    def test_handshake_succeeds(self) -> None:
        """Both ends of the scenario's pair succeed, and the result can be told (hsframework.interface: Result)."""

        async def body(stage: Stage, seen: Observation) -> None:
            ended = await stage.handshake()
            if not ended.ok:
                raise ConformanceFailure(
                    f"the scenario's client and server do not succeed with each other: {ended}{_said(seen)}",
                    "see why in the outcome above; all other checks build on this pair",
                )

        self._check(body)

    def test_exactly_one_outcome(self) -> None:
        """Each request has one outcome, also when many run at once (docs/topics/completion.md).

        One handshaker serves them all: what belongs to one handshake lives in its coroutine.
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
            _one_each(request for item in ended for request in item.requests)

        self._check(body)

    def test_deadline_is_kept(self) -> None:
        """A handshake has ended by its deadline, whatever its peer does, and leaves the loop to the others meanwhile
        (hsframework.interface: the rules for a handshaker)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for options in stage.pair:
                begun = stage.loop.time()
                outcome = await stage.alone(options, _nothing, timeout=SHORT)
                _check_in_time(outcome, begun, f"a peer that says nothing ({_role(outcome)})")
            for flights in range(1, 4):
                begun = stage.loop.time()
                ended = await stage.handshake(timeout=SHORT, prepare=_stall_after(flights))
                for outcome in ended.outcomes:
                    if not outcome.ok:
                        _check_in_time(outcome, begun, f"a peer that stops after {flights} messages ({_role(outcome)})")

        self._check(body)

    def test_no_byte_too_many_is_read(self) -> None:
        """What follows the handshake on the wire stays in the socket, however the stream is cut (hsframework.interface:
        Endpoint, receive_record)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if not stage.streams:
                await _later_datagrams(stage)
                return
            for word, sizes in cuts():
                ended = await stage.cut(sizes)
                if not ended.ok:
                    raise ConformanceFailure(
                        f"the handshake fails when the stream is cut {word}: {ended}{_said(seen)}",
                        "a record may come in any number of pieces: read it by receive_exactly or receive_record",
                    )
                for role, found in (("client", ended.left), ("server", ended.right)):
                    _check_left(role, word, found)

        self._check(body)

    def test_no_bytes_are_lost(self) -> None:
        """What one consumer sends over its session the other one receives, also what was sent before the other's
        handshake had ended (hsframework.interface: Result, AsyncStream)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for conditions in _bulk_conditions(stage):
                with stage.network(conditions) as network:
                    requests = stage.submit(network, stage.pair)
                    ends = zip(requests, (network.left, network.right), strict=True)
                    try:
                        async with asyncio.timeout(10 * LIMIT):
                            await asyncio.gather(*(_use(self.scenario(), await_, sock) for await_, sock in ends))
                    except TimeoutError:
                        raise ConformanceFailure(
                            f"bytes that were sent over the session do not arrive ({conditions})",
                            "look for bytes that the handshaker has read and the session does not know of",
                        ) from None

        self._check(body)

    def test_nothing_is_left_behind(self) -> None:
        """A handshake leaves no open file, task or thread, however it ends (docs/topics/fd-custody.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for word, scene in _endings(stage):
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

        self._check(body)

    def test_cancellation_is_honoured(self) -> None:
        """A handshake that is withdrawn ends at once: CancelledError passes through it (docs/topics/completion.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for role in (0, 1):
                for flights in range(4):
                    await _cancel(stage, role, flights)
                    if seen.blames:
                        raise ConformanceFailure(
                            f"a handshake is cancelled after {flights} messages, and goes on: {seen.blames[0]}",
                            "let asyncio.CancelledError pass (catch Exception, never BaseException), and wait for "
                            f"nothing in finally blocks: there are {GRACE} seconds for a goodbye to the peer",
                        )

        self._check(body)

    def test_errors_carry_an_errno(self) -> None:
        """A handshake that fails raises HandshakeError with an errno and a text, at once and for the right reason
        (docs/topics/failures.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if not stage.scenario.refused:
                raise ConformanceFailure(
                    "the scenario has no pair that is refused", "add at least one to refused={...}: a wrong key, say"
                )
            for word, pair in stage.scenario.refused.items():
                _check_refusal(word, await stage.handshake(pair), stage, seen)
            if stage.streams:
                for options in stage.pair:
                    begun = stage.loop.time()
                    outcome = await stage.alone(options, BadNetwork.hang_up)
                    _check_gone(outcome, begun, seen)

        self._check(body)

    def test_garbage_survives(self) -> None:
        """Whatever a peer sends ends its own handshake with an errno, and no other one (docs/topics/failures.md)."""

        async def body(stage: Stage, seen: Observation) -> None:
            chance = random.Random("garbage")
            for word, data in garbage(chance):
                for options in stage.pair:
                    outcome = await stage.alone(options, _send(data))
                    _check_garbage(f"{word} ({_role(outcome)})", outcome, seen)
            for seed in range(3 * SEEDS):
                await stage.handshake(prepare=_flip(seed))
                if seen.blames:
                    raise _survived(f"a handshake with one bit changed (seed {seed})", seen)
            ended = await stage.handshake()
            if not ended.ok:
                raise ConformanceFailure(
                    f"after garbage the scenario's pair does not succeed any more: {ended}",
                    "keep nothing of one handshake in the Handshaker: a peer can poison it",
                )

        self._check(body)

    def test_bad_network(self) -> None:
        """The handshake succeeds over streams that split, join and delay, and over datagrams that get lost, come
        twice, late and in another order (hsframework.interface: Endpoint)."""

        async def body(stage: Stage, seen: Observation) -> None:
            for conditions in _conditions(stage):
                ended = await stage.handshake(conditions=conditions)
                if not ended.ok:
                    raise ConformanceFailure(
                        f"the handshake fails on a bad network, {conditions}: {ended}{_said(seen)}",
                        "a stream has no borders: read exact sizes"
                        if stage.streams
                        else "send again what was not answered, and pass over what came twice",
                    )

        self._check(body)

    def test_settings_errors_are_readable(self) -> None:
        """Wrong settings are refused by prepare, with a ConfigurationError that names the key
        (hsframework.interface: Protocol.prepare)."""
        with observed() as seen, self._plain() as scenario:
            registry = scenario.registry()
            name = scenario.protocol_name(registry)
            if registry.protocols[name].protocol.settings_type is not None and not scenario.wrong_settings:
                raise ConformanceFailure(
                    f"{name} has settings, and the scenario does not say which values are wrong",
                    'add wrong_settings={"key": {"key": a wrong value}}',
                )
            prepare(registry, name, scenario.settings).handshaker.close()
            for key, table in scenario.wrong_settings.items():
                _check_settings(registry, name, key, table, seen)

    def test_no_file_is_opened_by_a_handshake(self) -> None:
        """After prepare no handshake opens a file: the root filesystem may hang, and waits for this very handshake
        (hsframework.interface: Protocol.prepare)."""

        async def body(stage: Stage, seen: Observation) -> None:
            seen.watch_files = True
            await stage.handshake()
            seen.watch_files = False
            if seen.opened:
                raise ConformanceFailure(
                    f"a handshake opens files: {', '.join(seen.opened[:5])}",
                    "load what all handshakes need in prepare, and import modules at the top of the file",
                )

        self._check(body)

    def test_no_secret_is_shown(self) -> None:
        """No key is in a log line, an output, an error, a tag or a repr (hsframework.interface: Secret)."""
        texts: list[str] = []
        secrets: set[bytes] = set()

        async def body(stage: Stage, seen: Observation) -> None:
            secrets.update(stage.scenario.known_secrets())
            with stage.network() as network:
                requests = stage.submit(network, stage.pair)
                for request, sock in zip(requests, (network.left, network.right), strict=True):
                    session = (await request.outcome()).session(sock)
                    texts.extend(_shown(session, stage))
                    secrets.update(secrets_in(session.parameters))
            for pair in stage.scenario.refused.values():
                texts.extend(map(str, (await stage.handshake(pair)).outcomes))
            for _, data in garbage(random.Random("secrets")):
                texts.extend([str(await stage.alone(options, _send(data))) for options in stage.pair])
            texts.extend(repr(item.handshaker) for item in stage.service.served)
            texts.extend(repr(vars(item.handshaker)) for item in stage.service.served)
            texts.extend(seen.texts)

        self._check(body)
        found = shown_secrets(secrets, texts)
        if found:
            raise ConformanceFailure(
                f"a secret is shown, in {len(found)} places; one of them: {_censored(found[0], secrets)}",
                "keep keys in hsframework.interface.Secret until the moment of use, mark them x-sensitive in the "
                "specification, and put facts into logs, errors and tags, never what was computed from a key",
            )

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

    # How they run

    @contextlib.contextmanager
    def _plain(self) -> Iterator[Scenario]:
        scenario = self.scenario()
        try:
            yield scenario
        except (HsframeworkError, LookupError, ValueError) as error:
            raise ConformanceFailure(
                f"the scenario cannot be run: {type(error).__name__}: {error}", "the message says what to change"
            ) from error

    def _check(self, body: Callable[[Stage, Observation], Awaitable[None]]) -> None:
        """Run a check, then what every check checks: nothing blocked, nothing failed that nobody has looked at."""
        with self._plain() as scenario, observed() as seen:
            loop = VirtualTimeLoop()

            async def scene() -> None:
                async with open_stage(scenario) as stage:
                    await body(stage, seen)

            try:
                run(scene(), loop=loop)
            except (LoopBlocked, ConformanceFailure):
                if not loop.blocked:
                    raise
        if loop.blocked:
            raise ConformanceFailure(
                f"the plugin blocks the event loop, and with it all other handshakes; here it hung:\n{loop.blocked[0]}",
                "wait through the endpoint or asyncio alone; give long computations to asyncio.to_thread",
            )
        if seen.blames:
            raise ConformanceFailure(
                f"the plugin fails in a way of its own: {seen.blames[0]}",
                "raise HandshakeError (or a subclass) for what a peer does, and return a Result",
            )
        if loop.problems:
            raise ConformanceFailure(
                f"the plugin leaves an error that nobody handles: {loop.problems[0]}",
                "await every task that you start",
            )


# What is checked of an outcome


def _one_each(requests: Any) -> None:
    for request in requests:
        if len(request.outcomes) != 1:
            raise ConformanceFailure(
                f"a request has {len(request.outcomes)} outcomes", "return or raise once for each request"
            )


def _check_in_time(outcome: Outcome, begun: float, what: str) -> None:
    late = outcome.at - begun - SHORT
    if late > GRACE + GRAIN:
        raise ConformanceFailure(
            f"{what}: the handshake ends {late:.2f} seconds after its deadline",
            "let asyncio.CancelledError pass, and wait for nothing in finally blocks",
        )
    if outcome.ok:
        raise ConformanceFailure(
            f"{what}: the handshake succeeds all the same",
            "success means that the peer has proved who it is; and a cancelled handshake is not one that succeeded",
        )


def _check_left(role: str, word: str, found: bytes) -> None:
    if found == MARKER:
        return
    if len(found) < len(MARKER):
        raise ConformanceFailure(
            f"cut {word}: the {role}'s handshake has read {len(MARKER) - len(found)} of the {len(MARKER)} bytes that "
            "follow it and belong to the consumer",
            "read one record at a time (receive_record), or peek and take no more than is yours; buffer nothing",
        )
    raise ConformanceFailure(
        f"cut {word}: the {role}'s handshake leaves {len(found) - len(MARKER)} bytes of its own in the socket; the "
        "consumer would take them for data",
        "read the peer's last message before you return; send nothing after the handshake that your peer does not read",
    )


async def _later_datagrams(stage: Stage) -> None:
    """On datagram sockets: what comes once the handshake has ended is the consumer's."""
    with stage.network() as network:
        requests = stage.submit(network, stage.pair)
        ended = Ended(await requests[0].outcome(), await requests[1].outcome(), requests)
        await stage.idle()
        network.inject("left", MARKER)
        network.inject("right", MARKER)
        await stage.quiet()
        for sock in (network.left, network.right):
            sock.setblocking(False)
            found = []
            with contextlib.suppress(BlockingIOError):
                while True:
                    found.append(sock.recv(65535))
            if not ended.ok or MARKER not in found:
                raise ConformanceFailure(
                    f"a datagram that comes after the handshake is not there for the consumer ({ended})",
                    "end every task that reads before you return",
                )


def _check_refusal(word: str, ended: Ended, stage: Stage, seen: Observation) -> None:
    if ended.ok:
        raise ConformanceFailure(
            f"{word}: both ends succeed, where the scenario says that one refuses",
            "check the peer before the handshake returns; or correct refused={...} in the scenario",
        )
    for outcome in ended.outcomes:
        if seen.blames:
            raise ConformanceFailure(
                f"{word}: the plugin fails with an exception of its own (the consumer has {errno_name(outcome.status)}): "
                f"{seen.blames[0]}",
                "turn a library's exceptions into HandshakeFailed(Failure...., detail), which carries the errno",
            )
        if not outcome.ok and not outcome.message.strip():
            raise ConformanceFailure(
                f"{word}: the error has no text", "say in the HandshakeError what the peer did, without secrets"
            )
    if stage.streams and all(outcome.at - item.taken_at >= LIMIT for outcome, item in _times(ended)):
        raise ConformanceFailure(
            f"{word}: nobody refuses before the deadline ({ended})", "raise as soon as the refusal is certain"
        )


def _times(ended: Ended) -> list[tuple[Outcome, Any]]:
    return [(request.outcomes[0], request) for request in ended.requests if request.outcomes]


def _check_gone(outcome: Outcome, begun: float, seen: Observation) -> None:
    if seen.blames:
        raise ConformanceFailure(
            f"a peer that hangs up makes the plugin fail ({_role(outcome)}): {seen.blames[0]}",
            "let the endpoint's HandshakeFailed pass: it carries ECONNRESET",
        )
    if outcome.ok or outcome.at - begun >= LIMIT:
        raise ConformanceFailure(
            f"a peer that hangs up at once is not noticed ({_role(outcome)}: {outcome})",
            "let the endpoint's HandshakeFailed pass: do not catch it and read again",
        )


def _check_garbage(word: str, outcome: Outcome, seen: Observation) -> None:
    if seen.blames:
        raise _survived(word, seen)
    if outcome.ok:
        raise ConformanceFailure(
            f"a peer that sends {word} has a session", "success means that the peer has proved who it is"
        )


def _survived(word: str, seen: Observation) -> ConformanceFailure:
    return ConformanceFailure(
        f"{word} makes the plugin fail with an exception of its own: {seen.blames[0]}",
        "check what the peer sends before you use it: raise HandshakeFailed(Failure.GARBAGE, detail)",
    )


def _check_settings(registry: Any, name: str, key: str, table: Mapping[str, Any], seen: Observation) -> None:
    mend = f"raise ConfigurationError(...) from the settings' __post_init__ or from prepare, with {key!r} in its text"
    try:
        prepare(registry, name, table).handshaker.close()
    except ConfigurationError as error:
        if key not in str(error) and key.replace("-", "_") not in str(error):
            raise ConformanceFailure(f"the error for a wrong {key!r} does not name it: {error}", mend) from None
    except HsframeworkError as error:
        blame = seen.blames[-1] if seen.blames else str(error)
        raise ConformanceFailure(f"a wrong {key!r} is not a ConfigurationError: {blame}", mend) from None
    else:
        raise ConformanceFailure(f"a wrong {key!r} is taken: {dict(table)}", mend)


# Scenes


def _nothing(network: BadNetwork, direction: str) -> None:
    """A peer that is silent."""


def _send(data: bytes) -> Callable[[BadNetwork, str], None]:
    def act(network: BadNetwork, direction: str) -> None:
        network.inject(direction, data)
        if network.kind.name == "SOCK_STREAM":
            network.hang_up(direction)

    return act


def _stall_after(messages: int) -> Callable[[BadNetwork], None]:
    def arrange(network: BadNetwork) -> None:
        passed = 0

        def count(direction: str, data: bytes) -> bytes:
            nonlocal passed
            passed += 1
            network.stalled = network.stalled or passed > messages
            return data

        network.tamper = count

    return arrange


def _flip(seed: int) -> Callable[[BadNetwork], None]:
    """One bit of one message is not what was sent."""
    chance = random.Random(f"flip {seed}")
    wanted, direction, position = chance.randrange(3), chance.choice(("left", "right")), chance.random()

    def arrange(network: BadNetwork) -> None:
        seen = 0

        def tamper(way: str, data: bytes) -> bytes:
            nonlocal seen
            if way != direction or not data:
                return data
            seen += 1
            if seen != wanted + 1:
                return data
            changed = bytearray(data)
            changed[int(position * len(data))] ^= 1 << chance.randrange(8)
            return bytes(changed)

        network.tamper = tamper

    return arrange


async def _cancel(stage: Stage, role: int, flights: int) -> None:
    """Withdraw one end's request after so many messages were delivered; its consumer closes the socket then."""
    with stage.network() as network:
        _stall_after(flights)(network)
        network.stalled = flights == 0
        requests = stage.submit(network, stage.pair)
        await stage.quiet()
        requests[role].cancel()
        await stage.quiet()
        (network.left, network.right)[role].close()
        requests[1 - role].cancel()
        await stage.idle()


def _endings(stage: Stage) -> Iterator[tuple[str, Callable[[], Awaitable[object]]]]:
    yield "success", stage.handshake
    for word, pair in stage.scenario.refused.items():
        yield f"refusal ({word})", lambda pair=pair: stage.handshake(pair)  # type: ignore[misc]
    for options in stage.pair:
        name = options.role.name.lower()
        yield f"garbage ({name})", lambda options=options: stage.alone(options, _send(b"\xff" * 100))  # type: ignore[misc]
        yield f"silence ({name})", lambda options=options: stage.alone(options, _nothing)  # type: ignore[misc]
    for role in (0, 1):
        yield "cancellation", lambda role=role: _cancel(stage, role, 1)  # type: ignore[misc]


def _conditions(stage: Stage) -> Iterator[Conditions]:
    for seed in range(SEEDS):
        if stage.streams:
            yield Conditions(seed=seed, chunk=(7, 60, 400, 1400)[seed % 4], delay=0.0 if seed % 2 else 0.02)
        else:
            yield Conditions(seed=seed, drop=0.2, duplicate=0.2, reorder=0.3, delay=0.03, first_losses=seed % 3)


def _bulk_conditions(stage: Stage) -> tuple[Conditions, ...]:
    if stage.streams:
        return Conditions(), Conditions(coalesce=True), Conditions(chunk=5000, delay=0.001)
    return Conditions(), Conditions(drop=0.02, reorder=0.1, duplicate=0.05)


async def _use(scenario: Scenario, request: Submission, sock: Any) -> None:
    """One consumer: as soon as it has its session it sends, and receives what the other sends."""
    outcome = await request.outcome()
    if not outcome.ok:
        raise ConformanceFailure(f"the handshake fails: {outcome}", "see test_handshake_succeeds")
    stream = _attach(outcome.session(sock), scenario.streams)
    if stream is None:
        return
    ours = outcome.options.role.name.encode() + _BULK
    sending = asyncio.ensure_future(_send_all(stream, ours))
    received = bytearray()
    while data := await stream.receive():
        received += data
    await sending
    await stream.close()
    theirs = (b"SERVER" if ours.startswith(b"CLIENT") else b"CLIENT") + _BULK
    if bytes(received) != theirs:
        raise ConformanceFailure(
            f"of {len(theirs)} bytes that were sent over the session {len(received)} arrived, or others "
            f"({_role(outcome)})",
            "both ends number and protect from the first byte behind the handshake",
        )


async def _send_all(stream: AsyncStream, data: bytes) -> None:
    for start in range(0, len(data), 50_000):
        await stream.send(data[start : start + 50_000])
    await stream.send_eof()


def _attach(session: AsyncSession, wanted: bool) -> AsyncStream | None:
    try:
        stream = session.stream()
    except HsframeworkError as error:
        if not wanted:
            return None
        raise ConformanceFailure(
            f"there is no stream over the session: {error}",
            "implement hsframework_attach_session; or say streams=False, if consumers use the parameters themselves",
        ) from error
    if wanted:
        return stream
    raise ConformanceFailure(
        "there is a stream over the session, and the scenario says streams=False", "say streams=True"
    )


def _shown(session: AsyncSession, stage: Stage) -> Iterator[str]:
    yield repr(session)
    yield repr(session.established)
    yield repr(dict(session.tags))
    if stage.scenario.streams:
        stream = _attach(session, True)
        yield repr(stream)
        yield repr(getattr(stream, "__dict__", {}))


def _censored(text: str, secrets: set[bytes]) -> str:
    for secret in secrets:
        for form in (secret.hex(), repr(secret)[2:-1], secret.decode("latin-1")):
            if form:
                text = text.replace(form, "<the secret>")
    return text[:400]


def _said(seen: Observation) -> str:
    return f"; the log says: {seen.blames[0]}" if seen.blames else ""


def _role(outcome: Outcome) -> str:
    return f"as {outcome.options.role.name.lower()}"
