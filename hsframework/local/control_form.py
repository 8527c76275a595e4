"""Form of control messages (:mod:`hsframework.local.control`): how one is encoded, decoded and checked.

A packet is one message: a JSON object in UTF-8 whose ``event`` names it, with the message's fields and no others.
"""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeGuard, TypeVar, get_type_hints

from hsframework.errors import MessageError

MAX_MESSAGE = 60 * 1024
"""Bytes of a packet: far below Linux's default SO_SNDBUF."""

LONGEST_TEXT = 4096
"""Characters of a field that is a text."""

LONGEST_NAME = 256
MOST_NAMES = 64
"""Names in a field that is a list of them, and characters of each: what one message costs its receiver is bounded."""

MOST_NUMBERS = 1024

_NUMBERS = range(-(1 << 31), 1 << 32)
_EVENT = "event"


@dataclass(frozen=True, slots=True)
class Message:
    """Base of all messages.  Raises MessageError for values that cannot be sent."""

    event: ClassVar[str]

    def __post_init__(self) -> None:
        for name, is_right in _checks(type(self)).items():
            value = getattr(self, name)
            if not is_right(value):
                raise MessageError(f"{self.event}: {name} is {_shown(value)}")
        self.encode()

    def encode(self) -> bytes:
        """Return the packet."""
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        data = json.dumps({_EVENT: self.event, **values}, ensure_ascii=False).encode()
        if len(data) > MAX_MESSAGE:
            raise MessageError(f"{self.event}: {len(data)} bytes; at most {MAX_MESSAGE} go into a message")
        return data


M = TypeVar("M", bound=Message)


class Direction(Generic[M]):
    """Set of the messages that one kind of process may send to another."""

    def __init__(self, sender: str, receiver: str, *messages: type[M]) -> None:
        self.sender = sender
        self.receiver = receiver
        self.messages: Mapping[str, type[M]] = {message.event: message for message in messages}

    def encode(self, message: M) -> bytes:
        """Return the packet.  Raises MessageError for a message that does not go this way."""
        if self.messages.get(message.event) is not type(message):
            raise MessageError(f"{message.event}: not sent by the {self.sender} to the {self.receiver}")
        return message.encode()

    def decode(self, data: bytes) -> M:
        """Return the message of a packet.  Raises MessageError if it is not exactly one of this direction."""
        values = _object(data)
        event = values.pop(_EVENT, None)
        kind = self.messages.get(event) if isinstance(event, str) else None
        if kind is None:
            raise MessageError(f"{_shown(event)}: not sent by the {self.sender} to the {self.receiver}")
        wanted = {field.name for field in dataclasses.fields(kind)}
        if values.keys() != wanted:
            raise MessageError(f"{event}: {_shown(sorted(values))} where {sorted(wanted)} are the fields")
        return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


def fitting(reason: object) -> str:
    """Return any text as a message can have it."""
    return str(reason).encode("utf-8", "backslashreplace").decode()[:LONGEST_TEXT]


def _object(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_MESSAGE:
        raise MessageError(f"{len(data)} bytes; at most {MAX_MESSAGE} go into a message")
    try:
        found = json.loads(data.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"not a JSON object: {error!s:.80}") from None
    if not isinstance(found, dict):
        raise MessageError("not a JSON object")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise MessageError("a field is there twice")
    return found


def _is_text(value: object) -> bool:
    """Return True for a text that UTF-8 can have: half of a surrogate pair cannot be logged."""
    return isinstance(value, str) and len(value) <= LONGEST_TEXT and value == value.encode("utf-8", "ignore").decode()


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and _is_text(value)


def _is_list(value: object, most: int) -> TypeGuard[tuple[object, ...]]:
    return isinstance(value, tuple) and len(value) <= most


def _is_number(value: object) -> bool:
    return type(value) is int and value in _NUMBERS


_KINDS: Mapping[object, Callable[[object], bool]] = {
    str: _is_text,
    int: _is_number,
    int | None: lambda value: value is None or _is_number(value),
    tuple[str, ...]: lambda value: _is_list(value, MOST_NAMES) and all(map(_is_name, value)),
    tuple[int, ...]: lambda value: _is_list(value, MOST_NUMBERS) and all(map(_is_number, value)),
}


def _checks(kind: type[Message]) -> dict[str, Callable[[object], bool]]:
    hints = get_type_hints(kind)
    return {field.name: _KINDS[hints[field.name]] for field in dataclasses.fields(kind)}


def _shown(value: object) -> str:
    """Return a short form of any value, which is made without looking at all of it."""
    return reprlib.repr(value)[:80]
