"""One handshake: one DONE for each request, whatever the plugin does, and the hooks called once."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import sys
from typing import Any

import pytest

import hsframework
from hsframework.errors import HandshakeError, HsframeworkError, PluginError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Endpoint, PeerIdentity, Request, Result, Trust
from hsframework.testing.certificates import Authority
from tests.unit.agent.fakes import WAIT, Audit, Behaviour, Running, ToyProtocol, forever, one, pair, running, succeeds

ROOT = Authority("Root")

# Faults of a plugin


class Odd(HandshakeError):
    """An error of a plugin that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


async def returns_none(request: Request, endpoint: Endpoint) -> Any:
    return None


async def returns_wrong_peer(request: Request, endpoint: Endpoint) -> Any:
    return Result(peer="me")  # type: ignore[arg-type]


async def returns_wrong_tags(request: Request, endpoint: Endpoint) -> Any:
    return Result(tags={"cipher": 1})  # type: ignore[dict-item]


async def returns_tags_that_are_none(request: Request, endpoint: Endpoint) -> Any:
    return Result(tags=None)  # type: ignore[arg-type]


async def returns_unknown_session(request: Request, endpoint: Endpoint) -> Any:
    return Result(session={"no such": 1})


async def returns_too_much(request: Request, endpoint: Endpoint) -> Any:
    return Result(peer=PeerIdentity(certificates=(b"x" * 60000,) * 5))


async def raises_value_error(request: Request, endpoint: Endpoint) -> Any:
    raise ValueError(b"a key that must not be shown")


async def exits(request: Request, endpoint: Endpoint) -> Any:
    sys.exit(3)


async def cancels_itself(request: Request, endpoint: Endpoint) -> Any:
    raise asyncio.CancelledError


async def breaks_a_rule(request: Request, endpoint: Endpoint) -> Any:
    raise PluginError("the plugin broke a rule")


def not_a_coroutine(request: Request, endpoint: Endpoint) -> Any:
    return Result()


@pytest.mark.parametrize(
    "behaviour",
    [
        returns_none,
        returns_wrong_peer,
        returns_wrong_tags,
        returns_tags_that_are_none,
        returns_unknown_session,
        returns_too_much,
        raises_value_error,
        exits,
        cancels_itself,
        breaks_a_rule,
        not_a_coroutine,
    ],
)
async def test_nonsense_is_eio_and_is_blamed(behaviour: Behaviour, capfd: pytest.CaptureFixture[str]) -> None:
    """A plugin's offence against the interface costs its consumer one EIO; the log names the plugin."""
    from hsframework.telemetry.log import configure

    configure("info", "console")
    done = await one(behaviour)
    assert done.values["status"] == errno.EIO
    assert "plugin-0" in done.values["message"]
    shown = capfd.readouterr().err
    assert "plugin=plugin-0" in shown
    assert "must not be shown" not in shown + done.values["message"]


async def test_errors_reach_the_consumer_with_their_errno() -> None:
    """A documented failure and an error of the plugin's own: errno and text."""

    async def fails(request: Request, endpoint: Endpoint) -> Result:
        raise HandshakeFailed(Failure.REVOKED, "serial 7")

    async def own(request: Request, endpoint: Endpoint) -> Result:
        raise HandshakeError("not\0today", errno=errno.EHOSTDOWN)

    done = await one(fails)
    assert done.values["status"] == errno.EKEYREVOKED
    assert done.values["message"].endswith("serial 7")
    done = await one(own)
    assert (done.values["status"], done.values["message"]) == (errno.EHOSTDOWN, "nottoday")


async def test_an_error_that_is_odd_itself() -> None:
    """An error without a text, or with an errno that is none, still ends the request."""

    async def textless(request: Request, endpoint: Endpoint) -> Result:
        raise Odd("x")

    async def numberless(request: Request, endpoint: Endpoint) -> Result:
        error = HandshakeError("x")
        error.errno = 70000
        raise error

    assert (await one(textless)).values["status"] == errno.EIO
    assert (await one(numberless)).values["status"] == errno.EIO


