"""The messages of the exchange (docs/design/psp-handshake.md, "Messages").  Sans-IO.

``encode`` gives the whole message with its header; ``decode`` takes exactly one and raises HandshakeFailed: GARBAGE
for what cannot be taken apart, ILLEGAL_PARAMETER for a value that is not allowed, UNEXPECTED_MESSAGE for a type that
does not exist.  The order of messages is held by :mod:`.exchange`.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

from hsframework.failures import Failure, HandshakeFailed
from hsframework_psp.keys import Grant, Key
from hsframework_psp.versions import SPI_MASK, Version

HEADER = struct.Struct(">BBH")
HEADER_SIZE = HEADER.size
MAX_BODY = 1020
MAX_CHOICES = 16
PROOF_SIZE = 32
PROOF_MESSAGE_SIZE = HEADER_SIZE + PROOF_SIZE

_ASSOCIATION = struct.Struct(">BBHI")
_EXTENSION = struct.Struct(">HH")

OFFER, ANSWER, KEYS, PROOF = 1, 2, 3, 4


class Carrier(enum.IntEnum):
    """The carrier of protected data: the connection itself, or packets."""

    CONNECTION = 1
    PACKETS = 2


Choice = tuple[Carrier, Version]


@dataclass(frozen=True, slots=True)
class Offer:
    """The client's pairs of carrier and version in order of preference; unknown ones are numbers, too."""

    choices: tuple[tuple[int, int], ...]

    def encode(self) -> bytes:
        pairs = b"".join(bytes(pair) for pair in self.choices)
        return _message(OFFER, bytes((len(self.choices), 0)) + pairs)


@dataclass(frozen=True, slots=True)
class _Association:
    """An Rx association, given away in ANSWER or KEYS."""

    carrier: Carrier
    version: Version
    grant: Grant

    def encode(self) -> bytes:
        head = _ASSOCIATION.pack(self.carrier, self.version, 0, self.grant.spi)
        return _message(self._type, head + self.grant.key.reveal())

    @property
    def _type(self) -> int:
        raise NotImplementedError


class Answer(_Association):
    """The server's choice, with the server's Rx association."""

    __slots__ = ()

    @property
    def _type(self) -> int:
        return ANSWER


class Keys(_Association):
    """The client's Rx association."""

    __slots__ = ()

    @property
    def _type(self) -> int:
        return KEYS


@dataclass(frozen=True, slots=True)
class Proof:
    """A value that only the two ends of the TLS session can compute."""

    value: bytes

    def encode(self) -> bytes:
        return _message(PROOF, self.value)


Message = Offer | Answer | Keys | Proof


def decode(data: bytes) -> Message:
    """Decode exactly one message."""
    if len(data) < HEADER_SIZE:
        raise _garbage(f"a message of {len(data)} bytes")
    kind, epoch, length = HEADER.unpack_from(data)
    if kind not in (OFFER, ANSWER, KEYS, PROOF):
        raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"there is no message of type {kind}")
    if length > MAX_BODY or length != len(data) - HEADER_SIZE:
        raise _garbage(f"a message says that it has {length} bytes and has {len(data) - HEADER_SIZE}")
    if epoch:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"epoch {epoch}: keys are not exchanged anew here")
    body = data[HEADER_SIZE:]
    if kind == OFFER:
        return _decode_offer(body)
    if kind == PROOF:
        return _decode_proof(body)
    return _decode_association(Answer if kind == ANSWER else Keys, body)


def _decode_offer(body: bytes) -> Offer:
    if len(body) < 2 or len(body) < 2 + 2 * body[0]:
        raise _garbage("OFFER is cut off")
    number, reserved = body[0], body[1]
    end = 2 + 2 * number
    choices = tuple(zip(body[2:end:2], body[3:end:2], strict=True))
    if reserved or not 1 <= number <= MAX_CHOICES or len(set(choices)) != number:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"OFFER has 1 to {MAX_CHOICES} choices, none twice")
    _check_extensions(body[end:])
    return Offer(choices)


def _decode_association(kind: type[Answer] | type[Keys], body: bytes) -> Answer | Keys:
    name = kind.__name__.upper()
    if len(body) < _ASSOCIATION.size:
        raise _garbage(f"{name} is cut off")
    carrier, version, reserved, spi = _ASSOCIATION.unpack_from(body)
    if carrier not in Carrier.__members__.values() or version not in Version.__members__.values() or reserved:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"{name} with carrier {carrier}, version {version}")
    if not spi & SPI_MASK:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"{name} with SPI 0x{spi:08x}")
    end = _ASSOCIATION.size + Version(version).key_size
    if len(body) < end:
        raise _garbage(f"{name} is cut off")
    _check_extensions(body[end:])
    return kind(Carrier(carrier), Version(version), Grant(spi, Key(memoryview(body)[_ASSOCIATION.size : end])))


def _decode_proof(body: bytes) -> Proof:
    if len(body) != PROOF_SIZE:
        raise _garbage(f"PROOF of {len(body)} bytes")
    return Proof(body)


def _check_extensions(data: bytes) -> None:
    seen: set[int] = set()
    offset = 0
    while offset < len(data):
        if len(data) - offset < _EXTENSION.size:
            raise _garbage("an extension is cut off")
        kind, size = _EXTENSION.unpack_from(data, offset)
        offset += _EXTENSION.size + size
        if offset > len(data):
            raise _garbage("an extension is cut off")
        if kind in seen:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"extension {kind} comes twice")
        seen.add(kind)


def _message(kind: int, body: bytes) -> bytes:
    return HEADER.pack(kind, 0, len(body)) + body


def _garbage(detail: str) -> HandshakeFailed:
    return HandshakeFailed(Failure.GARBAGE, detail)
