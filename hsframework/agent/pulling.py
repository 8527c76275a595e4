"""Pulling of requests from the dispatcher, as many as there is room for.

* After READY, one ACCEPT asks for :data:`BATCH` requests at most: a round.  When they have come, or when room is made,
  the next goes out.  EAGAIN ends the round, and the group is left alone until its next READY.
* Of one group there is one round at a time.
* What a round still may bring is reserved in the process's :class:`~hsframework.agent.room.Room`, and given back at its
  end, once for a packet.  A request's own room is given back by :class:`~hsframework.agent.in_hand.RequestsInHand`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from hsframework.agent.conversation import codec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hsframework.agent.conversation import Conversation, Received
    from hsframework.agent.in_hand import RequestsInHand
    from hsframework.agent.room import Room
    from hsframework.netlink.messages import Message

BATCH = 16
"""Requests asked for at once.  More would save little, and take them away from other agents of the group."""

_log = structlog.get_logger("hsframework.agent")


@dataclass(slots=True)
class _Round:
    group: str
    left: int


class Pulling:
    """READY, ACCEPT and its replies, for the groups of one protocol."""

    def __init__(self, groups: Iterable[str], conversation: Conversation, requests: RequestsInHand, room: Room) -> None:
        self._groups = frozenset(groups)
        self._conversation = conversation
        self._requests = requests
        self._room = room
        self._ready: set[str] = set()
        self._rounds: dict[int, _Round] = {}
        self._stopped = False

    def stop(self) -> None:
        """Ask for no more.  What has been asked for may still come."""
        self._stopped = True
        self._ready.clear()

    def forget(self) -> None:
        """Give back what rounds have reserved: the link is gone."""
        self._room.give_back(sum(it.left for it in self._rounds.values()))
        self._rounds.clear()
        self._ready.clear()

    def announced(self, messages: Iterable[Received]) -> list[bytes]:
        """Handle READY: the groups have requests.  Return an ACCEPT for each round that begins."""
        for message, _ in messages:
            group = message.values.get("group")
            if group in self._groups and not self._stopped:
                self._ready.add(group)
        return self._accepts()

    def replied(self, messages: Iterable[Received]) -> list[bytes]:
        """Handle replies to ACCEPT, requests and errors: count them first, then begin each request.

        Return the DONE of those that cannot be served, and an ACCEPT for each round that begins.
        """
        requests: list[Received] = []
        unused = 0
        for received in messages:
            message = received[0]
            if message.error is not None:
                unused += self._ended(message)
            else:
                self._count(message)
                requests.append(received)
        if unused:
            self._room.give_back(unused)
        replies = self._accepts() if self._ready else []
        for message, fd in requests:
            done = self._requests.begin(message.values, fd)
            if done is not None:
                replies.append(done)
        return replies

    def _count(self, message: Message) -> None:
        current = self._rounds.get(message.sequence)
        if current is None:
            self._room.occupy()
            return
        current.left -= 1
        if not current.left:
            del self._rounds[message.sequence]

    def _ended(self, message: Message) -> int:
        """End the round that an error answers, if it is one.  Return the number of requests that do not come."""
        ended = self._rounds.pop(message.sequence, None)
        if ended is None:
            self._requests.answered(message)
            return 0
        self._ready.discard(ended.group)
        if message.error != errno.EAGAIN:
            reason = message.values.get("message", "")
            _log.error("the dispatcher refuses ACCEPT", group=ended.group, reason=reason)
        return ended.left

    def _accepts(self) -> list[bytes]:
        """Begin a round for each group that has requests and no round yet, as far as there is room."""
        accepts: list[bytes] = []
        for group in self._ready.difference(it.group for it in self._rounds.values()):
            number = self._room.take(BATCH, self._room_made)
            if not number:
                break
            sequence = next(self._conversation.numbers)
            self._rounds[sequence] = _Round(group, number)
            accepts.append(codec.encode("accept", {"group": group, "count": number}, sequence=sequence))
        return accepts

    def _room_made(self) -> None:
        channel = self._conversation.channel
        if channel is not None:
            for accept in self._accepts():
                channel.send(accept)