# Deadlines


async def test_deadline_is_silence() -> None:
    """A handshake that does not end by its deadline is cancelled, and the consumer gets ETIMEDOUT."""
    done = await one(forever, timeout=20)
    assert done.values["status"] == errno.ETIMEDOUT


async def test_deadline_lets_the_handshaker_say_goodbye() -> None:
    """A cancelled handshaker can still send an alert."""

    async def polite(request: Request, endpoint: Endpoint) -> Result:
        try:
            return await forever(request, endpoint)
        except asyncio.CancelledError:
            await endpoint.send(b"bye")
            raise

    async with running(polite) as agent:
        with pair() as (ours, theirs):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), timeout=20)
            assert (await agent.peer.receive("done")).values["status"] == errno.ETIMEDOUT
            assert theirs.recv(10) == b"bye"


async def test_swallowed_cancellation_does_not_keep_the_request() -> None:
    """A handshaker that goes on after its deadline, or returns a result then, has timed out all the same."""
    release = asyncio.Event()

    async def stubborn(request: Request, endpoint: Endpoint) -> Result:
        while True:
            try:
                await release.wait()
                return Result()
            except asyncio.CancelledError:
                continue

    async def late(request: Request, endpoint: Endpoint) -> Result:
        try:
            return await forever(request, endpoint)
        except asyncio.CancelledError:
            return Result(in_kernel=True)

    audit = Audit()
    async with running(stubborn, audit) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), timeout=20)
            assert (await agent.peer.receive("done")).values["status"] == errno.ETIMEDOUT
            assert agent.host.in_hand == 0
            release.set()
            await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task(), agent.task} - waiting(agent)))
        assert [(number, type(outcome)) for number, outcome in audit.finished] == [(1, HandshakeFailed)]
    assert (await one(late, timeout=20)).values["status"] == errno.ETIMEDOUT


def waiting(agent: Running) -> set[asyncio.Task[Any]]:
    """Return the host's own tasks."""
    return {task for task in asyncio.all_tasks() if "Link.run" in repr(task) or "Event.wait" in repr(task)}


# Hooks


async def test_hooks_hear_each_handshake_once() -> None:
    """Started and finished once each, with the outcome: success, failure, deadline."""
    audit = Audit()

    async def by_id(request: Request, endpoint: Endpoint) -> Result:
        if request.id == 1:
            return Result(tags={"a": "b"})
        if request.id == 2:
            raise HandshakeError("no")
        return await forever(request, endpoint)

    async with running(by_id, audit) as agent:
        accept = await agent.peer.asked()
        with pair() as (ours, _):
            for number in (1, 2, 3):
                agent.peer.give(accept, ours.fileno(), number, timeout=20)
            for _ in range(3):
                await agent.peer.receive("done")
    assert audit.started == [1, 2, 3]
    assert [number for number, _ in audit.finished] == [1, 2, 3]
    first, second, third = (outcome for _, outcome in audit.finished)
    assert first == Result(tags={"a": "b"})
    assert isinstance(second, HsframeworkError)
    assert third.failure is Failure.SILENCE


class Refuses:
    """Authorizes nobody."""

    @hsframework.hookimpl
    def hsframework_authorize(self, request: Request, peer: PeerIdentity) -> None:
        raise HandshakeFailed(Failure.NOT_AUTHORIZED, "not you")


class Stumbles:
    """Fails in every hook."""

    @hsframework.hookimpl
    def hsframework_handshake_started(self) -> None:
        raise RuntimeError("started")

    @hsframework.hookimpl
    def hsframework_handshake_finished(self) -> None:
        raise SystemExit(1)


class StumblesWhileAuthorizing:
    """Fails to decide."""

    @hsframework.hookimpl
    def hsframework_authorize(self) -> None:
        raise KeyError("policy file")


