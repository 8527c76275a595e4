"""The gate of a datagram protocol: the admission of new clients at a listening port."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol as TypingProtocol


class AddressValidation(enum.Enum):
    """The new clients of a datagram protocol that must prove their address before any state is kept for them."""

    ALWAYS = "always"
    """Every new client."""
    NEVER = "never"
    """No client."""
    UNDER_LOAD = "load"
    """Every new client while many handshakes are under way, else none."""


@dataclass(frozen=True, slots=True)
class Admission:
    """The admission of a new client."""

    connection: bytes
    """The identifier of this attempt, as the gate sees it; another attempt of the same client has another one."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """For the request, by the protocol's attribute set ``request``."""


class Gate(TypingProtocol):
    """The admission of new clients at the listening port of a datagram protocol (:mod:`hsframework.client.listener`).

    Without I/O: time and load are arguments.
    """

    def judge(self, datagram: bytes, address: str, *, now: float, busy: bool) -> Admission | bytes | None:
        """Judge a datagram from ``address:port``, where no client is known.

        ``now``: seconds on a monotonic clock.  ``busy``: many handshakes are under way.  Returns an Admission, which
        lets the client in; bytes, an answer to send, after which nothing is kept; or None, which drops a datagram that
        is not the first of a new client.
        """
        ...

    def belongs(self, admission: Admission, datagram: bytes) -> bool:
        """Return True if ``datagram`` is of this attempt, and not of an earlier one from the same address."""
        ...

    def attributes(self, admission: Admission, datagrams: Sequence[bytes]) -> Mapping[str, Any]:
        """Return the attributes for the request of an admitted client.

        ``datagrams``: all that the client has sent so far, in order.
        """
        ...
