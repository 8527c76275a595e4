"""The conversation with the dispatcher on one connection: messages out, answers and other messages in.

* A table, operation to handler, says how messages are handled.  :meth:`Conversation.open` is given it; the rows for
  answers are here.  A handler owns the fd that comes with its message.
* A message that cannot be understood is logged and passed over: the dispatcher's own deadline covers its request.
* Sending calls no handler: a connection that breaks is reported from the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import structlog

from hsframework.agent.requests import codec
from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.local.channel import AsyncChannel
from hsframework.netlink.messages import NLM_F_ACK, Message, encode_error

ANSWER_TIMEOUT = 5.0
"""Seconds that the dispatcher has to acknowledge JOIN, RESTORE and LEAVE."""

Handler = Callable[[Message, int | None], None]

_WITH_FD = frozenset({"accept", "trust", "netlink"})
"""Operations that bring a file descriptor.  One that comes with another is closed."""

_log = structlog.get_logger("hsframework.agent")


class Lost(HsframeworkError):
    """Error of a message that cannot be sent, or whose answer cannot come: the connection is gone."""

    def __init__(self) -> None:
        super().__init__("the dispatcher is gone")


class Conversation:
    """Messages on one connection at a time, from :meth:`open` to :meth:`close`; closed at first."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._channel: AsyncChannel | None = None
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._handlers: dict[str, Handler] = {}

    @property
    def is_open(self) -> bool:
        """True if messages can be sent."""
        return self._channel is not None

    def open(
        self, sock: socket.socket, handlers: Mapping[str, Handler], on_lost: Callable[[Exception | None], None]
    ) -> None:
        """Begin on a connected socket, which is the conversation's from then on.

        ``handlers``: for the operations that are not answers.  ``on_lost``: called once when the connection has ended
        by itself, with the error if it was one; the caller calls :meth:`close` then.
        """
        self._handlers = {"psk-lookup": self.answered, "netlink": self._handed_over, **handlers}
        self._channel = AsyncChannel(sock, self._received, on_lost, loop=self._loop)

    def close(self) -> None:
        """End the connection; answers that are awaited raise :class:`Lost`."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(Lost())
                # Mark it as retrieved: the handshaker that asked may be gone already.
                future.exception()

    def send(self, operation: str, values: Mapping[str, Any]) -> int:
        """Send a message whose answers, if it has any, are not awaited.  Return its sequence number.  Raises Lost."""
        if self._channel is None:
            raise Lost
        sequence = self._next_number()
        self._channel.send(codec.encode(operation, values, sequence=sequence))
        return sequence

    def send_soon(self, message: bytes) -> None:
        """Send an encoded message, in one packet with others of this turn of the loop.  Drop it if closed."""
        if self._channel is not None:
            self._channel.send_soon(message)

    def acknowledge(self, message: Message) -> None:
        """Answer a message that asks for it (NLM_F_ACK)."""
        if message.flags & NLM_F_ACK and self._channel is not None:
            self._channel.send(encode_error(0, message.sequence))

    async def request(
        self, operation: str, values: Mapping[str, Any], fd: int | None = None, *, flags: int = 0
    ) -> Message:
        """Send a message and return its answer.  Raises RequestRefused for an error, Lost."""
        channel = self._channel
        if channel is None:
            raise Lost
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

    async def ask(self, operation: str, values: Mapping[str, Any], fd: int | None = None) -> None:
        """Send a message and wait until it is acknowledged.  Raises RequestRefused for an error, Lost, TimeoutError."""
        await asyncio.wait_for(self.request(operation, values, fd, flags=NLM_F_ACK), ANSWER_TIMEOUT)

    def answered(self, message: Message, _: int | None) -> None:
        """Handle an answer that :meth:`request` awaits.  Drop one that is not awaited."""
        future = self._answers.get(message.sequence)
        if future is not None and not future.done():
            future.set_result(message)

    def _handed_over(self, message: Message, fd: int | None) -> None:
        future = self._answers.get(message.sequence)
        if fd is None:
            return
        if future is None or future.done():
            os.close(fd)
            return
        message.values["socket"] = socket.socket(fileno=fd)
        future.set_result(message)

    def _received(self, data: bytes, fd: int | None) -> None:
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
        if fd is not None and message.operation not in _WITH_FD:
            os.close(fd)
            fd = None
        try:
            handler(message, fd)
        except Exception:
            # The packet may have more messages, and the dispatcher's deadline covers this one's request.
            _log.exception("a fault in the agent", during=message.operation)

    def _next_number(self) -> int:
        return next(self._numbers) & 0xFFFFFFFF or self._next_number()
