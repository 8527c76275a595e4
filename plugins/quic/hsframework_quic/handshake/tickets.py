"""The sessions kept for resumption: in this process's memory, bounded, each under the policy that it was made under.

A session comes back only to a request of the same policy (:mod:`hsframework_quic.resumption`).  The peer's certificates
are judged again when it does, by the same trust (:mod:`hsframework_quic.aioquic_adapter.tls`): one that has expired
since makes a full handshake.  A ticket is used once (RFC 8446 appendix C.4).  Sans-IO.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from functools import partial

from hsframework.interface import Request, Role
from hsframework_quic.aioquic_adapter.tls_options import Resumable
from hsframework_quic.resumption import Policy, policy

TICKET_SIZE = 32
PER_PEER = 4
"""Tickets that a client keeps of one policy, the newest."""


class Tickets:
    """The kept sessions of both roles.  ``most``: for each role; 0: no ticket is issued, kept or used."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._received: OrderedDict[Policy, list[Resumable]] = OrderedDict()
        self._issued: OrderedDict[bytes, tuple[Policy, Resumable]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._received.values())) + len(self._issued)

    def options_for(self, request: Request) -> dict[str, object]:
        """Return the arguments of TlsOptions that concern tickets, for a handshake of this request."""
        if not self._most:
            return {}
        key = policy(request)
        if request.role is Role.CLIENT:
            return {"keep": partial(self.keep, key), "resume": self.take(key)}
        return {"issue": partial(self.issue, key), "find": partial(self.find, key)}

    def keep(self, key: Policy, session: Resumable) -> None:
        """Keep a client's session that its server has offered to resume."""
        kept = self._received.setdefault(key, [])
        kept.append(session)
        del kept[:-PER_PEER]
        self._received.move_to_end(key)
        while sum(map(len, self._received.values())) > self._most:
            self._drop_oldest()

    def take(self, key: Policy) -> Resumable | None:
        """Return a client's newest session that it may resume, or None.  It is not given out again."""
        kept = self._received.get(key)
        if not kept:
            return None
        session = kept.pop()
        if not kept:
            del self._received[key]
        return session

    def issue(self, key: Policy, session: Resumable) -> bytes | None:
        """Keep a server's session, and return its ticket: a random name."""
        ticket = secrets.token_bytes(TICKET_SIZE)
        self._issued[ticket] = (key, session)
        while len(self._issued) > self._most:
            self._issued.popitem(last=False)
        return ticket

    def find(self, key: Policy, ticket: bytes) -> Resumable | None:
        """Return a server's session by its ticket, if this request may use it, or None.  It is not given out again."""
        found = self._issued.get(ticket)
        if found is None or found[0] != key:
            return None
        del self._issued[ticket]
        return found[1]

    def _drop_oldest(self) -> None:
        key, kept = next(iter(self._received.items()))
        del kept[0]
        if not kept:
            del self._received[key]
