"""Answers of probes: whether this machine can do something, or that nobody could look.

A probe that fails is no "no": a sandbox that forbids the question has not answered it.  So a probe returns one of three
types, and what reads the answer must name all of them::

    match supported_ciphers():
        case Yes(ciphers): ...
        case No(reason): ...
        case NotSeen(reason): ...
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Yes(Generic[T_co]):
    """The answer that it is there, with what was found."""

    value: T_co


@dataclass(frozen=True, slots=True)
class No:
    """The answer that it is not there, with the reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class NotSeen:
    """The answer that it could not be looked up, with the reason."""

    reason: str


Probe = Yes[T_co] | No | NotSeen


def describe(answer: Probe[object]) -> str:
    """Return an answer for people: ``yes``; or ``no:`` or ``not seen:``, with the reason."""
    match answer:
        case Yes():
            return "yes"
        case No(reason):
            return f"no: {reason}"
        case NotSeen(reason):
            return f"not seen: {reason}"
