"""Access of a consumer's connection to aioquic's private state.

aioquic raises its receive windows as data arrives, whether anybody reads it or not.  :class:`Inside` raises them as
data is *consumed*: what a peer may have under way to an application that does not read is bounded by the windows that
the connection was configured with (RFC 9000 section 4.1).  It does so by showing aioquic, while that writes its
frames, a connection in which nothing was used up, and by setting the limits itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aioquic.tls import Epoch

from hsframework_quic.headers import LONG, MIN_FIRST_DATAGRAM, MIN_FIRST_DESTINATION, initial, long_header

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection
    from aioquic.quic.events import ConnectionTerminated
    from aioquic.quic.packet_builder import QuicPacketBuilder
    from aioquic.quic.recovery import QuicPacketSpace
    from aioquic.quic.stream import QuicStream

_FRAME_OVERHEAD = 64
"""Bytes of a 1-RTT packet that are not a DATAGRAM frame's data: short header, tag, frame type, length, and an ACK."""


class Inside:
    """The private state of one connection, for its consumer.  Make it before the connection takes in any packet."""

    def __init__(self, quic: QuicConnection) -> None:
        self._quic: Any = quic
        self._stream_window: int = self._quic._local_max_stream_data_bidi_remote
        self._window: int = self._quic._local_max_data.value
        self.hold_streams = False
        """Let the peer open no streams beyond those that it was told it may; what it is due comes when this is over."""
        self._owed = [0, 0]
        self._consumed = 0
        self._consumed_of: dict[int, int] = {}
        self._write_stream_limits = self._quic._write_stream_limits
        self._write_connection_limits = self._quic._write_connection_limits
        setattr(quic, "_write_stream_limits", self._stream_limits)  # noqa: B010  (mypy allows no assignment to a method)
        setattr(quic, "_write_connection_limits", self._connection_limits)  # noqa: B010

    # Receiving

    def consume(self, stream_id: int, size: int) -> None:
        """Count ``size`` bytes of a stream as read by the application, so that the peer may send as many more."""
        total = self._consumed_of[stream_id] = self._consumed_of.get(stream_id, 0) + size
        self._consume(size)
        stream = self._quic._streams.get(stream_id)
        if stream is None:
            del self._consumed_of[stream_id]
        elif total + self._stream_window - stream.max_stream_data_local >= self._stream_window // 2:
            stream.max_stream_data_local = total + self._stream_window

    def consume_rest(self, stream_id: int) -> None:
        """Count the unread rest of a stream that the peer has reset as consumed: nobody will read it."""
        stream = self._quic._streams.get(stream_id)
        consumed = self._consumed_of.pop(stream_id, 0)
        if stream is not None:
            self._consume(stream.receiver.highest_offset - consumed)

    def _consume(self, size: int) -> None:
        self._consumed += size
        limit = self._quic._local_max_data
        if self._consumed + self._window - limit.value >= self._window // 2:
            limit.value = self._consumed + self._window

    def _stream_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace, stream: QuicStream) -> None:
        receiver = stream.receiver
        highest, receiver.highest_offset = receiver.highest_offset, 0
        try:
            self._write_stream_limits(builder=builder, space=space, stream=stream)
        finally:
            receiver.highest_offset = highest

    def _connection_limits(self, builder: QuicPacketBuilder, space: QuicPacketSpace) -> None:
        for kind, streams in enumerate((self._quic._local_max_streams_bidi, self._quic._local_max_streams_uni)):
            if self.hold_streams:
                self._owed[kind] += streams.value - streams.sent
                streams.value = streams.sent
            else:
                streams.value += self._owed[kind]
                self._owed[kind] = 0
        limit = self._quic._local_max_data
        used, limit.used = limit.used, 0
        try:
            self._write_connection_limits(builder=builder, space=space)
        finally:
            limit.used = used

    def begins_another(self, datagram: bytes) -> bool:
        """Return True if a server's datagram is a client's first of another connection (RFC 9000 section 7.2)."""
        if self._quic._is_client or len(datagram) < MIN_FIRST_DATAGRAM or not datagram[0] & LONG:
            return False
        header = long_header(datagram)
        first = None if header is None else initial(header)
        if first is None or len(first.destination) < MIN_FIRST_DESTINATION:
            return False
        quic = self._quic
        known = {quic.original_destination_connection_id, quic._retry_source_connection_id}
        return first.destination not in known | {item.cid for item in quic._host_cids}

    # Sending

    def unacknowledged(self, stream_id: int) -> int:
        """Return the bytes of a stream that the peer has not acknowledged, sent or not; 0 for a stream that is over."""
        stream = self._quic._streams.get(stream_id)
        if stream is None or stream.sender._reset_error_code is not None:
            return 0
        sender = stream.sender
        fin = sender._buffer_fin is not None and not sender.is_finished
        return int(sender._buffer_stop - sender._buffer_start) + fin

    def undelivered(self) -> int:
        """Return the bytes of all streams that the peer has not acknowledged, sent or not."""
        senders = [stream.sender for stream in self._quic._streams.values()]
        return sum(each._buffer_stop - each._buffer_start for each in senders if each._reset_error_code is None)

    @property
    def probe_timeout(self) -> float:
        """Seconds after which an unacknowledged packet is probed for (RFC 9002 section 6.2), without backoff."""
        return float(self._quic._loss.get_probe_timeout())

    def flushed(self) -> bool:
        """Return True if the peer has acknowledged all stream data, and every datagram has gone out."""
        return not self._quic._datagrams_pending and not any(map(self.unacknowledged, self._quic._streams))

    def may_open(self, unidirectional: bool) -> bool:
        """Return True if the peer allows one more stream of ours (RFC 9000 section 4.6)."""
        quic = self._quic
        limit = quic._remote_max_streams_uni if unidirectional else quic._remote_max_streams_bidi
        return bool(quic.get_next_available_stream_id(unidirectional) // 4 < limit)

    def has_stream(self, stream_id: int) -> bool:
        """Return True if there is a stream of this number, opened by us or by the peer, that is not over."""
        return stream_id in self._quic._streams

    def opened_by_peer(self, unidirectional: bool) -> int:
        """Return the number of streams of one kind that the peer has opened so far."""
        quic = self._quic
        return int((quic._local_max_streams_uni if unidirectional else quic._local_max_streams_bidi).used)

    def announce(self, stream_id: int) -> None:
        """Tell the peer of a stream of ours before there is data: MAX_STREAM_DATA (RFC 9000 section 3.2)."""
        self._quic._streams[stream_id].max_stream_data_local_sent = 0

    @property
    def datagrams_waiting(self) -> int:
        """DATAGRAM frames that have not gone out."""
        return len(self._quic._datagrams_pending)

    @property
    def max_datagram_size(self) -> int | None:
        """The largest DATAGRAM payload that the peer takes and one packet holds; None: the peer takes none."""
        limit: int | None = self._quic._remote_max_datagram_frame_size
        if not limit:
            return None
        # The limit counts the frame's type and length as well (RFC 9221 section 3).
        room: int = self._quic._max_datagram_size - _FRAME_OVERHEAD
        return max(0, min(limit - 3, room))

    @property
    def key_phase(self) -> int:
        """The key phase of the peer's packets, and of ours once it has changed (RFC 9001 section 6)."""
        return int(self._quic._cryptos[Epoch.ONE_RTT].recv.key_phase)

    # The end

    @property
    def close_event(self) -> ConnectionTerminated | None:
        """The end of the connection, once it begins to close; None: it is open.

        The event of aioquic comes once the closing period is over.
        """
        event: ConnectionTerminated | None = self._quic._close_event
        return event

    @property
    def draining(self) -> bool:
        """True if the peer has closed the connection."""
        return bool(self._quic._state.name == "DRAINING")

    @property
    def reset_token(self) -> bytes:
        """The stateless reset token of the connection id that we send to (RFC 9000 section 10.3); empty: none."""
        return self._quic._peer_cid.stateless_reset_token or b""
