"""The run of one check of the conformance suite."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator

from hsframework.errors import HsframeworkError
from hsframework.testing.observation import Observation, observed
from hsframework.testing.opening import opened_at_first
from hsframework.testing.processor_time import LIMIT_OF_A_CALLBACK, Slowness, measured
from hsframework.testing.scenario import Scenario
from hsframework.testing.stage import Stage, open_stage
from hsframework.testing.verdicts import ConformanceFailure
from hsframework.testing.virtual_time import LoopBlocked, VirtualTimeLoop, run


@contextlib.contextmanager
def plain(scenario: Scenario) -> Iterator[Scenario]:
    """Report a scenario that cannot be run as a ConformanceFailure."""
    try:
        yield scenario
    except (HsframeworkError, LookupError, ValueError) as error:
        raise ConformanceFailure(
            f"the scenario cannot be run: {type(error).__name__}: {error}", "the message says what to change"
        ) from error


def check(scenario: Scenario, body: Callable[[Stage, Observation], Awaitable[None]]) -> None:
    """Run a check; then check that the plugin has not blocked the loop, and that no error is left unhandled."""
    with plain(scenario), observed() as seen, measured() as slowness:
        loop = VirtualTimeLoop()

        async def scene() -> None:
            async with open_stage(scenario, slowness) as stage:
                slowness.excused = True
                await opened_at_first(stage, seen)
                slowness.excused = False
                await body(stage, seen)
                for what, mend in stage.watch.problems[:1]:
                    raise ConformanceFailure(what, mend)

        try:
            run(scene(), loop=loop)
        except (LoopBlocked, ConformanceFailure):
            if not loop.blocked and not slowness.is_certain:
                raise
    _must_leave_the_loop(loop, slowness)
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


def _must_leave_the_loop(loop: VirtualTimeLoop, slowness: Slowness) -> None:
    """Check that no callback has blocked the event loop, and that none has computed for long."""
    if loop.blocked:
        raise ConformanceFailure(
            f"the plugin blocks the event loop, and with it all other handshakes; here it hung:\n{loop.blocked[0]}",
            "wait through the endpoint or asyncio alone; give long computations to asyncio.to_thread",
        )
    if slowness.certain is not None:
        seconds, stack = slowness.certain
        raise ConformanceFailure(
            f"the plugin computes for {seconds * 1000:.0f} ms in one callback of the event loop, and all other "
            f"handshakes wait; here it was:\n{stack}",
            f"give what takes more than {LIMIT_OF_A_CALLBACK * 1000:.0f} ms to asyncio.to_thread",
        )
