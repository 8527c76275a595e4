"""The streams of one connection, without I/O.  The rules: :mod:`.connection`.

Methods that a caller has to repeat begin with ``try_`` and return :data:`~.later.LATER` meanwhile.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from aioquic.quic import events

from hsframework.errors import StreamError
from hsframework_quic.aioquic_adapter.consumer import Inside
from hsframework_quic.consumer.endings import NO_ERROR, Ending, StreamAborted, check_open
from hsframework_quic.consumer.later import LATER, Later, later
from hsframework_quic.consumer.stream_state import StreamState

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection

SEND_BUFFER = 512 * 1024
"""Bytes of one stream that are sent and not acknowledged or wait to be sent; a sender waits beyond that."""

MAX_UNACCEPTED = 128
"""Streams of the peer's that wait to be accepted, past which it is allowed no more."""


class Streams:
    """All streams of a connection.  ``ending``: returns why the connection is over, or None."""

    def __init__(self, quic: QuicConnection, inside: Inside, ending: Callable[[], Ending | None]) -> None:
        self._quic = quic
        self._inside = inside
        self._ending = ending
        self._is_client = quic.configuration.is_client
        self._streams: dict[int, StreamState] = {}
        self._prune_at = 64
        self._incoming: dict[bool, deque[StreamState]] = {False: deque(), True: deque()}
        self._noted = {False: 0, True: 0}
        """Streams of the peer's that are in ``_streams`` or were, by kind."""

    # Opening and accepting

    def try_open(self, unidirectional: bool) -> StreamState | Later:
        """Open a stream of ours.  LATER while the peer allows no more."""
        check_open(self._ending())
        if not self._inside.may_open(unidirectional):
            return LATER
        stream_id = self._quic.get_next_available_stream_id(unidirectional)
        # An empty write makes the stream known; the peer learns of it with the first data.
        self._quic.send_stream_data(stream_id, b"")
        stream = self._streams[stream_id] = StreamState(stream_id, is_client=self._is_client)
        return stream

    def try_accept(self, unidirectional: bool | None) -> StreamState | Later | None:
        """Return the next stream that the peer opened, of one kind or of either.

        None: it closed the connection with code 0.
        """
        kinds = (False, True) if unidirectional is None else (unidirectional,)
        waiting = [self._incoming[kind] for kind in kinds if self._incoming[kind]]
        if waiting:
            return waiting[0].popleft()
        ending = self._ending()
        if ending is not None and ending.by_peer and ending.orderly:
            return None
        return later(self._ending())

    def try_main(self) -> StreamState | Later:
        """Return the client's first bidirectional stream, number 0: opened by a client, awaited by a server."""
        stream = self._streams.get(0)
        if stream is None:
            return self._open_main() if self._is_client else later(self._ending())
        if stream in self._incoming[False]:
            self._incoming[False].remove(stream)
        return stream

    def _open_main(self) -> StreamState | Later:
        stream = self.try_open(False)
        if isinstance(stream, StreamState):
            # A server may speak first, and cannot before it knows of the stream.
            self._inside.announce(stream.id)
        return stream

    # Sending

    def try_send(self, stream: StreamState, data: memoryview) -> int | Later:
        """Take over as much of ``data`` as there is room for; return how many bytes, at least one."""
        self._check_sending(stream)
        room = SEND_BUFFER - self._inside.unacknowledged(stream.id)
        if room <= 0 and data:
            return LATER
        self._quic.send_stream_data(stream.id, bytes(data[:room]))
        return min(room, len(data))

    def send_eof(self, stream: StreamState) -> None:
        """Send FIN.  No effect the second time, or on a stream that the peer has stopped."""
        check_open(self._ending())
        if stream.sent_eof or stream.stopped is not None:
            return
        self._check_sending(stream)
        stream.sent_eof = True
        self._quic.send_stream_data(stream.id, b"", end_stream=True)

    def end_main(self) -> None:
        """Send FIN on stream 0, if there is one."""
        main = self._streams.get(0)
        if main is not None:
            self.send_eof(main)

    def reset(self, stream: StreamState, code: int) -> None:
        """Give up sending: RESET_STREAM.  Data that was not acknowledged is lost."""
        if self._ending() is None and stream.can_send:
            stream.sent_eof = True
            self._quic.reset_stream(stream.id, code)

    def _check_sending(self, stream: StreamState) -> None:
        if not stream.can_send:
            raise StreamError(
                f"stream {stream.id} is unidirectional and the peer's: it can be received from alone", errno=errno.EBADF
            )
        if stream.stopped is not None:
            raise StreamAborted(f"the peer has stopped stream {stream.id}", stream.stopped, errno.EPIPE)
        check_open(self._ending())
        if stream.sent_eof:
            raise StreamError(f"stream {stream.id} has been ended on this side", errno=errno.EPIPE)

    # Receiving

    def try_receive(self, stream: StreamState, max_size: int) -> bytes | Later:
        """Return 1 to ``max_size`` bytes; ``b""`` at the end that the peer set."""
        if not stream.can_receive:
            raise StreamError(
                f"stream {stream.id} is unidirectional and ours: it can be sent on alone", errno=errno.EBADF
            )
        if stream.chunks:
            data = stream.take(max_size)
            self._inside.consume(stream.id, len(data))
            return data
        if stream.ended:
            return b""
        if stream.aborted is not None:
            raise StreamAborted(f"the peer has reset stream {stream.id}", stream.aborted, errno.ECONNRESET)
        return later(self._ending())

    def stop(self, stream: StreamState, code: int) -> None:
        """Ask the peer to stop sending: STOP_SENDING.  Data that arrived and was not read is dropped."""
        if not stream.can_receive or stream.ended or stream.aborted is not None:
            return
        if dropped := stream.drop():
            self._inside.consume(stream.id, dropped)
        stream.ended = True
        if self._ending() is None and self._inside.has_stream(stream.id):
            self._quic.stop_stream(stream.id, code)

    def finish(self, stream: StreamState) -> None:
        """Send FIN and STOP_SENDING, where the stream allows them.  Never raises."""
        if self._ending() is None and stream.can_send:
            self.send_eof(stream)
        self.stop(stream, NO_ERROR)

    # For the connection

    @property
    def unaccepted(self) -> int:
        """Streams of the peer's that wait to be accepted."""
        return sum(map(len, self._incoming.values()))

    def prune(self) -> None:
        """Forget streams that are over and read to their end, once there are many.

        Number 0 is kept, since :meth:`try_main` asks for it.
        """
        if len(self._streams) <= self._prune_at:
            return
        waiting = {stream.id for queue in self._incoming.values() for stream in queue}
        self._streams = {
            stream.id: stream
            for stream in self._streams.values()
            if stream.id == 0 or stream.id in waiting or stream.chunks or self._inside.has_stream(stream.id)
        }
        self._prune_at = 2 * len(self._streams) + 64

    def note_new(self) -> None:
        """Note the peer's new streams in the order of their numbers.

        One opens all before it, also without data (RFC 9000 section 2.1).
        """
        for unidirectional, queue in self._incoming.items():
            opened = self._inside.opened_by_peer(unidirectional)
            while self._noted[unidirectional] < opened:
                stream_id = 4 * self._noted[unidirectional] + 2 * unidirectional + self._is_client
                self._noted[unidirectional] += 1
                stream = self._streams[stream_id] = StreamState(stream_id, is_client=self._is_client)
                queue.append(stream)

    def on_data(self, event: events.StreamDataReceived) -> None:
        """Keep data for the reader."""
        stream = self._streams[event.stream_id]
        if stream.ended:  # stopped by us: nobody reads the rest
            self._inside.consume(stream.id, len(event.data))
            return
        if event.data:
            stream.chunks.append(event.data)
        stream.ended = event.end_stream

    def on_reset(self, event: events.StreamReset) -> None:
        """Drop the data of a stream that the peer gives up."""
        stream = self._streams[event.stream_id]
        stream.drop()
        self._inside.consume_rest(stream.id)
        if not stream.ended:
            stream.aborted = event.error_code

    def on_stopped(self, event: events.StopSendingReceived) -> None:
        """Refuse further data for a stream that the peer does not read."""
        self._streams[event.stream_id].stopped = event.error_code
