"""DONE of the kernel's requests, from when it is sent until the dispatcher acknowledges it.

* A DONE that a dispatcher has not read when it dies is lost with it.  Nothing else completes the request, and its
  consumer would wait for its own timer.  So outcome and socket are kept until the acknowledgement; those that are kept
  when the link is lost are given back to the next dispatcher.
* A DONE that was read may be given back too, if its acknowledgement was not sent.  The kernel takes the first DONE of a
  request, and a further one changes nothing.
* A consumer in user space has lost its own link with the dispatcher, so nothing of its requests is kept.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from hsframework.agent.stranded import Restorable
from hsframework.netlink.messages import Message, with_acknowledgement

_log = structlog.get_logger("hsframework.agent")


class Unacknowledged:
    """The requests of one link whose DONE has no answer yet.  ``numbers``: the sequence numbers of its messages."""

    def __init__(self, numbers: Iterator[int]) -> None:
        self._numbers = numbers
        self.requests: dict[int, Restorable] = {}
        """By the sequence number of their DONE."""

    def keep(self, request: Restorable, done: bytes) -> bytes:
        """Keep a request.  Return its DONE as it is to be sent: with a number of its own, and to be acknowledged."""
        number = next(self._numbers)
        self.requests[number] = request
        return with_acknowledgement(done, number)

    def answered(self, message: Message) -> Restorable | None:
        """Return the request whose DONE this answers, which is the caller's from then on; None: it answers none.

        A request whose DONE is refused is completed by the dispatcher at its deadline.
        """
        request = self.requests.pop(message.sequence, None)
        if request is not None and message.error:
            reason = message.values.get("message", "")
            _log.error("the dispatcher refuses an outcome", request=request.values["request-id"], reason=reason)
        return request

    def withdrawn(self, request_id: int) -> Restorable | None:
        """Return the request of this id, which was completed without its DONE; None: there is none."""
        for number, request in self.requests.items():
            if request.values.get("request-id") == request_id:
                return self.requests.pop(number)
        return None

    def take_all(self) -> list[Restorable]:
        """Return all requests, which are the caller's from then on."""
        requests, self.requests = self.requests, {}
        return list(requests.values())
