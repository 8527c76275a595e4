"""A PSP session and its socket, for the streams of :mod:`.streams`: one channel for each carrier.

*Connection*: the kernel protects the socket; what is read and written are the consumer's own bytes, and a FIN is the
peer's own too.  *Packets*: the socket carries sealed packets, each behind a u16 length.  Inside each: a u64 that
counts the stream's packets, a byte (0 data, 1 the end) and data.  The count keeps packets from being dropped, repeated
or exchanged, which PSP itself does not.
"""

from __future__ import annotations

import socket
import struct

from hsframework.credentials.failures import Failure
from hsframework.streams import Channel
from hsframework_psp.packet_device import LENGTH_SIZE, NO_NEXT_HEADER, frame
from hsframework_psp.packets import HEADER_SIZE, ICV_SIZE, Opened, PacketOpener, PacketRefused, PacketSealer
from hsframework_tls13.events import SessionBroken, SessionTruncated

_READ_SIZE = 1 << 16
_INNER = struct.Struct(">QB")
_DATA, _END = 0, 1
MAX_DATA = 1 << 14
MAX_PACKET = HEADER_SIZE + _INNER.size + MAX_DATA + ICV_SIZE
_MIN_PACKET = HEADER_SIZE + _INNER.size + ICV_SIZE


class Packets:
    """Seals and opens a session's packets: what a consumer with packets of its own uses.

    One IV never comes twice, whoever seals.  Opening keeps no record of what came: replay is the consumer's to prevent.
    """

    def __init__(self, sealer: PacketSealer, opener: PacketOpener) -> None:
        self._sealer = sealer
        self._opener = opener

    def seal(self, payload: bytes, *, next_header: int, crypt_offset: int = 0, cookie: bytes | None = None) -> bytes:
        """A whole PSP packet; the arguments of :meth:`.packets.PacketSealer.seal`."""
        return self._sealer.seal(payload, next_header=next_header, crypt_offset=crypt_offset, cookie=cookie)

    def open(self, packet: bytes) -> Opened:
        """Raises PacketRefused."""
        return self._opener.open(packet)


class _QueueingChannel(Channel):
    """What both carriers share: the queue to the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._received = bytearray()
        self._outgoing = bytearray()
        self._peer_closed = False
        self._closed = False
        self._failed: SessionBroken | None = None

    @property
    def peer_closed(self) -> bool:
        return self._peer_closed

    @property
    def owes_output(self) -> bool:
        return False

    def try_receive(self, max_size: int) -> bytes | None:
        if not self._received and not self._peer_closed:
            if self._failed is not None:
                raise self._failed.fresh()
            try:
                self._read()
            except SessionBroken as error:
                self._failed = error.fresh()
                if not self._received:
                    raise
        if not self._received:
            return b"" if self._peer_closed else None
        data = bytes(self._received[:max_size])
        del self._received[:max_size]
        return data

    def _read(self) -> None:
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._closed:
            raise SessionBroken(Failure.CANCELLED, "our direction of the session is closed")

    def try_flush(self) -> None:
        while self._outgoing:
            sent = self.socket.send(self._outgoing, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            del self._outgoing[:sent]


class ConnectionChannel(_QueueingChannel):
    """The socket itself, under the kernel's PSP."""

    def _read(self) -> None:
        data = self.socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        self._peer_closed = not data
        self._received += data

    def queue_data(self, data: bytes) -> None:
        self._check_open()
        self._outgoing += data

    def queue_close(self) -> None:
        self._closed = True

    def try_flush(self) -> None:
        super().try_flush()
        if self._closed:
            self.socket.shutdown(socket.SHUT_WR)


class PacketChannel(_QueueingChannel):
    """Sealed packets on the socket."""

    def __init__(self, sock: socket.socket, packets: Packets) -> None:
        super().__init__(sock)
        self._packets = packets
        self._buffer = bytearray()
        self._sent = 0
        self._opened = 0

    def queue_data(self, data: bytes) -> None:
        self._check_open()
        for start in range(0, len(data), MAX_DATA):
            self._queue(_DATA, data[start : start + MAX_DATA])

    def queue_close(self) -> None:
        if not self._closed:
            self._closed = True
            self._queue(_END, b"")

    def _queue(self, kind: int, data: bytes) -> None:
        packet = self._packets.seal(_INNER.pack(self._sent, kind) + data, next_header=NO_NEXT_HEADER)
        self._sent += 1
        self._outgoing += frame(packet)

    def _read(self) -> None:
        chunk = self.socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        if not chunk:
            raise SessionTruncated
        self._buffer += chunk
        while not self._peer_closed and (packet := self._next_packet()) is not None:
            self._take(packet)

    def _next_packet(self) -> bytes | None:
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

    def _take(self, packet: bytes) -> None:
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
        self._peer_closed = kind == _END
        self._received += opened.payload[_INNER.size :]
