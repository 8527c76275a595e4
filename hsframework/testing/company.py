"""Checks of handshakes in company: different pairs at once and interleaved, each with its own peer, facts and keys."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hsframework.client.request import HandshakeOptions
from hsframework.interface import PeerIdentity, PresharedKey, Secret
from hsframework.testing.network import Conditions
from hsframework.testing.observation import Observation
from hsframework.testing.scenario import Pair, secrets_in
from hsframework.testing.stage import Ended, Stage, open_stage
from hsframework.testing.verdicts import ConformanceFailure, log_says

_EACH = 3
"""Handshakes of each pair at once."""
_LEAST_KEY = 8
_MOMENT = 5.0
"""Virtual seconds that a handshake may take beside one whose peer is silent."""
_NOTHING_SHARED = "keep nothing of one handshake, of one identity or of one peer in the Handshaker or in a module"


@dataclass(frozen=True)
class Facts:
    """The peer, the application protocol, the tags and the keys of a session, at the client and at the server."""

    peers: tuple[PeerIdentity, PeerIdentity]
    alpn: tuple[str | None, str | None]
    tags: tuple[dict[str, str], dict[str, str]]
    keys: frozenset[bytes]

    def common(self, other: Facts) -> Facts:
        """Return the facts with those tags that another session of the same pair has too."""
        ours, theirs = (dict(mine.items() & its.items()) for mine, its in zip(self.tags, other.tags, strict=True))
        return replace(self, tags=(ours, theirs))

    def difference(self, other: Facts) -> str:
        """Return what another session of the same pair has in place of these facts; empty: nothing."""
        for word in ("peers", "alpn"):
            if getattr(self, word) != getattr(other, word):
                return f"{word} {getattr(other, word)} in place of {getattr(self, word)}"
        for ours, theirs in zip(self.tags, other.tags, strict=True):
            for name, value in ours.items():
                if theirs.get(name, value) != value:
                    return f"the tag {name}={theirs[name]} in place of {value}"
        return ""


async def must_not_mix(stage: Stage, seen: Observation) -> None:
    """Check that different pairs succeed at once as each does alone, and that ends of different pairs do not."""
    made = []
    for pair in derived_pairs(stage.pair):
        ended = await stage.handshake(pair)
        if ended.ok:
            made.append(pair)
        elif await _succeeds_alone(stage, pair):
            raise ConformanceFailure(
                f"a pair with other keys fails after the scenario's own, and succeeds where it is the first: {ended}",
                _NOTHING_SHARED,
            )
    pairs = [stage.pair, *made, *stage.scenario.pairs]
    alone = [(await _facts(stage, pair)).common(await _facts(stage, pair)) for pair in pairs]
    every = (Conditions(chunk=7), Conditions(delay=0.2), Conditions(coalesce=True))
    numbers = [number for _ in range(_EACH) for number in range(len(pairs))]
    together = await asyncio.gather(
        *(_facts(stage, pairs[number], every[at % len(every)]) for at, number in enumerate(numbers))
    )
    for number, facts in zip(numbers, together, strict=True):
        if difference := alone[number].difference(facts):
            raise ConformanceFailure(
                f"of {len(numbers)} handshakes of {len(pairs)} pairs at once, one has a session of another: "
                f"{difference}{log_says(seen)}",
                _NOTHING_SHARED,
            )
    _must_have_own_keys(list(together), stage)
    await _must_not_cross(stage, made)


async def _succeeds_alone(stage: Stage, pair: Pair) -> bool:
    async with open_stage(stage.scenario) as fresh:
        return (await fresh.handshake(pair)).ok


async def must_not_wait(stage: Stage) -> None:
    """Check that a handshake succeeds at once beside others whose peers are silent."""
    with stage.network() as one, stage.network() as other:
        waiting = [
            stage.service.submit(network.left, replace(options, timeout=3600.0))
            for network, options in zip((one, other), stage.pair, strict=True)
        ]
        await stage.quiet()
        try:
            async with asyncio.timeout(_MOMENT):
                ended = await stage.handshake(idle=False)
        except TimeoutError:
            raise ConformanceFailure(
                "a handshake waits for another one whose peer is silent: any stranger can stop the service",
                "let each handshake go on by itself: no lock over the waits for a peer",
            ) from None
        finally:
            for request in waiting:
                request.cancel()
        await stage.idle()
    if not ended.ok:
        raise ConformanceFailure(
            f"beside handshakes whose peers are silent, another one fails: {ended}", _NOTHING_SHARED
        )


async def _facts(stage: Stage, pair: Pair, conditions: Conditions | None = None) -> Facts:
    """Run a pair's handshake, and return the facts of its sessions.  Raises ConformanceFailure."""
    with stage.network(conditions if stage.streams else None) as network:
        requests = stage.submit(network, pair)
        outcomes = [await request.outcome() for request in requests]
        ended = Ended(outcomes[0], outcomes[1], requests)
        if not ended.ok:
            raise ConformanceFailure(
                f"a pair of the scenario does not succeed in company of others: {ended}", _NOTHING_SHARED
            )
        client, server = (
            outcome.session(sock) for outcome, sock in zip(outcomes, (network.left, network.right), strict=True)
        )
        keys = secrets_in(client.parameters)
        return Facts(
            (client.peer, server.peer),
            (client.alpn, server.alpn),
            (dict(client.tags), dict(server.tags)),
            frozenset(key for key in keys if len(key) >= _LEAST_KEY and len(set(key)) > 1),
        )


