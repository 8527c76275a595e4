"""Checks of what a plugin shows: log lines, output, errors, tags, representations, and its sessions' attributes."""

from __future__ import annotations

import random

from hsframework.client.session import AsyncSession
from hsframework.testing.leaks import LEAST_SECRET, too_short
from hsframework.testing.observation import Observation
from hsframework.testing.peers import garbage, send_and_hang_up
from hsframework.testing.scenario import secrets_in
from hsframework.testing.sessions import everything_shown
from hsframework.testing.stage import Stage
from hsframework.testing.verdicts import ConformanceFailure
from hsframework.testing.watched import WatchedHandshaker

_LEAST_VALUE = 8
"""Bytes of an attribute's value that may be a key."""


def must_be_long_enough(stage: Stage) -> None:
    """Check that the secrets of the scenario's pair are long enough to be looked for."""
    short = too_short(stage.scenario.secrets_of(stage.pair))
    if short:
        raise ConformanceFailure(
            f"a secret of the scenario's client or server has {len(short[0])} bytes, and is not looked for: it "
            "would be found by chance",
            f"give both secrets of at least {LEAST_SECRET} bytes in the scenario",
        )


async def everything_said(stage: Stage, seen: Observation) -> tuple[set[bytes], list[str]]:
    """Run handshakes with all outcomes; return the secrets that are in them, and all texts that show anything."""
    texts: list[str] = []
    secrets = stage.scenario.known_secrets()
    with stage.network() as network:
        requests = stage.submit(network, stage.pair)
        for request, sock in zip(requests, (network.left, network.right), strict=True):
            session = (await request.outcome()).session(sock)
            texts.extend(await everything_shown(session, stage.scenario.streams))
            secrets.update(secrets_in(session.parameters))
    for pair in stage.scenario.refused_pairs():
        texts.extend(map(str, (await stage.handshake(pair)).outcomes))
    for _, data in garbage(random.Random("secrets")):
        texts.extend([str(await stage.alone(options, send_and_hang_up(data))) for options in stage.pair])
    for role in (0, 1):
        await stage.cancel(role, 1)
    for item in stage.service.served:
        handshaker = item.handshaker
        assert isinstance(handshaker, WatchedHandshaker)
        texts += [repr(handshaker.inner), repr(getattr(handshaker.inner, "__dict__", {}))]
    texts += [*stage.watch.errors, *seen.texts]
    return secrets | seen.secrets, texts


async def must_mark_secrets(stage: Stage) -> None:
    """Check that attributes of a session that look like keys are secret by the specification.

    Such a value has not been on the wire, and is another one in each session.
    """
    found: list[dict[str, bytes]] = []
    for _ in range(2):
        with stage.network() as network:
            requests = stage.submit(network, stage.pair)
            outcomes = [await request.outcome() for request in requests]
            await stage.idle()
            wire = b"".join(piece for pieces in network.passed.values() for piece in pieces)
            for outcome, sock in zip(outcomes, (network.left, network.right), strict=True):
                if outcome.ok:
                    found.append(_open_values(outcome.session(sock), wire, stage))
    if len(found) != 4:
        return
    for first, second in ((found[0], found[2]), (found[1], found[3])):
        for name, value in first.items():
            if second.get(name) not in (None, value):
                raise ConformanceFailure(
                    f"the session's attribute {name!r} is another one in each session, is never on the wire, and is no "
                    "secret by the specification, so logs and representations show it",
                    f"put {name!r} below session into NAME.sensitive.yaml beside the specification; or, if everybody "
                    f"may know it (a hash of the messages), into public=({name!r},) of the scenario",
                )


def _open_values(session: AsyncSession, wire: bytes, stage: Stage) -> dict[str, bytes]:
    """Return the values of a session's attributes that are shown, and that nobody has seen on the wire."""
    return {
        name: value
        for name, value in session.parameters.items()
        if isinstance(value, bytes)
        and len(value) >= _LEAST_VALUE
        and name not in stage.scenario.public
        and value not in wire
    }
