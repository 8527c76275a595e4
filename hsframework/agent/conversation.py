"""The conversation with the dispatcher on one link: messages out, answers and other messages in.

* A table, operation to handler, says how messages are handled.  :meth:`Conversation.open` is given it; the rows for
  answers are here.  The messages of one packet that follow one another and have the same handler are its in one call.
  It owns the fds that come with them, and returns the messages to send in return: no handler calls back.
* A message that asks for an acknowledgement (NLM_F_ACK) gets it when its packet has been handled.
* A message that cannot be understood is logged and passed over: the dispatcher's own deadline covers its request.
* What the dispatcher sends is always read.  What is sent to it is bounded: by a DONE for each request in hand, by one
  acknowledgement for each message that asks for it, and by :data:`MOST_ASKED` questions without an answer.
* Sending calls no handler: a link that breaks is reported from the event loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import structlog

from hsframework.errors import HsframeworkError, MessageError, RequestRefused
from hsframework.local.channel import LOCAL_MESSAGE_TYPE, PacketChannel
from hsframework.local.packets import Item
from hsframework.netlink.messages import NLM_F_ACK, Message, MessageCodec, encode_error, sequence_numbers
from hsframework.netlink.spec import builtin_specification

ANSWER_TIMEOUT = 5.0
"""Seconds that the dispatcher has to acknowledge JOIN, RESTORE and LEAVE."""

MOST_ASKED = 64
"""Questions of one link that may be without their answer: further ones wait here, not in the dispatcher's queue."""

Received = tuple[Message, int | None]
"""A message, and its fd or None."""

Handler = Callable[[Sequence[Received]], Iterable[bytes]]

_WITH_FD = frozenset({"accept", "trust", "netlink"})
"""Operations that bring a file descriptor.  One that comes with another is closed."""

codec = MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("reply", "event"))
"""Of the agents' side, which sends requests and receives replies and events."""

_log = structlog.get_logger("hsframework.agent")


class Lost(HsframeworkError):
    """Error of a message that cannot be sent, or whose answer cannot come: the link is gone."""

    def __init__(self) -> None:
        super().__init__("the dispatcher is gone")


class Conversation:
    """Messages on one link at a time, from :meth:`open` to :meth:`close`; closed at first.

    ``channel``: for messages whose answers are not awaited; None while closed.  ``numbers``: their sequence numbers.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.channel: PacketChannel | None = None
        self.numbers = sequence_numbers()
        self._answers: dict[int, asyncio.Future[Message]] = {}
        self._handlers: dict[str, Handler] = {}
        self._asking = asyncio.Semaphore(MOST_ASKED)

    def open(
        self, sock: socket.socket, handlers: Mapping[str, Handler], on_lost: Callable[[Exception | None], None]
    ) -> None:
        """Begin on a connected socket, which is the conversation's from then on.

        ``handlers``: for the operations that are not answers, and for errors that answer nothing awaited.
        ``on_lost``: called once when the link has ended by itself, with the error if it was one; the caller calls
        :meth:`close` then.
        """
        self._handlers = {"psk-lookup": self._answered, "netlink": self._answered, **handlers}
        self.channel = PacketChannel(sock, self._received, on_lost, loop=self._loop)

    def close(self) -> None:
        """End the link; answers that are awaited raise :class:`Lost`."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
        answers, self._answers = self._answers, {}
        for future in answers.values():
            if not future.done():
                future.set_exception(Lost())
                # Mark it as retrieved: the handshaker that asked may be gone already.
                future.exception()

    async def request(
        self, operation: str, values: Mapping[str, Any], fd: int | None = None, *, flags: int = 0
    ) -> Message:
        """Send a message, once few enough are unanswered, and return its answer.

        Raises RequestRefused for an error, Lost.
        """
        channel = self.channel
        if channel is None:
            raise Lost
        async with self._asking:
            if channel is not self.channel:
                raise Lost
            sequence = next(self.numbers)
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

    def tell(self, operation: str, values: Mapping[str, Any]) -> None:
        """Send a message that has no answer, soon, unless the link has gone."""
        if self.channel is not None:
            self.channel.send_soon(codec.encode(operation, values))

    async def ask(self, operation: str, values: Mapping[str, Any], fd: int | None = None) -> None:
        """Send a message and wait until it is acknowledged.  Raises RequestRefused for an error, Lost, TimeoutError."""
        await asyncio.wait_for(self.request(operation, values, fd, flags=NLM_F_ACK), ANSWER_TIMEOUT)

    def _received(self, packet: Sequence[Item]) -> None:
        channel = self.channel
        assert channel is not None
        batches: list[tuple[Handler, list[Received]]] = []
        acknowledged: list[int] = []
        for data, fd in packet:
            try:
                message = codec.decode(data)
                handler = self._handlers.get(message.operation)
                if handler is None:
                    raise MessageError(f"{message.operation} is not for agents")
            except MessageError as error:
                _log.error("a message of the dispatcher is not understood", reason=str(error))
                if fd is not None:
                    os.close(fd)
                continue
            if fd is not None and message.operation not in _WITH_FD:
                os.close(fd)
                fd = None
            if message.flags & NLM_F_ACK:
                acknowledged.append(message.sequence)
            if message.error is not None and message.sequence in self._answers:
                handler = self._answered
            if not batches or batches[-1][0] != handler:
                batches.append((handler, []))
            batches[-1][1].append((message, fd))
        for handler, messages in batches:
            try:
                for reply in handler(messages):
                    channel.send(reply)
            except Exception:
                # The packet may have more messages, and the dispatcher's deadline covers these ones' requests.
                _log.exception("a fault in the agent", during=messages[0][0].operation)
        for sequence in acknowledged:
            channel.send(encode_error(0, sequence))

    def _answered(self, messages: Sequence[Received]) -> Sequence[bytes]:
        """Handle answers that :meth:`request` awaits.  Drop one that is not awaited."""
        for message, fd in messages:
            future = self._answers.get(message.sequence)
            if future is None or future.done():
                if fd is not None:
                    os.close(fd)
                continue
            if fd is not None:
                message.values["socket"] = socket.socket(fileno=fd)
            future.set_result(message)
        return ()
