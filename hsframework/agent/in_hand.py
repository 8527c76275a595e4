"""The connection to the dispatcher, for one protocol: join, accept, done, look-ups, and what happens when it breaks.

* Requests are pulled: after READY one ACCEPT asks for as many as there is room for, :data:`BATCH` at most; when they
  have come, or when room is made, the next one goes out; EAGAIN ends the round.
* When the dispatcher dies, every handshake in hand is stopped, and its socket kept.  The link connects anew, joins,
  gives each socket back (RESTORE) and closes it when the new dispatcher has acknowledged.
* A message that cannot be understood is logged and passed over: the dispatcher's own deadline covers its request.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from hsframework.agent.containment import exhaustion
from hsframework.agent.endpoint import make_endpoint
from hsframework.agent.handshake import Authorization, Handshake
from hsframework.agent.readiness import Readiness
from hsframework.agent.requests import codec, decode_psk, decode_request, encode_failure
from hsframework.agent.served import Served
from hsframework.agent.stranded import Stranded, StrandedRequests
from hsframework.agent.trusts import Trusts
from hsframework.errors import HandshakeError, HsframeworkError, MessageError, RequestRefused
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import OpenNetlink, PresharedKey, PskLookup
from hsframework.local.channel import AsyncChannel
from hsframework.local.deadlines import Deadlines
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error

if TYPE_CHECKING:
    from hsframework.agent.host import AgentHost

BATCH = 16
"""Requests asked for at once.  More would save little, and take them away from other agents of the group."""

RESTORE_BATCH = 32
RETRY_FIRST, RETRY_MOST = 0.02, 0.25
ANSWER_TIMEOUT = 5.0

_log = structlog.get_logger("hsframework.agent")


@dataclass(slots=True)
class _Credit:
    group: str
    left: int


class Link:
    """One protocol's connection to the dispatcher."""

    def __init__(self, host: AgentHost, served: Served, path: Path, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self._host = host
        self._served = served
        self._path = path
        self._name = name
        self._loop = loop
        self._channel: AsyncChannel | None = None
        self._lost = asyncio.Event()
        self._numbers = count(1)
        self._credits: dict[int, _Credit] = {}
        self._ready: set[str] = set()
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._trusts = Trusts()
        self._stranded = StrandedRequests(loop)
        self._readiness = Readiness(loop)
        self._deadlines: Deadlines[Handshake] = Deadlines(loop, Handshake.deadline_passed)
        self._joined = False
        self._leaving = False
        self._problem = ""
        self.in_hand: dict[int, Handshake] = {}
        self._nothing_in_hand = asyncio.Event()
        self._handlers: dict[str, Callable[[Message, int | None], None]] = {
            "accept": self._accepted,
            "ready": self._announced,
            "psk-lookup": self._answered,
            "error": self._answered,
            "netlink": self._handed_over,
            "trust": lambda message, fd: self._trusts.receive(message.values, fd),
            "cancel": self._cancelled,
        }

    # Its life

    async def run(self, on_joined: Callable[[], None]) -> None:
        """Serve until cancelled.  Raises RequestRefused when the dispatcher does not let this agent join."""
        wait = RETRY_FIRST
        try:
            while not self._leaving:
                try:
                    await self._connect()
                    await self._join()
                    await self._restore()
                except (_Lost, OSError) as error:
                    self._drop_connection()
                    self._complain(error)
                    if reason := exhaustion(error):
                        self._host.retire(reason)
                    await asyncio.sleep(wait)
                    wait = min(wait * 1.5, RETRY_MOST)
                    continue
                wait = RETRY_FIRST
                self._problem = ""
                on_joined()
                await self._lost.wait()
        finally:
            self.close()

    async def leave(self) -> None:
        """Take no more requests; those in hand go on.  Returns once no more can come."""
        self._leaving = True
        self._ready.clear()
        # Before it has joined there is nothing to leave; and a connection that waits in the backlog gets no answer.
        if self._joined:
            with contextlib.suppress(_Lost, RequestRefused, TimeoutError):
                await self._ask("leave", {"group": list(self._served.protocol.groups)})

    async def drained(self) -> None:
        """Wait until nothing is in hand."""
        while self.in_hand:
            self._nothing_in_hand.clear()
            await self._nothing_in_hand.wait()

    def close(self) -> None:
        """End the connection and everything in hand."""
        self._leaving = True
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        for handshake in list(self.in_hand.values()):
            handshake.stop_now(Failure.INTERNAL, "the agent stops")
        self._stranded.close()
        self._forget_connection()
        self._readiness.close()

    async def _connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.setblocking(False)
            sock.connect(str(self._path))
        except OSError:
            sock.close()
            raise
        self._lost.clear()
        self._channel = AsyncChannel(sock, self._packet, self._closed, loop=self._loop)

    def _complain(self, error: Exception) -> None:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        if reason != self._problem:
            self._problem = reason
            _log.warning("the dispatcher cannot be reached; trying on", path=self._path, reason=reason)

    async def _join(self) -> None:
        protocol = self._served.protocol
        await self._ask(
            "join",
            {
                "group": list(protocol.groups),
                "protocol": protocol.name,
                "socket-protocol": sorted(protocol.socket_protocols),
                "agent": self._name,
            },
        )
        self._joined = True
        _log.info("joined", protocol=protocol.name, groups=protocol.groups)

    async def _restore(self) -> None:
        stranded = self._stranded.items()
        if stranded:
            _log.warning("requests are given back to the new dispatcher", requests=len(stranded))
        # Not all at once: a message that waits to be sent holds another copy of its socket.
        for begin in range(0, len(stranded), RESTORE_BATCH):
            await asyncio.gather(*map(self._give_back, stranded[begin : begin + RESTORE_BATCH]))

    async def _give_back(self, item: Stranded) -> None:
        try:
            await self._ask("restore", item.values, item.fileno())
        except (RequestRefused, TimeoutError) as error:
            _log.error("the dispatcher does not take a request back", reason=str(error))
            self._stranded.refused(item)
        else:
            self._stranded.taken(item)

    def _closed(self, error: Exception | None) -> None:
        _log.warning(
            "the dispatcher is gone", protocol=self._served.name, in_hand=len(self.in_hand), reason=str(error or "")
        )
        self._drop_connection()

    def _drop_connection(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        for handshake in list(self.in_hand.values()):
            handshake.stop_now(Failure.INTERNAL, "the dispatcher died")
        self._forget_connection()
        self._lost.set()

    def _forget_connection(self) -> None:
        self._joined = False
        self._host.room.give_back(sum(credit.left for credit in self._credits.values()))
        self._credits.clear()
        self._ready.clear()
        self._trusts.clear()
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(_Lost("the dispatcher is gone"))
                # A look-up's handshaker may be gone already, and nobody else retrieves it.
                future.exception()

    # Messages

    async def _ask(self, operation: str, values: dict[str, Any], fd: int | None = None) -> Message:
        """Send with NLM_F_ACK; the answer, or RequestRefused.  Raises _Lost, TimeoutError."""
        return await asyncio.wait_for(self._send(operation, values, fd, flags=NLM_F_ACK), ANSWER_TIMEOUT)

    async def _send(self, operation: str, values: dict[str, Any], fd: int | None = None, *, flags: int = 0) -> Message:
        channel = self._channel
        if channel is None:
            raise _Lost("the dispatcher is gone")
        sequence = self._next_number()
        future: asyncio.Future[Message] = self._loop.create_future()
        self._answers[sequence] = future
        try:
            channel.send(codec.encode(operation, values, sequence=sequence, flags=flags), fd)
            answer = await future
        finally:
            self._answers.pop(sequence, None)
        if answer.error:
            raise RequestRefused(answer.values.get("message", f"{operation} was refused"), errno=answer.error)
        return answer

    def _next_number(self) -> int:
        return next(self._numbers) & 0xFFFFFFFF or self._next_number()

    def _packet(self, data: bytes, fd: int | None) -> None:
        try:
            message = codec.decode(data)
            handler = self._handlers.get(message.operation)
            if handler is None:
                raise MessageError(f"{message.operation} is not for agents")
        except MessageError as error:
            _log.error("a message of the dispatcher is not understood", reason=str(error))
            if fd is not None:
                os.close(fd)
            return
        try:
            handler(message, fd)
        except Exception:
            # The packet may have more messages, and the dispatcher's deadline covers this one's request.
            _log.exception("a fault in the agent", during=message.operation)

    def _announced(self, message: Message, fd: int | None) -> None:
        _drop(fd)
        group = message.values.get("group")
        if group in self._served.protocol.groups and not self._leaving:
            self._ready.add(group)
            self.pull()

    def pull(self) -> None:
        """Ask for requests, as many as there is room for."""
        if self._channel is None or self._leaving or len(self._ready) <= len(self._credits):
            return
        for group in tuple(self._ready):
            if any(credit.group == group for credit in self._credits.values()):
                continue
            number = self._host.room.take(BATCH, self.pull)
            if not number:
                return
            sequence = self._next_number()
            self._credits[sequence] = _Credit(group, number)
            self._channel.send(codec.encode("accept", {"group": group, "count": number}, sequence=sequence))

    def _answered(self, message: Message, fd: int | None) -> None:
        _drop(fd)
        credit = self._credits.pop(message.sequence, None)
        if credit is not None:
            self._host.room.give_back(credit.left)
            self._ready.discard(credit.group)
            if message.error != errno.EAGAIN:
                reason = message.values.get("message", "")
                _log.error("the dispatcher refuses ACCEPT", group=credit.group, reason=reason)
            return
        future = self._answers.get(message.sequence)
        if future is not None and not future.done():
            future.set_result(message)

    def _handed_over(self, message: Message, fd: int | None) -> None:
        future = self._answers.get(message.sequence)
        if fd is None or future is None or future.done():
            _drop(fd)
            return
        message.values["socket"] = socket.socket(fileno=fd)
        future.set_result(message)

    def _cancelled(self, message: Message, fd: int | None) -> None:
        _drop(fd)
        if message.flags & NLM_F_ACK and self._channel is not None:
            self._channel.send(encode_error(0, message.sequence))
        handshake = self.in_hand.get(message.values.get("request-id", 0))
        if handshake is not None:
            late = message.values.get("reason") == errno.ETIMEDOUT
            handshake.stop(Failure.SILENCE if late else Failure.CANCELLED, silent=True)

    # Requests

    def _accepted(self, message: Message, fd: int | None) -> None:
        credit = self._credits.get(message.sequence)
        if credit is not None:
            credit.left -= 1
            if not credit.left:
                del self._credits[message.sequence]
        else:
            self._host.room.occupy()
        try:
            self._begin(message.values, fd)
        except HsframeworkError as error:
            self._host.room.give_back(1)
            _log.error("a request cannot be served", request=message.values.get("request-id"), reason=str(error))
            self._done(encode_failure(message.values.get("request-id", 0), error))
        self.pull()

    def _begin(self, values: dict[str, Any], fd: int | None) -> None:
        if fd is None:
            raise HandshakeError("a request without its socket", errno=errno.EBADF)
        try:
            sock = socket.socket(fileno=fd)
        except OSError:
            os.close(fd)
            raise HandshakeError("the file descriptor is not a socket", errno=errno.ENOTSOCK) from None
        endpoint = make_endpoint(sock, self._readiness)
        try:
            number = values.get("request-id", 0)
            served = self._pick(values.get("group", ""), sock.proto)
            deadline = self._loop.time() + values.get("timeout", 4000) / 1000
            authorization = Authorization(self._host.registry)
            request = authorization.request = decode_request(
                values,
                served,
                deadline=deadline,
                trust=self._trusts.named_by(values),
                psk_lookup=self._psk_lookup(number),
                open_netlink=self._open_netlink(number),
                authorize=authorization,
            )
        except BaseException:
            endpoint.close()
            raise
        source, registry = values.get("source"), self._host.registry
        self.in_hand[number] = Handshake(
            request, endpoint, served, source, registry, self._ended, self._deadlines, self._loop
        )

    def _pick(self, group: str, socket_protocol: int) -> Served:
        served = self._host.by_request.get((group, socket_protocol))
        if served is None:
            raise HandshakeError(
                f"no protocol here serves the group {group!r} on sockets of protocol {socket_protocol}",
                errno=errno.EPROTONOSUPPORT,
            )
        return served

    def _psk_lookup(self, request_id: int) -> PskLookup:
        async def lookup(identity: bytes) -> PresharedKey | None:
            try:
                answer = await self._send("psk-lookup", {"request-id": request_id, "identity": identity})
                psk = answer.values.get("psk")
                return None if psk is None else decode_psk({"identity": identity, **psk})
            except (HsframeworkError, KeyError) as error:
                raise HandshakeFailed(Failure.INTERNAL, f"the look-up of a pre-shared key failed: {error}") from None

        return lookup

    def _open_netlink(self, request_id: int) -> OpenNetlink:
        async def open_netlink(family: int) -> socket.socket:
            try:
                answer = await self._send("netlink", {"request-id": request_id, "family": family})
                handed: socket.socket = answer.values["socket"]
            except (HsframeworkError, KeyError) as error:
                raise HandshakeFailed(Failure.INTERNAL, f"no netlink socket beside the request's: {error}") from None
            return handed

        return open_netlink

    def _ended(self, handshake: Handshake, message: bytes | None) -> None:
        self.in_hand.pop(handshake.request.id, None)
        if self._channel is None and not self._leaving:
            self._stranded.keep(handshake)
        elif message is None:
            handshake.endpoint.close(last=True)
        else:
            handshake.endpoint.close()
            self._done(message)
        if not self.in_hand:
            self._nothing_in_hand.set()
        self._host.room.give_back(1)
        if reason := handshake.exhausted or self._host.room.shortage():
            self._host.retire(reason)

    def _done(self, message: bytes) -> None:
        if self._channel is not None:
            self._channel.send_soon(message)


class _Lost(HsframeworkError):
    """The connection broke while an answer was awaited."""


def _drop(fd: int | None) -> None:
    if fd is not None:
        os.close(fd)
