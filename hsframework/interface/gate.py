"""The gate of a datagram protocol: the admission of new clients at a listening port."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol as TypingProtocol


class AddressValidation(enum.Enum):
    """When a new client of a datagram protocol must prove its address, before anything is kept of it."""

    ALWAYS = "always"
    NEVER = "never"
    UNDER_LOAD = "load"


@dataclass(frozen=True, slots=True)
class Admission:
    """A new client is let in.  ``connection``: what tells this attempt of its from another, as the gate sees it.

    ``attributes``: for the request, by the protocol's attribute set ``request``.
    """

    connection: bytes
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Gate(TypingProtocol):
    """Who is let in at the listening port of a datagram protocol (:mod:`hsframework.client.listener`).

    Without I/O: time and load are arguments.  What is not a new client's first datagram is answered by silence.
    """

    def judge(self, datagram: bytes, address: str, *, now: float, busy: bool) -> Admission | bytes | None:
        """A datagram from ``address:port``, where no client is known.  bytes: an answer to send, and nothing to keep.

        ``now``: seconds on a monotonic clock.  ``busy``: many handshakes are under way.
        """
        ...

    def belongs(self, admission: Admission, datagram: bytes) -> bool:
        """Is it of this attempt, rather than of an earlier one from the same address?"""
        ...

    def attributes(self, admission: Admission, datagrams: Sequence[bytes]) -> Mapping[str, Any]:
        """For the request: what is known of the client, and all that it has sent so far, in order."""
        ...
