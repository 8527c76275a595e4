"""Record of the messages of one handshake, for a trace: times, directions, sizes and types, and no contents.

Of TLS over a stream, each record is a step: the handshake messages in plain text by name, alerts by number, all else by
its size.  Of another protocol, each piece that is sent or received is one.
"""

from __future__ import annotations

import json
from collections.abc import Callable

MOST_STEPS = 200
"""Steps that are kept; further ones are counted."""

_HEADER = 5
_CHANGE, _ALERT, _HANDSHAKE, _DATA = 20, 21, 22, 23
_TYPES = {_CHANGE: "ChangeCipherSpec", _ALERT: "alert", _HANDSHAKE: "handshake", _DATA: "encrypted"}
_MESSAGES = {
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    8: "EncryptedExtensions",
    11: "Certificate",
    12: "ServerKeyExchange",
    13: "CertificateRequest",
    14: "ServerHelloDone",
    15: "CertificateVerify",
    16: "ClientKeyExchange",
    20: "Finished",
}
_MOST_RECORD = 16_640


class _Way:
    """One direction of a stream: what has come of a record that is not whole."""

    def __init__(self) -> None:
        self.data = b""
        self.is_tls: bool | None = None
        self.rest = 0
        """Bytes of a handshake message that the next record goes on with."""
        self.protected = False
        """True after ChangeCipherSpec, or a record that is encrypted: types are no longer those of messages."""


class Recorder:
    """Recorder of one handshake.  ``clock``: seconds; the first step has the time 0 of the recorder's making."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._begun = clock()
        self._ways = {"sent": _Way(), "received": _Way()}
        self._steps: list[tuple[float, str, str, int]] = []
        self._further = 0

    def sent(self, data: bytes) -> None:
        """Record a piece of a stream that is sent."""
        self._take("sent", data)

    def received(self, data: bytes) -> None:
        """Record a piece of a stream that was received."""
        self._take("received", data)

    def datagram(self, way: str, data: bytes) -> None:
        """Record a datagram.  ``way``: sent or received."""
        self._step(way, "datagram", len(data))

    def report(self) -> str:
        """Return the steps as a JSON array: milliseconds, direction, what, bytes."""
        steps: list[tuple[float, str, str, int]] = list(self._steps)
        if self._further:
            steps.append((self._now(), "", "further steps", self._further))
        return json.dumps(steps)

    def _take(self, name: str, data: bytes) -> None:
        way = self._ways[name]
        if way.is_tls is None and data:
            way.is_tls = data[0] in _TYPES and data[1:2] in (b"", b"\3")
        if not way.is_tls:
            self._step(name, "data", len(data))
            return
        way.data += data
        while len(way.data) >= _HEADER:
            size = int.from_bytes(way.data[3:_HEADER])
            if way.data[0] not in _TYPES or size > _MOST_RECORD:
                way.is_tls = False
                self._step(name, "data", len(way.data))
                way.data = b""
                return
            if len(way.data) < _HEADER + size:
                return
            record, way.data = way.data[: _HEADER + size], way.data[_HEADER + size :]
            self._step(name, _what(way, record[0], record[_HEADER:]), len(record))

    def _step(self, way: str, what: str, size: int) -> None:
        if len(self._steps) < MOST_STEPS:
            self._steps.append((self._now(), way, what, size))
        else:
            self._further += 1

    def _now(self) -> float:
        return round((self._clock() - self._begun) * 1000, 3)


def _what(way: _Way, kind: int, body: bytes) -> str:
    """Return what a record is, in words."""
    if kind == _ALERT and len(body) == 2 and not way.protected:
        return f"alert {body[1]}"
    if kind in (_CHANGE, _DATA):
        # TLS 1.3 has both on the way to the same: what follows is encrypted, but for a second ClientHello.
        way.protected = way.protected or kind == _DATA
        return _TYPES[kind]
    if kind != _HANDSHAKE or way.protected:
        return _TYPES[kind]
    return ", ".join(_messages(way, body)) or "handshake, continued"


def _messages(way: _Way, body: bytes) -> list[str]:
    found = []
    at = min(way.rest, len(body))
    way.rest -= at
    while at + 4 <= len(body):
        number, size = body[at], int.from_bytes(body[at + 1 : at + 4])
        found.append(_MESSAGES.get(number, f"handshake message {number}"))
        at += 4 + size
        way.rest = max(0, at - len(body))
    return found
