"""The peer's 1-RTT packets that arrive with the handshake; they are kept for the consumer, and read.

The rules:

* A packet that is kept is acknowledged, and one that is not kept is not: the peer sends its contents again.
* HANDSHAKE_DONE and CONNECTION_CLOSE are seen in every packet that can be read, kept or not.
* A packet under the peer's next keys is not kept: an acknowledgement would have to go out under our next keys (RFC
  9001 section 6.2), which are the consumer's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoError
from aioquic.quic.packet import QuicPacketType, pull_quic_header

from hsframework_quic.aioquic_adapter.handshaking import HandshakeConnection
from hsframework_quic.handshake.frames import Glimpse, glimpse
from hsframework_quic.headers import LONG
from hsframework_quic.session import MAX_PACKET_BYTES, MAX_PACKETS

CONNECTION_ID_SIZE = 8
"""Bytes of our connection ids."""
MAX_EARLY_PACKETS = 10
"""1-RTT packets that are kept before they can be read; anybody may have sent them."""


class KeptPackets:
    """The 1-RTT packets as they came, in their order, up to a bound."""

    def __init__(self) -> None:
        self._packets: list[bytes] = []
        self._read = 0
        """Packets at the front of the list that have been read."""
        self._excess: list[bytes] = []
        """Packets that are read and not kept."""

    @property
    def all(self) -> tuple[bytes, ...]:
        """Every packet that is kept."""
        return tuple(self._packets)

    def clear(self) -> None:
        """Drop every packet: they belong to no connection."""
        self._packets.clear()
        self._excess.clear()
        self._read = 0

    def keep(self, packet: bytes, *, can_read: bool) -> None:
        """Keep one more packet, or only look into it if that is too much.  ``can_read``: there are keys for it."""
        most = MAX_PACKETS if can_read else MAX_EARLY_PACKETS
        if len(self._packets) < most and sum(map(len, self._packets)) + len(packet) <= MAX_PACKET_BYTES:
            self._packets.append(packet)
        elif can_read and len(self._excess) < MAX_EARLY_PACKETS:
            self._excess.append(packet)

    def look_into(self, connection: HandshakeConnection, now: float) -> Iterator[Glimpse]:
        """Read the new packets, drop those that are not the peer's, and yield the contents of the others.

        Nothing happens before there are keys, and before the handshake is complete.
        """
        if not connection.can_read or not connection.complete:
            return
        new, self._packets = self._packets[self._read :], self._packets[: self._read]
        for packet in new:
            seen = _read(connection, packet, now)
            if seen is not None:
                if seen.kept:
                    self._packets.append(packet)
                yield seen
        self._read = len(self._packets)
        excess, self._excess = self._excess, []
        for packet in excess:
            seen = _read(connection, packet, now, keep=False)
            if seen is not None:
                yield seen


def _read(connection: HandshakeConnection, packet: bytes, now: float, *, keep: bool = True) -> Glimpse | None:
    try:
        payload, number, next_keys = connection.read(packet)
    except CryptoError:
        return None
    if connection.has_packet(number):
        return None
    seen = glimpse(payload)
    if not keep or next_keys:
        # Its CRYPTO data comes again, to the consumer.
        return replace(seen, crypto=[], kept=False)
    connection.note_packet(number, now, ack_eliciting=seen.ack_eliciting)
    return seen


def short_packet(datagram: bytes) -> bytes:
    """Return the 1-RTT packet at the end of a datagram, or nothing (RFC 9000 section 12.2)."""
    if not datagram or not datagram[0] & LONG:
        return datagram
    buffer = Buffer(data=datagram)
    try:
        while not buffer.eof():
            start = buffer.tell()
            header = pull_quic_header(buffer, host_cid_length=CONNECTION_ID_SIZE)
            if header.packet_type is QuicPacketType.ONE_RTT:
                return datagram[start:]
            buffer.seek(start + header.packet_length)
    except ValueError:
        pass
    return b""
