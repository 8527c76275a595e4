"""One request in hand, from the reply to ACCEPT until DONE.

* It ends once, in :meth:`Handshake._settle`, by whatever happens first: the handshaker's result or error, the deadline,
  the consumer's withdrawal, the loss of the dispatcher, the end of the agent.  What comes later is ignored.
* Any end but its own cancels the handshaker, which has :data:`GRACE` for an alert to the peer.  After that the request
  ends without it, also when it has swallowed the cancellation.
* The socket is closed as soon as the handshaker is over, while the dispatcher surely holds its copy: so the close never
  is the last one, and never blocks.  Where DONE is not wanted, a thread does the last close if it may block.
* The socket of a request of the kernel's stays open at its end, to be given back to another dispatcher with the outcome
  if this one dies before it has read DONE.  One that is orphaned, since its dispatcher is gone, goes on to its end.
* ``hsframework_handshake_started`` was called before; ``hsframework_handshake_finished`` is called once, at the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import structlog

from hsframework.agent.containment import exhaustion
from hsframework.agent.outcomes import encode_failure, encode_success
from hsframework.agent.served import Served
from hsframework.credentials.admission import check_admitted
from hsframework.errors import HsframeworkError, PluginError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Request
from hsframework.local.deadlines import Deadlines
from hsframework.registry.plugins import PluginRegistry

if TYPE_CHECKING:
    from hsframework.agent.callbacks import Callbacks
    from hsframework.agent.endpoint import DatagramEndpoint, StreamEndpoint

GRACE = 0.05
"""Seconds that a cancelled handshaker has; the dispatcher's own deadline is 0.2 s after the agent's."""

_log = structlog.get_logger("hsframework.agent")


class Handshake:
    """One request and the task of its handshaker.

    ``on_end(handshake, message)`` is called once, with the DONE to send, or None when none is wanted: from the event
    loop, as the last step of the end, and not for a handshake that is abandoned.  The endpoint of one that is
    abandoned stays open, and so does that of one that :attr:`keeps_socket`.
    """

    __slots__ = (
        "_begun",
        "_begun_at",
        "_callbacks",
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
        "given_back",
        "keeps_socket",
        "orphaned",
        "request",
        "served",
    )

    def __init__(
        self,
        request: Request,
        callbacks: Callbacks,
        endpoint: StreamEndpoint | DatagramEndpoint,
        served: Served,
        given_back: Mapping[str, Any],
        registry: PluginRegistry,
        on_end: Callable[[Handshake, bytes | None], None],
        deadlines: Deadlines[Handshake],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.request = request
        self.endpoint = endpoint
        self.served = served
        self.given_back = given_back
        """Attributes by which another dispatcher knows the request."""
        self.exhausted = ""
        """The resource of the process that ran out while the handshake was under way, as a sentence; "": none."""
        self.orphaned = False
        """True once its dispatcher is gone; it goes on."""
        self.keeps_socket = request.kernel_consumer
        """True if the endpoint stays open at the end: another dispatcher may have to complete the request."""
        self._callbacks = callbacks
        self._registry = registry
        self._on_end = on_end
        self._loop = loop
        self._reason: HsframeworkError | None = None
        self._silent = False
        self._ended = False
        self._begun = False
        self._begun_at = loop.time()
        self._deadlines = deadlines
        self._ticket = deadlines.add(self, request.deadline)
        self._grace: asyncio.TimerHandle | None = None
        self._task = loop.create_task(self._run())

    def deadline_passed(self) -> None:
        """End it for the silence of the peer."""
        self.stop(Failure.SILENCE)

    def stop(self, failure: Failure, detail: str = "", *, silent: bool = False) -> None:
        """End it from outside, soon.  ``silent``: DONE is not wanted.  The first reason stands."""
        if silent:
            self._silent, self.keeps_socket = True, False
        if self._ended or self._reason is not None:
            return
        self._reason = HandshakeFailed(failure, detail)
        self._task.cancel()
        # A task that is cancelled before its first step never runs at all, and needs no grace.
        self._grace = self._loop.call_later(GRACE if self._begun else 0, self._force)

    def abandon(self, failure: Failure, detail: str) -> None:
        """End it from outside at once, without DONE and without a call of ``on_end``."""
        if self._ended:
            return
        if self._reason is None:
            self._reason = HandshakeFailed(failure, detail)
        self._task.cancel()
        self._settle(self._reason)

    async def _run(self) -> None:
        self._begun = True
        result: Any = None
        error: HsframeworkError | None = None
        try:
            result = await self.served.handshaker.handshake(self.request, self.endpoint)
        except KeyboardInterrupt:
            raise
        except BaseException as raised:
            error = self._failure(raised)
        if not self._ended:
            if not self.keeps_socket:
                self.endpoint.close(last=self._silent)
            self._end(error, result)

    def _force(self) -> None:
        if self._ended:
            return
        if self._begun:
            _log.error(
                "a plugin's handshake goes on although it was cancelled",
                plugin=self.served.plugin,
                protocol=self.served.name,
                request=self.request.id,
            )
        if not self.keeps_socket:
            self.endpoint.close(last=self._silent)
        self._end(self._reason)

    def _end(self, error: HsframeworkError | None, result: Any = None) -> None:
        message = self._settle(error, result)
        self._on_end(self, None if self._silent else message)

    def _settle(self, error: HsframeworkError | None, result: Any = None) -> bytes | None:
        """Give up the timers, decide the outcome, and call the hooks.  Return the DONE message."""
        self._ended = True
        self._deadlines.remove(self, self._ticket)
        if self._grace is not None:
            self._grace.cancel()
        if self._reason is not None:
            error = self._reason
        message = None
        if error is None:
            try:
                message = encode_success(self.request.id, self.served, result)
                if self._callbacks.allowed != result.peer:
                    trust = self.request.trust
                    if trust is not None and trust.admit is not None:
                        check_admitted(trust.admit, result.peer)
                    self._registry.authorize(self.request, result.peer)
            except KeyboardInterrupt:
                raise
            except BaseException as raised:
                error = self._failure(raised)
        if error is not None:
            message = encode_failure(self.request.id, error, self.served.name)
        self._callbacks.request = None
        outcome = result if error is None else error
        self._registry.handshake_finished(self.request, outcome, self._loop.time() - self._begun_at)
        return message

    def _failure(self, raised: BaseException) -> HsframeworkError:
        """Return the error of a request whose handshaker raised an exception, and log a fault of the plugin."""
        if isinstance(raised, HsframeworkError) and not isinstance(raised, PluginError):
            # Without the traceback: it would hold a frame, and so the request, until the next collection.
            return raised.with_traceback(None)
        self.exhausted = exhaustion(raised)
        if self._reason is not None:
            return self._reason
        _log.error(
            "a plugin failed",
            plugin=self.served.plugin,
            protocol=self.served.name,
            request=self.request.id,
            exc_info=raised,
        )
        return HandshakeFailed(Failure.INTERNAL, f"the plugin {self.served.plugin!r} failed; the agent's log says how")
