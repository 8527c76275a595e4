"""Reads what a ClientHello offers, before OpenSSL sees it (RFC 8446 section 4.1.2).  Sans-IO.

A server needs this when it has to ask for a pre-shared key by the name that the client gives, or to choose between
identities: OpenSSL's own callbacks cannot wait for an answer.  Strict in structure (every length exact, no extension
twice, ``pre_shared_key`` last), indifferent to values: those are OpenSSL's to judge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from hsframework.credentials.failures import Failure, HandshakeFailed
from hsframework_tls13.records import ALERT, CLOSE_NOTIFY, HANDSHAKE, HEADER_SIZE

CLIENT_HELLO = 1
MAX_SIZE = 1 << 16
"""Of a ClientHello message: several times what any client sends."""
TLS_1_3 = 0x0304

_SERVER_NAME = 0
_SIGNATURE_ALGORITHMS = 13
_ALPN = 16
_PRE_SHARED_KEY = 41
_SUPPORTED_VERSIONS = 43
_RANDOM_SIZE = 32

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ClientHello:
    """The offer.  ``psk_identities`` are the names on the wire, the client's preference first."""

    cipher_suites: tuple[int, ...] = ()
    supported_versions: tuple[int, ...] = ()
    signature_algorithms: tuple[int, ...] = ()
    server_name: str | None = None
    alpn: tuple[bytes, ...] = ()
    psk_identities: tuple[bytes, ...] = ()
    extensions: frozenset[int] = field(default_factory=frozenset)


class ClientHelloReader:
    """Puts a ClientHello together from handshake records, one at a time, in one piece or many."""

    def __init__(self) -> None:
        self._message = bytearray()

    def feed(self, record: bytes) -> ClientHello | None:
        """One whole record with its header; the ClientHello once it is complete.  Raises HandshakeFailed."""
        body = self.feed_raw(record)
        return None if body is None else parse_client_hello(body)

    def feed_raw(self, record: bytes) -> bytes | None:
        """The same, for :func:`parse_client_hello` and :func:`offers_alpn`."""
        refuse_alert(record)
        body = record[HEADER_SIZE:]
        if record[0] != HANDSHAKE or not body:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"a record of type {record[0]} instead of a ClientHello")
        self._message += body
        if self._message[0] != CLIENT_HELLO:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"handshake message {self._message[0]} comes first")
        if len(self._message) < 4:
            return None
        end = 4 + int.from_bytes(self._message[1:4], "big")
        if end > MAX_SIZE:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"a ClientHello of {end} bytes")
        if len(self._message) < end:
            return None
        if len(self._message) > end:
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, "something follows the ClientHello in its record")
        return bytes(self._message[4:])


def refuse_alert(record: bytes) -> None:
    """An alert where a ClientHello should be (OpenSSL takes it for a message out of turn).  Raises HandshakeFailed."""
    if record[0] != ALERT or len(record) != HEADER_SIZE + 2:
        return
    if record[-1] == CLOSE_NOTIFY:
        raise HandshakeFailed(Failure.PEER_GONE, "the peer said close_notify", peer_alert=CLOSE_NOTIFY)
    raise HandshakeFailed(Failure.PEER_REFUSED, f"alert {record[-1]}", peer_alert=record[-1])


