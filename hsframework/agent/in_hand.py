"""Requests in hand: begun with the reply to ACCEPT, withdrawn by CANCEL, ended with DONE.

* A request of the kernel's is in hand until its DONE is acknowledged (:mod:`~hsframework.agent.unacknowledged`).

* Room for a request is taken before it begins, and given back when it ends, on every way.
* A request ends on the event loop's call (of its task, or of the timer of its grace), never within a call from here, so
  that a loop over the requests in hand may end them.
* When the link is lost, handshakes of the kernel's go on (:meth:`RequestsInHand.orphan`): each is the caller's with its
  outcome when it ends.  The others end at once, and are the caller's with their sockets open.
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
from hsframework.agent.endpoint import DatagramEndpoint, StreamEndpoint, make_endpoint
from hsframework.agent.handshake import Handshake
from hsframework.agent.outcomes import encode_failure
from hsframework.agent.readiness import Readiness
from hsframework.agent.requests import decode_request
from hsframework.agent.stranded import Restorable
from hsframework.agent.traced import Recorder
from hsframework.agent.trusts import Trusts
from hsframework.agent.unacknowledged import Unacknowledged
from hsframework.caches import misses_for_want_of_room
from hsframework.errors import HandshakeError, HsframeworkError, is_shortage
from hsframework.failures import Failure, HandshakeFailed
from hsframework.local.deadlines import Deadlines
from hsframework.netlink.spec import builtin_specification

if TYPE_CHECKING:
    from hsframework.agent.conversation import Conversation, Received
    from hsframework.agent.room import Room
    from hsframework.agent.served import Served
    from hsframework.netlink.messages import Message
    from hsframework.registry.plugins import PluginRegistry

DEFAULT_TIMEOUT = 4000
"""Milliseconds of a request that names none."""

_RESTORED = builtin_specification("local").operations["restore"].request or frozenset()
_GIVEN_BACK = _RESTORED - {"outcome"}
"""Attributes of the reply to ACCEPT by which another dispatcher knows the request."""

Endpoint = StreamEndpoint | DatagramEndpoint

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

    ``orphan_ended``: called by the loop with a request whose handshake has ended after its dispatcher had gone; its
    socket is open, and the callee's.
    """

    def __init__(
        self,
        shared: Shared,
        conversation: Conversation,
        loop: asyncio.AbstractEventLoop,
        orphan_ended: Callable[[Restorable], None] = lambda request: None,
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
        self._unacknowledged = Unacknowledged(conversation.numbers)
        self._fewer = asyncio.Event()
        """Set whenever a handshake has ended or its DONE was answered."""

    def __len__(self) -> int:
        return len(self._handshakes) + len(self._unacknowledged.requests)

    @property
    def has_orphans(self) -> bool:
        """True if a handshake goes on whose dispatcher is gone."""
        return bool(self._orphans)

    def begin(self, values: Mapping[str, Any], fd: int | None) -> bytes | None:
        """Begin a request, whose room is taken, with the values and the socket of the reply to ACCEPT.

        One that cannot be served ends at once: return its DONE.
        """
        number = values.get("request-id", 0)
        opened: list[Endpoint] = []
        try:
            self._handshakes[number] = self._begun(number, values, fd, opened)
        except HsframeworkError as error:
            _log.error("a request cannot be served", request=values.get("request-id"), reason=str(error))
            return self._not_begun(values, opened, encode_failure(number, error))
        except Exception as error:
            # Others may have come with it.
            _log.exception("a fault in the agent", during="the begin of a request")
            # A shortage is the machine's, and no other process would have more.
            if not is_shortage(error) and (reason := exhaustion(error)):
                self._shared.retire(reason)
            return self._not_begun(values, opened, encode_failure(number, _failure_of(error)))
        return None

    def withdrawn(self, messages: Iterable[Received]) -> Sequence[bytes]:
        """Handle CANCEL: end a request without DONE."""
        for message, _ in messages:
            handshake = self._handshakes.get(message.values.get("request-id", 0))
            if handshake is None:
                self._let_go(self._unacknowledged.withdrawn(message.values.get("request-id", 0)))
            else:
                late = message.values.get("reason") == errno.ETIMEDOUT
                handshake.stop(Failure.SILENCE if late else Failure.CANCELLED, silent=True)
        return ()

    def answered(self, message: Message) -> None:
        """Let go of the request whose DONE this is the answer to, if it is one."""
        self._let_go(self._unacknowledged.answered(message))

    def stop(self, failure: Failure, detail: str) -> None:
        """End every request, each with its DONE."""
        for handshake in [*self._handshakes.values(), *self._orphans]:
            handshake.stop(failure, detail)

    def orphan(self, failure: Failure, detail: str) -> list[Restorable]:
        """Let the kernel's handshakes go on without a dispatcher, and end the others at once, without DONE.

        Return what is to be given back to the next dispatcher: those that were ended, and the kernel's requests whose
        DONE this one has not acknowledged.
        """
        orphans = [each for each in self._handshakes.values() if each.request.kernel_consumer]
        for handshake in orphans:
            handshake.orphaned = True
            del self._handshakes[handshake.request.id]
        self._orphans.update(orphans)
        ended = self._abandoned(list(self._handshakes.values()), failure, detail)
        unread = self._unacknowledged.take_all()
        self._gone(len(unread))
        return [*(Restorable.of(each.endpoint, each.given_back) for each in ended), *unread]

    def abandon(self, failure: Failure, detail: str) -> list[Endpoint]:
        """End every request at once, without DONE.  Return their endpoints, which are the caller's."""
        ended = self._abandoned([*self._handshakes.values(), *self._orphans], failure, detail)
        unread = self._unacknowledged.take_all()
        self._gone(len(unread))
        return [*(each.endpoint for each in ended), *(each.endpoint for each in unread)]

    def _abandoned(self, handshakes: list[Handshake], failure: Failure, detail: str) -> list[Handshake]:
        self._handshakes.clear()
        self._orphans.difference_update(handshakes)
        for handshake in handshakes:
            handshake.abandon(failure, detail)
        self._gone(len(handshakes))
        return handshakes

    async def drained(self) -> None:
        """Wait until no request is in hand."""
        while self._handshakes or self._orphans or self._unacknowledged.requests:
            self._fewer.clear()
            await self._fewer.wait()

    async def ended(self) -> None:
        """Wait until no handshake goes on.  Their DONE may be without an answer still."""
        while self._handshakes or self._orphans:
            self._fewer.clear()
            await self._fewer.wait()

    def close(self) -> None:
        """Leave the event loop.  No request may be in hand."""
        self._readiness.close()
        self._deadlines.close()

    def _begun(self, number: int, values: Mapping[str, Any], fd: int | None, opened: list[Endpoint]) -> Handshake:
        """Return the handshake of a request.  ``opened``: gets its endpoint, which the caller has if this raises."""
        given_back = _given_back(values)
        shared = self._shared
        sock = _socket_of(fd)
        recorder = Recorder(self._loop.time) if "trace" in values else None
        endpoint = make_endpoint(sock, self._readiness, recorder)
        opened.append(endpoint)
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
        shared.registry.handshake_started(request)
        return Handshake(
            request, callbacks, endpoint, served, given_back, shared.registry, self._ended, self._deadlines, self._loop
        )

    def _not_begun(self, values: Mapping[str, Any], opened: list[Endpoint], done: bytes) -> bytes:
        """End a request that cannot be served.  Return the DONE to send."""
        for endpoint in opened:
            if values.get("kernel-consumer"):
                return self._unacknowledged.keep(Restorable.of(endpoint, _given_back(values), done), done)
            endpoint.close()
        self._gone(1)
        return done

    def _ended(self, handshake: Handshake, done: bytes | None) -> None:
        channel, recorder = self._conversation.channel, handshake.endpoint.recorder
        if handshake.orphaned:
            self._orphans.discard(handshake)
            # One that was withdrawn before has been completed.
            if done is not None:
                self._orphan_ended(Restorable.of(handshake.endpoint, handshake.given_back, done))
            self._gone(1)
        else:
            self._handshakes.pop(handshake.request.id, None)
            if done is not None and handshake.request.kernel_consumer:
                request = Restorable.of(handshake.endpoint, handshake.given_back, done)
                done = self._unacknowledged.keep(request, done)
                self._fewer.set()
            else:
                self._gone(1)
            if done is not None and channel is not None:
                if recorder is not None:
                    self._conversation.tell("traced", {"request-id": handshake.request.id, "report": recorder.report()})
                channel.send_soon(done)
                for name, missed in misses_for_want_of_room().items():
                    self._conversation.tell("crowded", {"name": name, "missed": missed})
        if reason := handshake.exhausted or self._shared.room.shortage():
            self._shared.retire(reason)

    def _let_go(self, request: Restorable | None) -> None:
        """Close the socket of a request that the dispatcher has completed."""
        if request is not None:
            request.endpoint.close(last=True)
            self._gone(1)

    def _gone(self, number: int) -> None:
        """Make room for so many requests that are no longer in hand."""
        self._fewer.set()
        self._shared.room.give_back(number)


def _given_back(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in _GIVEN_BACK if name in values}


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
