"""One request in hand: from the reply to ACCEPT until DONE.

* It ends once, in :meth:`Handshake._end`, whatever happens first: the handshaker's result or error, the deadline, the
  consumer's withdrawal, the loss of the dispatcher, the end of the agent.  What comes later is ignored.
* An end that is not the handshaker's own is told to it by cancellation.  It has :data:`GRACE` to say goodbye to the
  peer; after that the request ends without it, also when it has swallowed the cancellation.
* The socket is closed before DONE is sent, while the dispatcher surely holds its copy: so the close never is the last
  one, and never blocks.  On the ways where DONE is not sent, the last close is done by a thread if it may block.
* ``hsframework_handshake_finished`` is called once for each call of ``hsframework_handshake_started``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import structlog

from hsframework.agent.containment import exhaustion
from hsframework.agent.requests import encode_failure, encode_success
from hsframework.agent.served import Served
from hsframework.errors import HsframeworkError, PluginError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import PeerIdentity, Request, Result
from hsframework.local.deadlines import Deadlines
from hsframework.registry.plugins import PluginRegistry

if TYPE_CHECKING:
    from hsframework.agent.endpoint import DatagramEndpoint, StreamEndpoint

GRACE = 0.05
"""Seconds that a cancelled handshaker has; the dispatcher's own deadline is 0.2 s after ours."""

_log = structlog.get_logger("hsframework.agent")


class Authorization:
    """Asks the plugins whether a peer may have its session: once, when the handshaker does or else at the end."""

    __slots__ = ("_allowed", "_registry", "request")

    def __init__(self, registry: PluginRegistry) -> None:
        self._registry = registry
        self._allowed: PeerIdentity | None = None
        self.request: Request | None = None

    def __call__(self, peer: PeerIdentity) -> None:
        """Raises HandshakeError."""
        if self._allowed is not None and self._allowed == peer:
            return
        assert self.request is not None
        self._registry.authorize(self.request, peer)
        self._allowed = peer


class Handshake:
    """``on_end(handshake, message)`` is called once, with the DONE to send, or None when none is wanted."""

    __slots__ = (
        "_begun",
        "_begun_at",
        "_deadlines",
        "_ended",
        "_grace",
        "_loop",
        "_on_end",
        "_reason",
        "_registry",
        "_silent",
        "_task",
        "_ticket",
        "endpoint",
        "exhausted",
        "request",
        "served",
        "source",
    )

    def __init__(
        self,
        request: Request,
        endpoint: StreamEndpoint | DatagramEndpoint,
        served: Served,
        source: str | None,
        registry: PluginRegistry,
        on_end: Callable[[Handshake, bytes | None], None],
        deadlines: Deadlines[Handshake],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request = request
        self.endpoint = endpoint
        self.served = served
        self.source = source
        self.exhausted = ""
        """What the process ran out of while the handshake was under way."""
        self._registry = registry
        self._on_end = on_end
        self._loop = loop
        self._reason: HsframeworkError | None = None
        self._silent = False
        self._ended = False
        self._begun = False
        self._begun_at = loop.time()
        registry.handshake_started(request)
        self._deadlines = deadlines
        self._ticket = deadlines.add(self, request.deadline)
        self._grace: asyncio.TimerHandle | None = None
        self._task = loop.create_task(self._run())

    def deadline_passed(self) -> None:
        """The peer has not done its part in time."""
        self.stop(Failure.SILENCE)

    def stop(self, failure: Failure, detail: str = "", *, silent: bool = False) -> None:
        """End it from outside.  ``silent``: nobody waits for DONE.  The first reason stands."""
        self._silent = self._silent or silent
        if self._ended or self._reason is not None:
            return
        self._reason = HandshakeFailed(failure, detail)
        self._task.cancel()
        if not self._begun:
            # A task that is cancelled before its first step never runs at all.
            self._end(self._reason, None)
            return
        self._grace = self._loop.call_later(GRACE, self._force)

    def stop_now(self, failure: Failure, detail: str = "") -> None:
        """End it from outside, without DONE and without grace."""
        self.stop(failure, detail, silent=True)
        self._force(blame=False)

    async def _run(self) -> None:
        message: bytes | None = None
        outcome: Result | HsframeworkError
        self._begun = True
        try:
            result = await self.served.handshaker.handshake(self.request, self.endpoint)
            message = encode_success(self.request.id, self.served, result)
            self.request.authorize(result.peer)
            outcome = result
        except PluginError as error:
            outcome = self._plugin_failed(error)
        except HsframeworkError as error:
            # Without the traceback: it would hold this frame, and so the request, until the next collection.
            outcome = error.with_traceback(None)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            outcome = self._plugin_failed(error)
        self._end(outcome, message)

    def _plugin_failed(self, error: BaseException) -> HsframeworkError:
        self.exhausted = exhaustion(error)
        if self._reason is not None:
            return self._reason
        _log.error(
            "a plugin failed",
            plugin=self.served.plugin,
            protocol=self.served.name,
            request=self.request.id,
            exc_info=error,
        )
        return HandshakeFailed(Failure.INTERNAL, f"the plugin {self.served.plugin!r} failed; the agent's log says how")

    def _force(self, blame: bool = True) -> None:
        if self._ended:
            return
        assert self._reason is not None
        if blame:
            _log.error(
                "a plugin's handshake goes on although it was cancelled",
                plugin=self.served.plugin,
                protocol=self.served.name,
                request=self.request.id,
            )
        self._end(self._reason, None)

    def _end(self, outcome: Result | HsframeworkError, message: bytes | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._deadlines.remove(self, self._ticket)
        if self._grace is not None:
            self._grace.cancel()
        if self._reason is not None:
            outcome = self._reason
        if isinstance(outcome, HsframeworkError):
            message = encode_failure(self.request.id, outcome, self.served.name)
        self._on_end(self, None if self._silent else message)
        self._registry.handshake_finished(self.request, outcome, self._loop.time() - self._begun_at)