def _must_have_own_keys(facts: list[Facts], stage: Stage) -> None:
    known = stage.scenario.known_secrets()
    seen: set[bytes] = set()
    for each in facts:
        if (each.keys - known) & seen:
            raise ConformanceFailure(
                "two sessions have a key in common",
                "make the keys of a session from fresh values of both ends, in the coroutine of its handshake",
            )
        seen |= each.keys


async def _must_not_cross(stage: Stage, pairs: list[Pair]) -> None:
    """Check that a client of one pair fails with a server of another, whose keys differ."""
    for (client, _), (_, server) in zip([stage.pair, *pairs], [*pairs, stage.pair], strict=True):
        ended = await stage.handshake((client, server))
        if ended.ok and pairs:
            raise ConformanceFailure(
                "a client and a server with different keys succeed with each other, after each has with its own peer",
                "look up the key for each handshake, in its request; " + _NOTHING_SHARED,
            )


def derived_pairs(pair: Pair) -> Iterator[Pair]:
    """Yield pairs in which every key that both ends have is another one; then such with other identities as well."""
    if _with_keys(pair, "", os.urandom) != pair:
        for number in range(2):
            yield _with_keys(pair, "", _letters)
            yield _with_keys(pair, f"-{number}", _letters)


def _letters(size: int) -> bytes:
    return os.urandom(size).hex()[:size].encode()


def _with_keys(pair: Pair, suffix: str, make: Any) -> Pair:
    """Return a pair with other keys where both ends have the same; ``suffix``: of identities that both have."""
    client, server = pair
    fresh: dict[bytes, Secret] = {}

    def other(secret: Secret) -> Secret:
        return fresh.setdefault(secret.reveal(), Secret(make(len(secret))))

    shared = {psk.key.reveal() for psk in client.psks} & {psk.key.reveal() for psk in server.psks}
    values = _shared_values(client.attributes, server.attributes)

    def changed(options: HandshakeOptions) -> HandshakeOptions:
        psks = tuple(
            PresharedKey(psk.identity + suffix.encode(), other(psk.key), psk.hash)
            if psk.key.reveal() in shared
            else psk
            for psk in options.psks
        )
        if isinstance(options.attributes, bytes):
            return replace(options, psks=psks)
        attributes = {
            name: other(value)
            if name in values and isinstance(value, Secret)
            else value + suffix
            if name in values and isinstance(value, str) and suffix and any(map(_is_secret, values.values()))
            else value
            for name, value in options.attributes.items()
        }
        return replace(options, psks=psks, attributes=attributes)

    return changed(client), changed(server)


def _is_secret(value: object) -> bool:
    return isinstance(value, Secret)


def _shared_values(ours: Mapping[str, Any] | bytes, theirs: Mapping[str, Any] | bytes) -> dict[str, Any]:
    """Return the attributes that both ends have with the same value."""
    if isinstance(ours, bytes) or isinstance(theirs, bytes):
        return {}
    return {name: value for name, value in ours.items() if name in theirs and theirs[name] == value}
