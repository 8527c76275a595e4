"""Pulling of requests from the dispatcher, as many as there is room for.

* After READY, one ACCEPT asks for :data:`BATCH` requests at most: a round.  When they have come, or when room is made,
  the next goes out.  EAGAIN ends the round, and the group is left alone until its next READY.
* Of one group there is one round at a time.
* What a round still may bring is reserved in the process's :class:`~hsframework.agent.room.Room`, and given back at its
  end.  A request's own room is given back by :class:`~hsframework.agent.in_hand.RequestsInHand`.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hsframework.agent.conversation import Conversation
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
        """Give back what rounds have reserved: the connection is gone."""
        self._room.give_back(sum(it.left for it in self._rounds.values()))
        self._rounds.clear()
        self._ready.clear()

    def announced(self, message: Message, _: int | None) -> None:
        """Handle READY: the group has requests."""
        group = message.values.get("group")
        if group in self._groups and not self._stopped:
            self._ready.add(group)
            self._pull()

    def accepted(self, message: Message, fd: int | None) -> None:
        """Handle a reply to ACCEPT: count it, and pass the request on."""
        current = self._rounds.get(message.sequence)
        if current is None:
            self._room.occupy()
        else:
            current.left -= 1
            if not current.left:
                del self._rounds[message.sequence]
                self._pull()
        self._requests.begin(message.values, fd)

    def answered(self, message: Message, fd: int | None) -> None:
        """Handle an error or an acknowledgement: it ends a round, or else is the answer to another message."""
        ended = self._rounds.pop(message.sequence, None)
        if ended is None:
            self._conversation.answered(message, fd)
            return
        self._room.give_back(ended.left)
        self._ready.discard(ended.group)
        if message.error != errno.EAGAIN:
            reason = message.values.get("message", "")
            _log.error("the dispatcher refuses ACCEPT", group=ended.group, reason=reason)

    def _pull(self) -> None:
        """Begin a round for each group that has requests and no round yet, as far as there is room."""
        if not self._conversation.is_open:
            return
        for group in self._ready.difference(it.group for it in self._rounds.values()):
            number = self._room.take(BATCH, self._pull)
            if not number:
                return
            sequence = self._conversation.send("accept", {"group": group, "count": number})
            self._rounds[sequence] = _Round(group, number)
