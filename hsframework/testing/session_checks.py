"""The checks of the conformance suite about sessions: their data, their streams and their secrets."""

from __future__ import annotations

import asyncio

from hsframework.testing.checking import check
from hsframework.testing.consumers import must_obey_authorize, must_serve_the_kernel
from hsframework.testing.containment import contained
from hsframework.testing.leaks import shown_secrets
from hsframework.testing.observation import Observation
from hsframework.testing.peers import (
    bulk_conditions,
)
from hsframework.testing.protection import (
    must_hide_data,
    must_leave_sessions_of_others,
    must_not_end_by_a_stranger,
    must_notice_changes,
    must_refuse_the_largest_length,
    must_tell_the_end,
)
from hsframework.testing.secrecy import everything_said, must_be_long_enough, must_mark_secrets
from hsframework.testing.sessions import censored, use_session
from hsframework.testing.stage import LIMIT, Stage
from hsframework.testing.suite import Checks
from hsframework.testing.verdicts import (
    ConformanceFailure,
)


class SessionChecks(Checks):
    """Sessions: their data arrives and is protected, and nothing of their keys is shown."""

    @contained
    def test_no_secret_is_shown(self) -> None:
        """No log line, output, error, tag or repr contains a key (hsframework.interface: Secret)."""

        async def body(stage: Stage, seen: Observation) -> None:
            must_be_long_enough(stage)
            await must_mark_secrets(stage)
            secrets, texts = await everything_said(stage, seen)
            found = shown_secrets(secrets, texts)
            if found:
                raise ConformanceFailure(
                    f"a secret is shown, in {len(found)} places; one of them: {censored(found[0], secrets)}",
                    "keep keys in hsframework.interface.Secret until the moment of use, name them in "
                    "NAME.sensitive.yaml beside the specification, and put facts into logs, errors and tags, never "
                    "what was computed from a key, nor a part of one",
                )

        check(self.scenario(), body)

    @contained
    def test_data_is_protected(self) -> None:
        """Data of a session is not to be read on its way; what is changed, repeated or lost there is an error of the
        stream (hsframework.streams: UserSpaceSession)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams and stage.scenario.protected:
                await must_hide_data(stage)
                await must_notice_changes(stage)
                await must_refuse_the_largest_length(stage)
                await must_not_end_by_a_stranger(stage)

        check(self.scenario(), body)

    @contained
    def test_end_of_data_is_told(self) -> None:
        """A connection that ends without the peer's goodbye is an error of the stream (hsframework.streams:
        UserSpaceSession.receive_eof)."""

        async def body(stage: Stage, seen: Observation) -> None:
            if stage.streams:
                await must_tell_the_end(stage)

        check(self.scenario(), body)

    @contained
    def test_sessions_of_others_are_left(self) -> None:
        """A plugin gives streams over sessions of its own protocol alone (hsframework.hookspecs:
        hsframework_attach_session)."""

        async def body(stage: Stage, seen: Observation) -> None:
            await must_leave_sessions_of_others(stage)

        check(self.scenario(), body)

    @contained
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

    @contained
    def test_kernel_consumers_are_served_in_the_kernel(self) -> None:
        """A consumer in the kernel gets a session in its socket, or an error (hsframework.interface: Request,
        kernel_consumer)."""

        async def body(stage: Stage, seen: Observation) -> None:
            await must_serve_the_kernel(stage)

        check(self.scenario(), body)

    @contained
    def test_authorize_is_obeyed(self) -> None:
        """The peer that is reported is the one that ``authorize`` was asked about, and its refusal ends the handshake
        (hsframework.interface: Request, authorize)."""

        async def body(stage: Stage, seen: Observation) -> None:
            await must_obey_authorize(stage)

        check(self.scenario(), body)
