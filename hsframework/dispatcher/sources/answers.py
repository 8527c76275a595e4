"""Answers to consumers in user space, and what is read of a message that is refused."""

from __future__ import annotations

import errno

from hsframework.dispatcher.messages import codec
from hsframework.dispatcher.requests.request import Outcome
from hsframework.errors import MessageError, RequestRefused
from hsframework.local.packets import check_size


def key_of(asked: bytes) -> tuple[int, bytes]:
    """Return the key of a long submit: its length and its end."""
    return len(asked), asked[-64:]


def not_here(*_: object) -> None:
    """Raise RequestRefused: the default of what only a dispatcher answers."""
    raise RequestRefused("the dispatcher is asked that, and no cell", errno=errno.EOPNOTSUPP)


def group_of(data: bytes) -> str:
    """Return the group of a submit that was refused, or "" if it has none."""
    try:
        return str(codec.decode(data).values.get("group", ""))
    except MessageError:
        return ""


def encoded_result(outcome: Outcome, sequence: int) -> bytes:
    """Encode a result; a success stays as the agent encoded it, which was checked.  Raises MessageError if too long."""
    values = {} if outcome.encoded else {**outcome.values, "status": outcome.status}
    if outcome.status:
        values.pop("session", None)
    result = codec.encode("result", values, sequence=sequence, encoded=outcome.encoded)
    check_size(result)
    return result
