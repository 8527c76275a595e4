"""Assertions of the conformance suite about outcomes, and their messages.  They raise ConformanceFailure."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

from hsframework.agent.handshake import GRACE
from hsframework.agent.served import prepare
from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.local.deadlines import GRAIN
from hsframework.registry.plugins import PluginRegistry
from hsframework.testing.dispatcher import Outcome, Submission
from hsframework.testing.observation import Observation
from hsframework.testing.peers import MARKER
from hsframework.testing.scenario import Pair
from hsframework.testing.stage import LIMIT, SHORT, Ended, Stage


class ConformanceFailure(AssertionError):
    """A broken rule, with what the plugin did and how to mend it."""

    def __init__(self, what: str, mend: str) -> None:
        super().__init__(f"{what}\n  Mend it: {mend}")
        self._said = what, mend

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._said


def must_be_one_each(requests: Iterable[Submission]) -> None:
    """Check that each request has exactly one outcome."""
    for request in requests:
        if len(request.outcomes) != 1:
            raise ConformanceFailure(
                f"a request has {len(request.outcomes)} outcomes", "return or raise once for each request"
            )


def must_have_a_session(outcome: Outcome) -> None:
    """Check that a success has a session, as the dispatcher does; a session in the kernel is not checked here."""
    if not (outcome.values.get("session") or outcome.values.get("in-kernel")):
        raise ConformanceFailure(
            f"the handshake reports success without a session ({role_of(outcome)})",
            "return Result(session={...}) with what a consumer needs, or in_kernel=True for one that is in the socket",
        )


def must_name_a_known_peer(outcome: Outcome, pair: Pair) -> None:
    """Check that a peer that has proved a pre-shared key is reported by the identity of one that an end has."""
    known = {psk.identity for options in pair for psk in options.psks}
    named = outcome.values.get("remote-psk-identity")
    others = outcome.values.get("remote-certificate") or outcome.values.get("remote-public-key")
    if not known or named in known or (named is None and others):
        return
    raise ConformanceFailure(
        f"the peer is reported as {'anonymous' if named is None else repr(named)} ({role_of(outcome)}), and the "
        f"pre-shared keys have the identities {sorted(known)}",
        "return Result(peer=PeerIdentity(psk_identity=...)) with the identity of the key that the peer has proved",
    )


def must_be_in_time(outcome: Outcome, begun: float, what: str) -> None:
    """Check that a handshake with a timeout of :data:`SHORT` has failed by its deadline."""
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


def must_be_left(role: str, word: str, found: bytes) -> None:
    """Check that exactly the consumer's bytes are left in a socket; ``word``: the place of the cut."""
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


async def must_leave_datagrams(stage: Stage) -> None:
    """Check that a datagram that arrives after the handshake stays in the socket for the consumer."""
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


def must_notice_the_end(outcome: Outcome, begun: float, seen: Observation) -> None:
    """Check that a handshake has failed at once after its peer closed the connection."""
    if seen.blames:
        raise ConformanceFailure(
            f"a peer that hangs up makes the plugin fail ({role_of(outcome)}): {seen.blames[0]}",
            "let the endpoint's HandshakeFailed pass: it carries ECONNRESET",
        )
    if outcome.ok or outcome.at - begun >= LIMIT:
        raise ConformanceFailure(
            f"a peer that hangs up at once is not noticed ({role_of(outcome)}: {outcome})",
            "let the endpoint's HandshakeFailed pass: do not catch it and read again",
        )


def must_survive(word: str, outcome: Outcome, seen: Observation) -> None:
    """Check that garbage from a peer has failed its handshake with an errno of the plugin's; ``word``: its name."""
    if seen.blames:
        raise poisoned(word, seen)
    if outcome.ok:
        raise ConformanceFailure(
            f"a peer that sends {word} has a session", "success means that the peer has proved who it is"
        )


def poisoned(word: str, seen: Observation) -> ConformanceFailure:
    """Return the failure of a plugin that raised an exception of its own; ``word``: the cause."""
    return ConformanceFailure(
        f"{word} makes the plugin fail with an exception of its own: {seen.blames[0]}",
        "check what the peer sends before you use it: raise HandshakeFailed(Failure.GARBAGE, detail)",
    )


def must_name_the_key(
    registry: PluginRegistry, name: str, key: str, table: Mapping[str, Any], seen: Observation
) -> None:
    """Check that ``prepare`` refuses a table with a ConfigurationError that names the wrong key."""
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


def log_says(seen: Observation) -> str:
    """Return the first error in the log about the plugin, as the end of a message."""
    return f"; the log says: {seen.blames[0]}" if seen.blames else ""


def role_of(outcome: Outcome) -> str:
    """Return ``as client`` or ``as server``, for messages."""
    return f"as {outcome.options.role.name.lower()}"