async def test_authorize_decides_and_fails_closed() -> None:
    """A refusal reaches the consumer; a hook that fails to decide refuses too."""
    assert (await one(succeeds, Refuses())).values["status"] == errno.EACCES
    assert (await one(succeeds, StumblesWhileAuthorizing())).values["status"] == errno.EIO
    assert (await one(succeeds)).values["status"] == 0


async def test_a_stumbling_audit_harms_nothing() -> None:
    """Hooks that only listen cannot spoil a handshake, nor keep other listeners from hearing."""
    audit = Audit()
    assert (await one(succeeds, Stumbles(), audit)).values["status"] == 0
    assert (audit.started, len(audit.finished)) == ([1], 1)


async def test_authorize_after_the_end_is_refused() -> None:
    """A handshaker that goes on after its end is told of it, and no plugin is asked for its peer."""
    asked: list[object] = []

    class Asked:
        @hsframework.hookimpl
        def hsframework_authorize(self, peer: PeerIdentity) -> None:
            asked.append(peer)

    refused = asyncio.Event()
    release = asyncio.Event()

    async def late(request: Request, endpoint: Endpoint) -> Result:
        with contextlib.suppress(asyncio.CancelledError):
            await forever(request, endpoint)
        await release.wait()
        with pytest.raises(HandshakeFailed, match="has ended"):
            request.authorize(PeerIdentity())
        refused.set()
        return Result()

    async with running(late, Asked()) as agent:
        with pair() as (ours, _):
            agent.peer.give(await agent.peer.asked(), ours.fileno(), timeout=20)
            assert (await agent.peer.receive("done")).values["status"] == errno.ETIMEDOUT
            release.set()
            await asyncio.wait_for(refused.wait(), WAIT)
    assert asked == []


# Afterwards


async def test_a_request_is_freed_at_its_end() -> None:
    """A request and the keys in it are in no reference cycle: they are freed without the garbage collector."""

    def requests() -> int:
        return sum(isinstance(item, Request) for item in gc.get_objects())

    async def by_id(request: Request, endpoint: Endpoint) -> Result:
        if request.id == 1:
            raise HandshakeError("no")
        request.authorize(PeerIdentity())
        return Result()

    protocol = ToyProtocol(by_id)
    async with running(protocol=protocol) as agent:
        accept = await agent.peer.asked()
        before = requests()
        gc.disable()
        try:
            with pair() as (ours, _):
                for number in (1, 2):
                    agent.peer.give(accept, ours.fileno(), number)
                    await agent.peer.receive("done")
            assert requests() == before + 2
            protocol.handshaker.requests.clear()
            assert requests() == before
        finally:
            gc.enable()


async def test_an_admission_list_holds_for_every_protocol() -> None:
    """A plugin that judges nothing is held to it: whom the list does not name is refused, and no plugin is asked."""
    asked: list[PeerIdentity] = []

    class Asked:
        @hsframework.hookimpl
        def hsframework_authorize(self, peer: PeerIdentity) -> None:
            asked.append(peer)

    good, other = (ROOT.issue([name]).chain for name in ("good.example", "other.example"))
    peers = {
        1: (PeerIdentity(certificates=good), 0),
        2: (PeerIdentity(certificates=other), errno.EACCES),
        3: (PeerIdentity(), errno.EACCES),
        4: (PeerIdentity(psk_identity=b"good.example"), errno.EACCES),
        5: (PeerIdentity(public_key=b"good.example"), errno.EACCES),
    }

    async def shows(request: Request, endpoint: Endpoint) -> Result:
        return Result(peer=peers[request.id][0])

    async with running(shows, Asked()) as agent:
        agent.peer.trust(1, Trust((), admit=("dns:good.example",)))
        accept = await agent.peer.asked()
        with pair() as (ours, _):
            for number, (_, status) in peers.items():
                agent.peer.give(accept, ours.fileno(), number, trust_id=1)
                assert (await agent.peer.receive("done")).values["status"] == status
    assert asked == [peers[1][0]]
