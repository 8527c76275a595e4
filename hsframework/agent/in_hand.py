"""Requests in hand: begun with the reply to ACCEPT, withdrawn by CANCEL, ended with DONE.

* Room for a request is taken before it begins, and given back when it ends, on every way.
* A request ends on the event loop's call (of its task, or of the timer of its grace), never within a call from here, so
  that a loop over the requests in hand may end them.
* When the link is lost, handshakes of the kernel's go on (:meth:`RequestsInHand.orphan`): each is the caller's with its
  outcome when it ends.  The others end at once; :meth:`RequestsInHand.abandon` returns handshakes with their sockets
  open, to be kept or closed.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

from hsframework.agent.callbacks import Callbacks
from hsframework.agent.containment import exhaustion
from hsframework.agent.endpoint import make_endpoint
from hsframework.agent.handshake import Handshake
from hsframework.agent.outcomes import encode_failure
from hsframework.agent.readiness import Readiness
from hsframework.agent.requests import decode_request
from hsframework.agent.trusts import Trusts
from hsframework.errors import HandshakeError, HsframeworkError, is_shortage
from hsframework.failures import Failure, HandshakeFailed
from hsframework.local.deadlines import Deadlines
from hsframework.netlink.spec import builtin_specification

if TYPE_CHECKING:
    from hsframework.agent.conversation import Conversation, Received
    from hsframework.agent.room import Room
    from hsframework.agent.served import Served
    from hsframework.registry.plugins import PluginRegistry

DEFAULT_TIMEOUT = 4000
"""Milliseconds of a request that names none."""

_RESTORED = builtin_specification("local").operations["restore"].request or frozenset()
_GIVEN_BACK = _RESTORED - {"outcome"}
"""Attributes of the reply to ACCEPT by which another dispatcher knows the request."""

_log = structlog.get_logger("hsframework.agent")


@dataclass(frozen=True, slots=True, eq=False)
class Shared:
    """Objects that all links of a process share.

    ``served``: the protocols by group and SO_PROTOCOL.  ``retire``: called with the reason when the process is to be
    replaced; it returns at once.  ``renew``: called when what it remembers is of terms that are no longer in force.
    """

    served: Mapping[tuple[str, int], Served]
    registry: PluginRegistry
    room: Room
    retire: Callable[[str], None]
    renew: Callable[[], None] = lambda: None


class RequestsInHand:
    """The requests of one link.

    ``orphan_ended(handshake, done)``: called by the loop when a handshake has ended whose dispatcher is gone, with the
    DONE that it would have had; its socket is open, and the caller's.
    """

    def __init__(
        self,
        shared: Shared,
        conversation: Conversation,
        loop: asyncio.AbstractEventLoop,
        orphan_ended: Callable[[Handshake, bytes | None], None] = lambda handshake, done: None,
    ) -> None:
        self._orphan_ended = orphan_ended
        self._orphans: set[Handshake] = set()
        self.trusts = Trusts()
        self._shared = shared
        self._conversation = conversation
        self._loop = loop
        self._readiness = Readiness(loop)
        self._deadlines: Deadlines[Handshake] = Deadlines(loop, Handshake.deadline_passed)
        self._handshakes: dict[int, Handshake] = {}
        self._none_left = asyncio.Event()

    def __len__(self) -> int:
        return len(self._handshakes)

    @property
    def has_orphans(self) -> bool:
        """True if a handshake goes on whose dispatcher is gone."""
        return bool(self._orphans)

    def begin(self, values: Mapping[str, Any], fd: int | None) -> bytes | None:
        """Begin a request, whose room is taken, with the values and the socket of the reply to ACCEPT.

        One that cannot be served ends at once: return its DONE.
        """
        number = values.get("request-id", 0)
        try:
            self._handshakes[number] = self._begun(number, values, fd)
        except HsframeworkError as error:
            _log.error("a request cannot be served", request=values.get("request-id"), reason=str(error))
            self._shared.room.give_back(1)
            return encode_failure(number, error)
        except Exception as error:
            # Others may have come with it.
            _log.exception("a fault in the agent", during="the begin of a request")
            self._shared.room.give_back(1)
            # A shortage is the machine's, and no other process would have more.
            if not is_shortage(error) and (reason := exhaustion(error)):
                self._shared.retire(reason)
            return encode_failure(number, _failure_of(error))
        return None

    def withdrawn(self, messages: Iterable[Received]) -> Sequence[bytes]:
        """Handle CANCEL: end a request without DONE."""
        for message, _ in messages:
            handshake = self._handshakes.get(message.values.get("request-id", 0))
            if handshake is not None:
                late = message.values.get("reason") == errno.ETIMEDOUT
                handshake.stop(Failure.SILENCE if late else Failure.CANCELLED, silent=True)
        return ()

    def stop(self, failure: Failure, detail: str) -> None:
        """End every request, each with its DONE."""
        for handshake in [*self._handshakes.values(), *self._orphans]:
            handshake.stop(failure, detail)

    def orphan(self, failure: Failure, detail: str) -> list[Handshake]:
        """Let the kernel's requests go on without a dispatcher, and end the others, as :meth:`abandon` does."""
        orphans = [each for each in self._handshakes.values() if each.request.kernel_consumer]
        for handshake in orphans:
            handshake.orphaned = True
            del self._handshakes[handshake.request.id]
        self._orphans.update(orphans)
        return self._abandoned(list(self._handshakes.values()), failure, detail)

    def abandon(self, failure: Failure, detail: str) -> list[Handshake]:
        """End every request at once, without DONE.  Return the handshakes; their endpoints are the caller's."""
        return self._abandoned([*self._handshakes.values(), *self._orphans], failure, detail)

    def _abandoned(self, handshakes: list[Handshake], failure: Failure, detail: str) -> list[Handshake]:
        self._handshakes.clear()
        self._orphans.difference_update(handshakes)
        self._none_left.set()
        for handshake in handshakes:
            handshake.abandon(failure, detail)
        self._shared.room.give_back(len(handshakes))
        return handshakes

    async def drained(self) -> None:
        """Wait until no request is in hand."""
        while self._handshakes or self._orphans:
            self._none_left.clear()
            await self._none_left.wait()

    def close(self) -> None:
        """Leave the event loop.  No request may be in hand."""
        self._readiness.close()
        self._deadlines.close()

    def _begun(self, number: int, values: Mapping[str, Any], fd: int | None) -> Handshake:
        given_back = {name: values[name] for name in _GIVEN_BACK if name in values}
        shared = self._shared
        sock = _socket_of(fd)
        endpoint = make_endpoint(sock, self._readiness)
        try:
            group = values.get("group", "")
            served = shared.served.get((group, sock.proto))
            if served is None:
                raise HandshakeError(
                    f"no protocol here serves the group {group!r} on sockets of protocol {sock.proto}",
                    errno=errno.EPROTONOSUPPORT,
                )
            callbacks = Callbacks(number, self._conversation, shared.registry)
            request = callbacks.request = decode_request(
                values,
                served,
                deadline=self._loop.time() + values.get("timeout", DEFAULT_TIMEOUT) / 1000,
                trust=self.trusts.named_by(values),
                psk_lookup=callbacks.psk_lookup,
                open_netlink=callbacks.open_netlink,
                authorize=callbacks.authorize,
            )
        except BaseException:
            endpoint.close()
            raise
        shared.registry.handshake_started(request)
        return Handshake(
            request, callbacks, endpoint, served, given_back, shared.registry, self._ended, self._deadlines, self._loop
        )

    def _ended(self, handshake: Handshake, done: bytes | None) -> None:
        if handshake.orphaned:
            self._orphans.discard(handshake)
            self._orphan_ended(handshake, done)
        else:
            self._handshakes.pop(handshake.request.id, None)
            channel = self._conversation.channel
            if done is not None and channel is not None:
                channel.send_soon(done)
        if not self._handshakes and not self._orphans:
            self._none_left.set()
        room = self._shared.room
        room.give_back(1)
        if reason := handshake.exhausted or room.shortage():
            self._shared.retire(reason)


def _failure_of(error: Exception) -> HandshakeFailed:
    """Return the failure of a request that a fault in the agent ends."""
    short = isinstance(error, MemoryError) or is_shortage(error)
    return HandshakeFailed(Failure.SHORTAGE if short else Failure.INTERNAL, repr(error))


def _socket_of(fd: int | None) -> socket.socket:
    if fd is None:
        raise HandshakeError("a request without its socket", errno=errno.EBADF)
    try:
        return socket.socket(fileno=fd)
    except OSError:
        os.close(fd)
        raise HandshakeError("the file descriptor is not a socket", errno=errno.ENOTSOCK) from None
