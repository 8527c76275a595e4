"""Book of the sessions in the kernel: what this dispatcher knows of their peers, by the sockets' cookies.

Rules:

* A session is noted when its agent's success was found to be one.  Sessions in user space are their programs' own.
* There are :data:`MOST` at most.  Whatever the kernel has no socket of any longer is forgotten; a session is taken for
  closed after two tables without it, because a table that changes while it is read may leave one out.
* Nothing is guessed: a session that is not in the book has a peer that is not known.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.configuration.rules import OWN_NAMESPACE, Facts
from hsframework.dispatcher.namespaces import SO_NETNS_COOKIE
from hsframework.dispatcher.requests.record import identity_of
from hsframework.dispatcher.requests.request import PendingRequest
from hsframework.interface import AuthMode, Role
from hsframework.netlink.tcp_diag import SO_COOKIE

MOST = 4096
_COOKIE_SIZE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session in a TCP socket.  ``made_at``: seconds since the epoch.  ``namespace``: as rules name it.

    ``facts``: of a request of the kernel; None: of a program.  ``certificates``: the peer's, the leaf first, as
    verified.  ``own_trust``: True if the program has brought the authorities, which are no part of the configuration.
    """

    cookie: bytes
    namespace: str
    made_at: float
    source: str
    group: str
    protocol: str
    local: str
    peer: str
    role: Role
    auth_mode: AuthMode
    profile: str | None
    rule: str
    peer_name: str | None
    alpn: tuple[str, ...]
    facts: Facts | None
    own_trust: bool
    certificates: tuple[bytes, ...] = field(repr=False)
    psk_identity: bytes | None
    peer_identity: str
    cipher: str
    uid: int | None

    def as_report(self, now: float) -> dict[str, Any]:
        """Return the session for people and programs, as a JSON object.  ``now``: seconds since the epoch."""
        return {
            "known": True,
            "namespace": self.namespace,
            "local": self.local,
            "peer": self.peer,
            "peer-identity": self.peer_identity or None,
            "role": self.role.name.lower(),
            "auth": self.auth_mode.name.lower(),
            "profile": self.profile,
            "rule": self.rule or None,
            "source": self.source,
            "uid": self.uid,
            "group": self.group,
            "protocol": self.protocol,
            "cipher": self.cipher or None,
            "age": max(0.0, round(now - self.made_at, 1)),
        }


class Book:
    """The sessions of one dispatcher.  ``changes`` counts what was noted and forgotten."""

    def __init__(self, known: Iterable[Session] = ()) -> None:
        self._sessions = {session.cookie: session for session in known}
        self._missed: dict[bytes, int] = {}
        self.changes = 0
        self.crowded = 0
        """Sessions that were forgotten for want of room."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as own:
            self._here = own.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE_SIZE)

    def __len__(self) -> int:
        return len(self._sessions)

    def sessions(self) -> list[Session]:
        """Return all sessions, the oldest first."""
        return list(self._sessions.values())

    def get(self, cookie: bytes) -> Session | None:
        """Return the session in the socket with this cookie, or None."""
        return self._sessions.get(cookie)

    def note(self, request: PendingRequest, values: Mapping[str, Any]) -> None:
        """Note the session of a request that has succeeded, if it is in the kernel and can be found there again.

        ``values``: of the attribute set ``outcome``.  Nothing is noted of a socket that has been closed since.
        """
        custody, asked = request.custody, request.submission.asked
        if asked is None or not values.get("in-kernel") or custody.protocol != socket.IPPROTO_TCP:
            return
        try:
            cookie = custody.option(socket.SOL_SOCKET, SO_COOKIE, _COOKIE_SIZE)
            if not asked.namespace and custody.option(socket.SOL_SOCKET, SO_NETNS_COOKIE, _COOKIE_SIZE) != self._here:
                return  # a program of a namespace in which nothing is ours to ask
        except OSError:
            return
        self._sessions[cookie] = _session(request, values, cookie)
        self.changes += 1
        if len(self._sessions) > MOST:
            self._forget(next(iter(self._sessions)))
            self.crowded += 1

    def compare(self, namespace: str, open_sockets: Collection[bytes], asked_at: float) -> None:
        """Forget the sessions of a namespace that are closed, by the cookies of the sockets that were open.

        ``asked_at``: seconds since the epoch, before the kernel was asked.
        """
        for session in self.sessions():
            if session.namespace != namespace or session.made_at >= asked_at:
                continue
            if session.cookie in open_sockets:
                self._missed.pop(session.cookie, None)
            elif self._missed.get(session.cookie):
                self._forget(session.cookie)
            else:
                self._missed[session.cookie] = 1

    def forget(self, cookie: bytes) -> None:
        """Forget a session that is over."""
        if cookie in self._sessions:
            self._forget(cookie)

    def _forget(self, cookie: bytes) -> None:
        del self._sessions[cookie]
        self._missed.pop(cookie, None)
        self.changes += 1


def _session(request: PendingRequest, values: Mapping[str, Any], cookie: bytes) -> Session:
    submission, asked = request.submission, request.submission.asked
    assert asked is not None
    tags = {tag.get("name"): tag.get("value", "") for tag in values.get("tag", ())}
    return Session(
        cookie=cookie,
        namespace=asked.namespace or OWN_NAMESPACE,
        made_at=time.time(),
        source=submission.source.name,
        group=submission.group,
        protocol=_shown(values.get("protocol") or (request.agent.protocol if request.agent is not None else "")),
        local=request.custody.local_address,
        peer=request.custody.peer_address,
        role=asked.role,
        auth_mode=asked.auth_mode,
        profile=asked.profile,
        rule=submission.rule,
        peer_name=None if asked.any_peer_name else asked.peer_name,
        alpn=asked.alpn,
        facts=asked.facts,
        own_trust=asked.own_trust,
        certificates=tuple(values.get("remote-certificate", ())),
        psk_identity=values.get("remote-psk-identity"),
        peer_identity=identity_of(values),
        cipher=_shown(tags.get("cipher", "")),
        uid=None if asked.consumer is None else asked.consumer.uid,
    )


def _shown(text: str) -> str:
    """Return an agent's text as it may be shown on a terminal: printable, and at most 64 characters."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:64])