class _Cursor:
    """A bounded view that must be read to its end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._position

    def take(self, size: int) -> bytes:
        if size > self.left:
            raise _garbage("a field is longer than what holds it")
        start = self._position
        self._position += size
        return self._data[start : self._position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, length_size: int, *, least: int = 0) -> bytes:
        size = self.number(length_size)
        if size < least:
            raise _garbage("a vector is shorter than it may be")
        return self.take(size)

    def end(self) -> None:
        if self.left:
            raise _garbage(f"{self.left} bytes too many")


def parse_client_hello(body: bytes) -> ClientHello:
    """The message without its four-byte header.  Raises HandshakeFailed (GARBAGE, ILLEGAL_PARAMETER)."""
    cursor = _Cursor(body)
    cursor.take(2 + _RANDOM_SIZE)
    if len(cursor.vector(1)) > 32:
        raise _garbage("a session id of more than 32 bytes")
    suites = _numbers(cursor.vector(2, least=2), 2)
    cursor.vector(1, least=1)
    extensions = _extensions(cursor.vector(2)) if cursor.left else {}
    cursor.end()
    return ClientHello(
        cipher_suites=suites,
        supported_versions=_parse(extensions, _SUPPORTED_VERSIONS, _versions, ()),
        signature_algorithms=_parse(extensions, _SIGNATURE_ALGORITHMS, _schemes, ()),
        server_name=_parse(extensions, _SERVER_NAME, _host_name, None),
        alpn=_parse(extensions, _ALPN, _protocol_names, ()),
        psk_identities=_parse(extensions, _PRE_SHARED_KEY, _identities, ()),
        extensions=frozenset(extensions),
    )


def offers_alpn(body: bytes) -> bool:
    """Is there an ALPN extension?  A tenth of the time of :func:`parse_client_hello`; nonsense is left to others."""
    at = 2 + _RANDOM_SIZE
    for length_size in (1, 2, 1):
        at += length_size + int.from_bytes(body[at : at + length_size], "big")
    at += 2
    while at + 4 <= len(body):
        if int.from_bytes(body[at : at + 2], "big") == _ALPN:
            return True
        at += 4 + int.from_bytes(body[at + 2 : at + 4], "big")
    return False


def _parse(extensions: dict[int, bytes], number: int, parser: Callable[[_Cursor], T], default: T) -> T:
    data = extensions.get(number)
    if data is None:
        return default
    cursor = _Cursor(data)
    value = parser(cursor)
    cursor.end()
    return value


def _extensions(data: bytes) -> dict[int, bytes]:
    cursor = _Cursor(data)
    found: dict[int, bytes] = {}
    while cursor.left:
        if _PRE_SHARED_KEY in found:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "pre_shared_key is not the last extension")
        number = cursor.number(2)
        if number in found:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"extension {number} is there twice")
        found[number] = cursor.vector(2)
    return found


def _versions(cursor: _Cursor) -> tuple[int, ...]:
    return _numbers(cursor.vector(1, least=2), 2)


def _schemes(cursor: _Cursor) -> tuple[int, ...]:
    return _numbers(cursor.vector(2, least=2), 2)


def _host_name(cursor: _Cursor) -> str | None:
    """RFC 6066 section 3: of the types of name, only host_name (0) was ever defined."""
    names = _Cursor(cursor.vector(2, least=1))
    host: str | None = None
    while names.left:
        kind, name = names.number(1), names.vector(2, least=1)
        if kind == 0 and host is None:
            host = name.decode("ascii", "replace")
    return host


def _protocol_names(cursor: _Cursor) -> tuple[bytes, ...]:
    names = _Cursor(cursor.vector(2, least=2))
    found: list[bytes] = []
    while names.left:
        found.append(names.vector(1, least=1))
    return tuple(found)


def _identities(cursor: _Cursor) -> tuple[bytes, ...]:
    identities = _Cursor(cursor.vector(2, least=7))
    found: list[bytes] = []
    while identities.left:
        found.append(identities.vector(2, least=1))
        identities.take(4)
    binders = _Cursor(cursor.vector(2, least=33))
    count = 0
    while binders.left:
        binders.vector(1, least=32)
        count += 1
    if count != len(found):
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"{len(found)} identities and {count} binders")
    return tuple(found)


def _numbers(data: bytes, size: int) -> tuple[int, ...]:
    if len(data) % size:
        raise _garbage("a list with part of an entry")
    return tuple(int.from_bytes(data[at : at + size], "big") for at in range(0, len(data), size))


def _garbage(problem: str) -> HandshakeFailed:
    return HandshakeFailed(Failure.GARBAGE, f"in the ClientHello: {problem}")
