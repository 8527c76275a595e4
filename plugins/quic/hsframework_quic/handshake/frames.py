"""The contents of a 1-RTT packet that matter to the agent: HANDSHAKE_DONE, tickets, the end of the connection.

Frames are only looked at here (RFC 9000 section 19); the consumer's connection acts on them.  A packet with a frame
that is malformed or not known is read up to there, and the consumer will refuse it.  Sans-IO.
"""

from __future__ import annotations

from dataclasses import dataclass, field

_ACK, _ACK_ECN, _CRYPTO, _NEW_TOKEN = 0x02, 0x03, 0x06, 0x07
_STREAM, _STREAM_LAST = 0x08, 0x0F
_NEW_CONNECTION_ID = 0x18
_CLOSE, _CLOSE_APPLICATION, _HANDSHAKE_DONE = 0x1C, 0x1D, 0x1E
_DATAGRAM, _DATAGRAM_WITH_LENGTH = 0x30, 0x31
_NOT_ELICITING = frozenset({0x00, _ACK, _ACK_ECN, _CLOSE, _CLOSE_APPLICATION})

_NUMBERS = {
    0x00: 0,  # PADDING
    0x01: 0,  # PING
    0x04: 3,  # RESET_STREAM
    0x05: 2,  # STOP_SENDING
    0x10: 1,  # MAX_DATA
    0x11: 2,  # MAX_STREAM_DATA
    0x12: 1,  # MAX_STREAMS
    0x13: 1,
    0x14: 1,  # DATA_BLOCKED
    0x15: 2,  # STREAM_DATA_BLOCKED
    0x16: 1,  # STREAMS_BLOCKED
    0x17: 1,
    0x19: 1,  # RETIRE_CONNECTION_ID
    _HANDSHAKE_DONE: 0,
}
"""Frames that are nothing but so many variable-length integers."""
_OCTETS = {0x1A: 8, 0x1B: 8}
"""PATH_CHALLENGE and PATH_RESPONSE."""


@dataclass(slots=True)
class Glimpse:
    """The contents of a packet.

    ``crypto``: (offset, data) of each CRYPTO frame.  ``close_code``: of CONNECTION_CLOSE, where the transport has
    closed.  ``kept``: the packet goes to the consumer.
    """

    ack_eliciting: bool = False
    handshake_done: bool = False
    crypto: list[tuple[int, bytes]] = field(default_factory=list)
    closed: bool = False
    close_code: int | None = None
    kept: bool = True


class _End(Exception):
    """The end of a payload within a frame, or before a frame that is not known."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    def number(self) -> int:
        """Return the next variable-length integer (RFC 9000 section 16)."""
        if self.offset >= len(self.data):
            raise _End
        size = 1 << (self.data[self.offset] >> 6)
        value = int.from_bytes(self.octets(size), "big")
        return value & ((1 << (8 * size - 2)) - 1)

    def octets(self, size: int) -> bytes:
        end = self.offset + size
        if end > len(self.data):
            raise _End
        result = self.data[self.offset : end]
        self.offset = end
        return result

    def rest(self) -> None:
        self.offset = len(self.data)


def glimpse(payload: bytes) -> Glimpse:
    """Return the contents of a decrypted 1-RTT payload."""
    seen = Glimpse()
    reader = _Reader(payload)
    try:
        while reader.offset < len(payload):
            kind = reader.number()
            _read(kind, reader, seen)
            seen.ack_eliciting |= kind not in _NOT_ELICITING
    except _End:
        pass
    return seen


def _read(kind: int, reader: _Reader, seen: Glimpse) -> None:
    if kind in _NUMBERS:
        for _ in range(_NUMBERS[kind]):
            reader.number()
        seen.handshake_done |= kind == _HANDSHAKE_DONE
    elif kind in (_ACK, _ACK_ECN):
        _skip_ack(reader, counts=3 if kind == _ACK_ECN else 0)
    elif kind == _CRYPTO:
        offset = reader.number()
        seen.crypto.append((offset, reader.octets(reader.number())))
    elif kind == _NEW_TOKEN:
        reader.octets(reader.number())
    elif _STREAM <= kind <= _STREAM_LAST:
        _skip_stream(kind, reader)
    elif kind == _NEW_CONNECTION_ID:
        reader.number(), reader.number()
        reader.octets(reader.octets(1)[0])
        reader.octets(16)
    elif kind in _OCTETS:
        reader.octets(_OCTETS[kind])
    elif kind in (_CLOSE, _CLOSE_APPLICATION):
        code = reader.number()
        if kind == _CLOSE:
            seen.close_code = code
            reader.number()
        reader.octets(reader.number())
        seen.closed = True
    elif kind == _DATAGRAM:
        reader.rest()
    elif kind == _DATAGRAM_WITH_LENGTH:
        reader.octets(reader.number())
    else:
        raise _End


def _skip_ack(reader: _Reader, *, counts: int) -> None:
    reader.number(), reader.number()
    ranges = reader.number()
    reader.number()
    for _ in range(min(ranges, len(reader.data))):
        reader.number(), reader.number()
    for _ in range(counts):
        reader.number()


def _skip_stream(kind: int, reader: _Reader) -> None:
    reader.number()
    if kind & 0x04:
        reader.number()
    if kind & 0x02:
        reader.octets(reader.number())
    else:
        reader.rest()
