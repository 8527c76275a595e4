"""Assertions about a pair that is refused: the errno of each end, its text, and the moment."""

from __future__ import annotations

import errno
from collections.abc import Collection
from dataclasses import replace

from hsframework.errors import errno_name
from hsframework.interface import PresharedKey, Role, Secret
from hsframework.testing.dispatcher import Outcome
from hsframework.testing.observation import Observation
from hsframework.testing.scenario import Refusal
from hsframework.testing.stage import LIMIT, Ended, Stage
from hsframework.testing.verdicts import ConformanceFailure

_OF_THE_PEER = frozenset({errno.EACCES, errno.ECONNRESET})
"""Errnos of an end whose peer has refused; EACCES may also be the refusal of a plugin that authorize has asked."""


def must_say_who_refuses(stage: Stage) -> None:
    """Check that the scenario has refused pairs, and that its table of errnos names them."""
    scenario = stage.scenario
    if not scenario.refused:
        raise ConformanceFailure(
            "the scenario has no pair that is refused",
            "add at least one: refused={'a wrong key': refused((CLIENT, STRANGER), client=errno.…, server=errno.…)}",
        )
    strange = scenario.refused_by.keys() - scenario.refused.keys()
    if strange:
        raise ConformanceFailure(f"refused_by has {sorted(strange)}, and refused has not", "use the words of refused")


async def must_be_refused(word: str, stage: Stage, seen: Observation) -> None:
    """Run a refused pair, and check its ends; ``word``: the expected reason."""
    entry = stage.scenario.refused[word]
    stage.authorizations.asked.clear()
    ended = await stage.handshake(entry.pair if isinstance(entry, Refusal) else entry)
    if ended.ok:
        raise ConformanceFailure(
            f"{word}: both ends succeed, where the scenario says that one refuses",
            "check the peer before the handshake returns; or correct refused={...} in the scenario",
        )
    for outcome in ended.outcomes:
        _must_fail_well(word, outcome, ended, seen)
    if word in stage.scenario.refused_by:
        role, number = stage.scenario.refused_by[word]
        _must_have_errno(word, role, {number}, ended, stage, None)
    if isinstance(entry, Refusal):
        for role in Role:
            _must_have_errno(word, role, entry.errnos.get(role), ended, stage, entry.may_succeed)
    if stage.streams and all(item.at - ended.begun >= LIMIT for item in ended.outcomes):
        raise ConformanceFailure(
            f"{word}: nobody refuses before the deadline ({ended})", "raise as soon as the refusal is certain"
        )


async def must_know_no_stranger(stage: Stage, seen: Observation) -> None:
    """Check that a server has no session with a client of an unknown identity whose key is easily guessed."""
    client, server = stage.pair
    for identity, key in {(psk.identity, psk.key.reveal()) for psk in client.psks}:
        for word, weak in (("all zeros", bytes(len(key))), ("its identity", identity + b"?")):
            stranger = PresharedKey(identity + b"?", Secret(weak))
            ended = await stage.handshake((replace(client, psks=(stranger,)), server))
            if any(outcome.ok and outcome.options.role is Role.SERVER for outcome in ended.outcomes):
                raise ConformanceFailure(
                    f"the server has a session with a client that it does not know, whose key is {word}",
                    "refuse an identity without a key, or go on with a random one (secrets.token_bytes), never with "
                    "a fixed one",
                )
            if seen.blames:
                raise ConformanceFailure(
                    f"a client with an unknown identity and a key that is {word}: {seen.blames[0]}",
                    "raise HandshakeFailed(Failure.NO_KEY, detail) for a key that is none",
                )


def _must_fail_well(word: str, outcome: Outcome, ended: Ended, seen: Observation) -> None:
    """Check that an end that has failed has done so by an error of its own, with a text and an errno that is true."""
    end = outcome.options.role.name.lower()
    if seen.blames:
        raise ConformanceFailure(
            f"{word}: the plugin fails with an exception of its own (told as {errno_name(outcome.status)}): "
            f"{seen.blames[0]}",
            "turn a library's exceptions into HandshakeFailed(Failure...., detail), which carries the errno",
        )
    if not outcome.ok and not outcome.message.strip():
        raise ConformanceFailure(
            f"{word}: the {end}'s error has no text", "say in the HandshakeError what the peer did, without secrets"
        )
    if outcome.status == errno.EIO:
        raise ConformanceFailure(
            f"{word}: the {end} fails with EIO, which says that the service itself has failed: {outcome.message}",
            "give the HandshakeError an errno, or raise HandshakeFailed(Failure...., detail), which carries one",
        )
    if outcome.status in (errno.ETIMEDOUT, errno.ECANCELED) and outcome.at - ended.begun < LIMIT - 1:
        raise ConformanceFailure(
            f"{word}: the {end} fails with {errno_name(outcome.status)} long before its deadline: {outcome.message}",
            "raise HandshakeFailed with the Failure that it is: consumers try again after ETIMEDOUT",
        )


def _must_have_errno(
    word: str, role: Role, numbers: Collection[int] | None, ended: Ended, stage: Stage, may_succeed: Role | None
) -> None:
    """Check that an end has failed with one of these errnos, and had not asked ``authorize`` before.

    ``numbers``: None: with any.  ``may_succeed``: the end whose success is none of its faults.
    """
    end = role.name.lower()
    named = " or ".join(map(errno_name, sorted(numbers))) if numbers is not None else "an errno"
    for outcome in ended.outcomes:
        if outcome.options.role is not role or (outcome.ok and role is may_succeed):
            continue
        if outcome.ok or (numbers is not None and outcome.status not in numbers):
            raise ConformanceFailure(
                f"{word}: the {end} is to refuse with {named}, and has: {outcome}",
                f"have the {end} check its peer's proof before its handshake returns; or correct the scenario: "
                "refused(pair, client=errno…, server=errno…, may_succeed=…)",
            )
    if (
        numbers is not None
        and any(asked is role for asked, _ in stage.authorizations.asked)
        and _OF_THE_PEER.isdisjoint(numbers)
    ):
        raise ConformanceFailure(
            f"{word}: the {end} calls authorize for a peer that it then refuses with {named}",
            "call authorize after the last proof of the peer's: it asks whether that identity may have its session",
        )
