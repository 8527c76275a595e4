"""Dialects of the raw-netlink form: the contents of ACCEPT_RESP and of DONE_ARGS.

* :data:`OWN` is the project's (spec ``handshake-raw``), :data:`PUBLISHED` that of the series of February 2023 (spec
  ``handshake-raw-published``); ``docs/design/raw-netlink.md`` compares them.
* The attributes of an ACCEPT_RESP show its dialect: :func:`dialect_of`.  The DONE of a request is sent in the dialect
  of its ACCEPT, whatever the module is set to by then.
* In every dialect the attributes from :data:`MECHANISM` on are a mechanism's own.

No input or output here.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from hsframework.dispatcher.sources.kernel.wire import Ending
from hsframework.interface import AuthMode, Role
from hsframework.netlink.attributes import attribute_codec, lenient_codec, walk
from hsframework.netlink.spec import builtin_specification

MECHANISM = 64
"""The lowest number of an attribute of a mechanism's own, in both nests."""


class Dialect(ABC):
    """A codec for the two nests.  In Python their values are those of the project's own dialect.

    ``name``: that of its spec; empty: it has none.  ``closing_may_succeed``: True if closing the last copy of a socket
    without DONE may be a success.
    """

    name = ""
    closing_may_succeed = True

    @abstractmethod
    def accepted(self, nest: bytes) -> Mapping[str, Any]:
        """Decode ACCEPT_RESP to the attribute set ``accept`` of ``handshake-raw``.  Raises MessageError."""

    @abstractmethod
    def done(self, ending: Ending) -> bytes:
        """Encode DONE_ARGS, without the attributes of the mechanism's own.  Raises MessageError."""


class _Specified(Dialect):
    """A dialect with a spec.  ``marks``: the numbers of the attributes by which its ACCEPT_RESP is known."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.specification = builtin_specification(name)
        self._accept = lenient_codec(self.specification, "accept")
        self._done = attribute_codec(self.specification, "done")
        attributes = self.specification.sets["accept"].attributes
        self.marks = frozenset(attributes[mark].value for mark in ("message-type", "auth-mode"))


class _Own(_Specified):
    closing_may_succeed = False

    def accepted(self, nest: bytes) -> Mapping[str, Any]:
        return self._accept.decode(nest)

    def done(self, ending: Ending) -> bytes:
        return self._done.encode({"status": ending.status, "remote-auth": ending.peers})


class _Published(_Specified):
    """A request has one certificate, one pre-shared key and one peer at most; the serial 0 names no key."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._statuses = self.specification.enums["session-status"]
        numbers = self.specification.enums["auth"]
        self._auth_modes = {
            numbers["unauth"]: AuthMode.UNAUTHENTICATED.value,
            numbers["x509"]: AuthMode.X509.value,
            numbers["psk"]: AuthMode.PSK.value,
        }

    def accepted(self, nest: bytes) -> Mapping[str, Any]:
        told = self._accept.decode(nest)
        values = {
            "message-type": told.get("message-type", 0),
            "auth-mode": self._auth_mode(told),
            "timeout": told.get("timeout-seconds", 0) * 1000,
            "certificate": [{"cert": told.get("cert", 0), "privkey": told.get("privkey", 0)}],
            "peer-identity": [told.get("peer-identity", 0)],
        }
        return values | {name: told[name] for name in ("tls-priorities", "peername", "keyring") if name in told}

    def done(self, ending: Ending) -> bytes:
        status = "rejected" if ending.status == errno.EACCES else "fault" if ending.status else "ok"
        peer = ending.peers[0] if ending.peers else 0
        return self._done.encode({"session-status": self._statuses[status], "remote-auth": peer})

    def _auth_mode(self, told: Mapping[str, Any]) -> int:
        """Return the project's own number.  A server of the published text has none, and its agent's certificate."""
        if "auth-mode" in told:
            return self._auth_modes.get(told["auth-mode"], 0)
        return AuthMode.X509.value if told.get("message-type") == Role.SERVER else 0


class _Unknown(Dialect):
    """The dialect of a request that cannot be read, or that an earlier dispatcher has taken.

    Such a request fails.  A DONE_ARGS without attributes is EIO in both other dialects.
    """

    def accepted(self, nest: bytes) -> Mapping[str, Any]:
        return {}

    def done(self, ending: Ending) -> bytes:
        return b""


OWN = _Own("handshake-raw")
PUBLISHED = _Published("handshake-raw-published")
UNKNOWN = _Unknown()
_SPECIFIED: Mapping[str, _Specified] = {dialect.name: dialect for dialect in (OWN, PUBLISHED)}


def dialect_named(name: str) -> Dialect:
    """Return the dialect whose spec has this name, or :data:`UNKNOWN`."""
    return _SPECIFIED.get(name, UNKNOWN)


def dialect_of(nest: bytes) -> Dialect:
    """Return the dialect of an ACCEPT_RESP; :data:`UNKNOWN` if it has the marks of none.

    Raises MessageError for an attribute that is cut off.
    """
    numbers = {number for number, _ in walk(nest)}
    return next((dialect for dialect in _SPECIFIED.values() if dialect.marks & numbers), UNKNOWN)
