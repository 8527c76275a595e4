"""A stream of bytes over sealed packets, without I/O: the carrier *packets* on a connection.

Each packet stands behind a u16 length.  Inside: a u64 that counts the stream's packets, a byte (0 data, 1 the end) and
data.  The count keeps packets from being dropped, repeated or exchanged, which PSP itself does not.
"""

from __future__ import annotations

import struct

from hsframework.failures import Failure
from hsframework_psp.framing import LENGTH_SIZE, NO_NEXT_HEADER, frame
from hsframework_psp.packets import HEADER_SIZE, ICV_SIZE, Opened, PacketOpener, PacketRefused, PacketSealer
from hsframework_tls13.events import SessionBroken, SessionTruncated

_INNER = struct.Struct(">QB")
_DATA, _END = 0, 1
MAX_DATA = 1 << 14
MAX_PACKET = HEADER_SIZE + _INNER.size + MAX_DATA + ICV_SIZE
_MIN_PACKET = HEADER_SIZE + _INNER.size + ICV_SIZE


class Packets:
    """The sealing and opening of a session's packets, for a consumer with packets of its own.

    One IV never comes twice, whoever seals, on whatever thread.  Opening keeps no record of what came: replay is the
    consumer's to prevent.
    """

    def __init__(self, sealer: PacketSealer, opener: PacketOpener) -> None:
        self._sealer = sealer
        self._opener = opener

    def seal(self, payload: bytes, *, next_header: int, crypt_offset: int = 0, cookie: bytes | None = None) -> bytes:
        """Return a whole PSP packet; the arguments of :meth:`.packets.PacketSealer.seal`."""
        return self._sealer.seal(payload, next_header=next_header, crypt_offset=crypt_offset, cookie=cookie)

    def open(self, packet: bytes) -> Opened:
        """Return the content of a packet.  Raises PacketRefused."""
        return self._opener.open(packet)


class PacketSession:
    """A session over packets.  Implements :class:`hsframework.streams.UserSpaceSession`.

    Errors: SessionBroken, SessionTruncated.
    """

    owes_output = False

    def __init__(self, packets: Packets) -> None:
        self.peer_closed = False
        self._packets = packets
        self._buffer = bytearray()
        self._closed = False
        self._failed: SessionBroken | None = None
        self._sent = 0
        self._opened = 0

    def encrypt(self, data: bytes) -> bytes:
        if self._closed:
            raise SessionBroken(Failure.CANCELLED, "our direction of the session is closed")
        pieces = (data[start : start + MAX_DATA] for start in range(0, len(data), MAX_DATA))
        return b"".join(self._next(_DATA, piece) for piece in pieces)

    def close(self) -> bytes:
        if self._closed:
            return b""
        self._closed = True
        return self._next(_END, b"")

    def data_to_send(self) -> bytes:
        return b""

    def decrypt(self, data: bytes) -> bytes:
        if self._failed is not None:
            raise self._failed.fresh()
        self._buffer += data
        plain = b""
        try:
            while not self.peer_closed and (packet := self._take()) is not None:
                plain += self._open(packet)
        except SessionBroken as error:
            self._failed = error.fresh()
            if not plain:
                raise
        return plain

    def receive_eof(self) -> None:
        if self._failed is not None:
            raise self._failed.fresh()
        if not self.peer_closed:
            self._failed = SessionTruncated()
            raise SessionTruncated

    def _next(self, kind: int, data: bytes) -> bytes:
        packet = self._packets.seal(_INNER.pack(self._sent, kind) + data, next_header=NO_NEXT_HEADER)
        self._sent += 1
        return frame(packet)

    def _take(self) -> bytes | None:
        if len(self._buffer) < LENGTH_SIZE:
            return None
        size = int.from_bytes(self._buffer[:LENGTH_SIZE], "big")
        if not _MIN_PACKET <= size <= MAX_PACKET:
            raise SessionBroken(Failure.GARBAGE, f"a packet of {size} bytes")
        end = LENGTH_SIZE + size
        if len(self._buffer) < end:
            return None
        packet = bytes(self._buffer[LENGTH_SIZE:end])
        del self._buffer[:end]
        return packet

    def _open(self, packet: bytes) -> bytes:
        try:
            opened = self._packets.open(packet)
        except PacketRefused as refused:
            raise SessionBroken(Failure.BAD_RECORD_MAC, str(refused)) from None
        if opened.header.next_header != NO_NEXT_HEADER or len(opened.payload) < _INNER.size:
            raise SessionBroken(Failure.GARBAGE, "a packet that is not the stream's")
        number, kind = _INNER.unpack_from(opened.payload)
        if number != self._opened or kind not in (_DATA, _END):
            raise SessionBroken(Failure.UNEXPECTED_MESSAGE, f"packet {number} where {self._opened} is due")
        self._opened += 1
        self.peer_closed = kind == _END
        return opened.payload[_INNER.size :]
