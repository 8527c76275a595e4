"""The consumer's connection without I/O: datagrams and the time go in, datagrams, deadlines and data come out.

* ``try_`` methods never wait.  They return :data:`LATER` where a caller has to wait for the peer.  After any of them,
  and after :meth:`Connection.receive` and :meth:`Connection.on_timer`, there may be output: send
  :meth:`Connection.output`, then arm a timer for :meth:`Connection.timer`.
* Nothing grows without bound.  What a peer sends and nobody reads is held by the receive windows; what we send and the
  peer does not acknowledge, by :data:`SEND_BUFFER` a stream; datagrams that nobody takes, by :data:`MAX_DATAGRAMS`, of
  which the oldest go first (RFC 9221 section 5.3 lets them); streams that nobody accepts, by :data:`MAX_UNACCEPTED`.
* A fault of aioquic's in the work that a peer gives it ends the connection: nobody waits for one that is half done.
* The end of a connection is known when it begins to close or drain.  What had arrived before can still be read.
* Key updates: one at a time, since a second needs a packet of the first to be acknowledged, whichever side began it
  (RFC 9001 section 6.1); and by itself long before the cipher's limit (section 6.6).
"""

from __future__ import annotations

import enum
import errno
import hmac
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from hsframework.errors import StreamError
from hsframework_quic.aioquic_adapter.consumer import Inside
from hsframework_quic.consumer.endings import GONE, NO_ERROR, STATELESS_RESET, ConnectionEnded, Ending, StreamAborted
from hsframework_quic.consumer.stream_state import StreamState

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection

SEND_BUFFER = 512 * 1024
"""Bytes a stream that may be under way or wait; a sender waits beyond that."""

MAX_DATAGRAMS = 1024
"""Received datagrams that wait to be taken, and our own that wait to be sent."""

MAX_UNACCEPTED = 128
"""Streams of the peer's that wait to be accepted, past which it is allowed no more."""

PACKETS_PER_KEY = 1 << 22
"""Half the confidentiality limit of AES-GCM (RFC 9001 section 6.6)."""

REFUSALS = 3
"""ICMP "port unreachable" in a row after which the peer is taken for gone.

One alone may be left over from its close.
"""

MIN_RESET = 21
"""Bytes of the shortest stateless reset (RFC 9000 section 10.3)."""


class Later(enum.Enum):
    """The answer of a ``try_`` method that cannot be given yet."""

    LATER = enum.auto()


LATER: Final = Later.LATER


class Connection:
    """A connection that goes on from a handed-over session.  ``quic``: as it was restored, its peer on one address."""

    def __init__(self, quic: QuicConnection) -> None:
        self._quic = quic
        self._inside = Inside(quic)
        self._is_client = quic.configuration.is_client
        self._address = quic.get_peer_address()
        self._streams: dict[int, StreamState] = {}
        self._prune_at = 64
        self._incoming: dict[bool, deque[StreamState]] = {False: deque(), True: deque()}
        self._noted = {False: 0, True: 0}
        """Streams of the peer's that are in ``_streams`` or were, by kind."""
        self._datagrams: deque[bytes] = deque()
        self._refusals = 0
        self._ending: Ending | None = None
        self._pings = 0
        self._asked: set[int] = set()
        self._answered: set[int] = set()
        self._key_ping: int | None = None
        """Acknowledged, it tells that the peer has the keys in use."""
        self._key_phase = self._inside.key_phase
        self._packets = 0
        self._keep_alive: float | None = None
        self._active_at: float | None = None
        self._take_events()

    # Input and output

    def receive(self, datagram: bytes, now: float) -> None:
        """A datagram from the peer; ``now`` in seconds on a monotonic clock."""
        self._refusals = 0
        self._active_at = now
        if self._is_stateless_reset(datagram):
            self._end(STATELESS_RESET)
            return
        with self._contained():
            self._quic.receive_datagram(datagram, self._address, now)
            self._note_key_phase()
            self._take_events()

    def refused(self) -> None:
        """The socket says that nobody listens at the peer's port."""
        self._refusals += 1
        if self._refusals >= REFUSALS:
            self._end(GONE)

    def output(self, now: float) -> list[bytes]:
        """Datagrams to send now."""
        if self._ending is not None and self._inside.close_event is None:
            return []
        if self._packets >= PACKETS_PER_KEY and self._ending is None:
            self.try_update_keys()
        self._inside.hold_streams = sum(map(len, self._incoming.values())) >= MAX_UNACCEPTED
        datagrams: list[bytes] = []
        with self._contained():
            datagrams = [data for data, _ in self._quic.datagrams_to_send(now)]
        self._packets += len(datagrams)
        if datagrams or self._active_at is None:
            self._active_at = now
        if len(self._streams) > self._prune_at:
            self._prune()
        return datagrams

    def timer(self) -> float | None:
        """When :meth:`on_timer` is due; None: nothing is, the connection is over."""
        if self._ending is not None:
            return None
        due = self._quic.get_timer()
        if self._keep_alive is None or self._active_at is None:
            return due
        return self._active_at + self._keep_alive if due is None else min(due, self._active_at + self._keep_alive)

    def on_timer(self, now: float) -> None:
        """To be called at the time of :meth:`timer` or later."""
        if self._ending is not None:
            return
        with self._contained():
            self._quic.handle_timer(now)
            self._take_events()
        if self._keep_alive is not None and self._active_at is not None and now >= self._active_at + self._keep_alive:
            self._active_at = now
            self._quic.send_ping(0)

    def keep_alive(self, interval: float | None) -> None:
        """Send PING after so many seconds in which nothing was sent or received; None: do not."""
        self._keep_alive = interval

    @contextmanager
    def _contained(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._quic.close(QuicErrorCode.INTERNAL_ERROR, QuicFrameType.PADDING)
            self._end(Ending(QuicErrorCode.INTERNAL_ERROR, type(error).__name__, errno=errno.EIO))

    def _is_stateless_reset(self, datagram: bytes) -> bool:
        """RFC 9000 section 10.3.1.  The token of an ordinary packet would be its AEAD tag, which nobody can choose."""
        token = self._inside.reset_token
        return len(token) == 16 and len(datagram) >= MIN_RESET and hmac.compare_digest(datagram[-16:], token)

    # Streams

    def try_open(self, unidirectional: bool) -> StreamState | Later:
        """A new stream of ours; LATER while the peer allows no more."""
        self._check()
        if not self._inside.may_open(unidirectional):
            return LATER
        stream_id = self._quic.get_next_available_stream_id(unidirectional)
        # An empty write makes the stream known; the peer learns of it with the first data.
        self._quic.send_stream_data(stream_id, b"")
        stream = self._streams[stream_id] = StreamState(stream_id, is_client=self._is_client)
        return stream

    def try_accept(self, unidirectional: bool | None) -> StreamState | Later | None:
        """The next stream that the peer opened, of one kind or of either.

        None: it closed the connection with code 0.
        """
        kinds = (False, True) if unidirectional is None else (unidirectional,)
        waiting = [self._incoming[kind] for kind in kinds if self._incoming[kind]]
        if waiting:
            return waiting[0].popleft()
        if self._ending is not None and self._ending.by_peer and self._ending.orderly:
            return None
        return self._later()

    def try_main(self) -> StreamState | Later:
        """The client's first bidirectional stream, number 0: opened by a client, awaited by a server."""
        stream = self._streams.get(0)
        if stream is None:
            return self._open_main() if self._is_client else self._later()
        if stream in self._incoming[False]:
            self._incoming[False].remove(stream)
        return stream

    def _open_main(self) -> StreamState | Later:
        stream = self.try_open(False)
        if isinstance(stream, StreamState):
            # A server may speak first, and cannot before it knows of the stream.
            self._inside.announce(stream.id)
        return stream

    def _later(self) -> Later:
        self._check()
        return LATER

    def try_send(self, stream: StreamState, data: memoryview) -> int | Later:
        """Takes over as much of ``data`` as there is room for; how many bytes, at least one."""
        self._check_sending(stream)
        room = SEND_BUFFER - self._inside.unacknowledged(stream.id)
        if room <= 0 and data:
            return LATER
        self._quic.send_stream_data(stream.id, bytes(data[:room]))
        return min(room, len(data))

    def send_eof(self, stream: StreamState) -> None:
        """FIN; a second one says nothing, nor does one on a stream that the peer has stopped."""
        self._check()
        if stream.sent_eof or stream.stopped is not None:
            return
        self._check_sending(stream)
        stream.sent_eof = True
        self._quic.send_stream_data(stream.id, b"", end_stream=True)

    def try_receive(self, stream: StreamState, max_size: int) -> bytes | Later:
        """1 to ``max_size`` bytes; ``b""`` at the end that the peer set."""
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
        return self._later()

    def reset(self, stream: StreamState, code: int) -> None:
        """Give up sending: RESET_STREAM.  What was not acknowledged is lost."""
        if self._ending is None and stream.can_send:
            stream.sent_eof = True
            self._quic.reset_stream(stream.id, code)

    def stop(self, stream: StreamState, code: int) -> None:
        """Ask the peer to stop sending: STOP_SENDING.  What arrived and was not read is dropped."""
        if not stream.can_receive or stream.ended or stream.aborted is not None:
            return
        if dropped := stream.drop():
            self._inside.consume(stream.id, dropped)
        stream.ended = True
        if self._ending is None and self._inside.has_stream(stream.id):
            self._quic.stop_stream(stream.id, code)

    def finish(self, stream: StreamState) -> None:
        """Be done with a stream: FIN, STOP_SENDING.  Never raises."""
        if self._ending is None and stream.can_send:
            self.send_eof(stream)
        self.stop(stream, NO_ERROR)

    def _check_sending(self, stream: StreamState) -> None:
        if not stream.can_send:
            raise StreamError(
                f"stream {stream.id} is unidirectional and the peer's: it can be received from alone", errno=errno.EBADF
            )
        if stream.stopped is not None:
            raise StreamAborted(f"the peer has stopped stream {stream.id}", stream.stopped, errno.EPIPE)
        self._check()
        if stream.sent_eof:
            raise StreamError(f"stream {stream.id} has been ended on this side", errno=errno.EPIPE)

    def _prune(self) -> None:
        """Forget streams that are over and read to their end.  Number 0 is kept: :meth:`try_main` asks for it."""
        waiting = {stream.id for queue in self._incoming.values() for stream in queue}
        self._streams = {
            stream.id: stream
            for stream in self._streams.values()
            if stream.id == 0 or stream.id in waiting or stream.chunks or self._inside.has_stream(stream.id)
        }
        self._prune_at = 2 * len(self._streams) + 64

    # Datagrams (RFC 9221)

    @property
    def max_datagram_size(self) -> int | None:
        """Bytes in one datagram at most; None: the peer takes none."""
        return self._inside.max_datagram_size

    def try_send_datagram(self, data: bytes) -> bool | Later:
        """Raises StreamError: EOPNOTSUPP where the peer takes none, EMSGSIZE for one too large."""
        self._check()
        limit = self.max_datagram_size
        if limit is None:
            raise StreamError("the peer takes no datagrams (RFC 9221); use a stream", errno=errno.EOPNOTSUPP)
        if len(data) > limit:
            raise StreamError(f"the datagram has {len(data)} bytes and {limit} fit", errno=errno.EMSGSIZE)
        if self._inside.datagrams_waiting >= MAX_DATAGRAMS:
            return LATER
        self._quic.send_datagram_frame(data)
        return True

    def try_receive_datagram(self) -> bytes | Later:
        """The next datagram."""
        if self._datagrams:
            return self._datagrams.popleft()
        return self._later()

    # The connection itself

    @property
    def ending(self) -> Ending | None:
        """Why the connection is over; None: it is not."""
        return self._ending

    def ping(self) -> int:
        """Send PING.  :meth:`try_answered` tells when this number of it was acknowledged."""
        number = self._send_ping()
        self._asked.add(number)
        return number

    def try_answered(self, number: int) -> bool | Later:
        """Has the peer acknowledged this PING?"""
        if number in self._answered:
            self._answered.discard(number)
            return True
        return self._later()

    def try_update_keys(self) -> bool | Later:
        """Change the keys of both directions (RFC 9001 section 6).

        LATER while an earlier change is not acknowledged.
        """
        self._check()
        if self._key_ping is not None:
            return LATER
        self._packets = 0
        self._quic.request_key_update()
        self._key_ping = self._send_ping()
        return True

    def _note_key_phase(self) -> None:
        """Has the peer changed the keys?  Then it must acknowledge something under the new ones before we do."""
        if self._inside.key_phase == self._key_phase:
            return
        self._key_phase = self._inside.key_phase
        if self._key_ping is None and self._ending is None:
            self._packets = 0
            self._key_ping = self._send_ping()

    def try_finished(self) -> bool | Later:
        """End stream 0, if it is there.  Has the peer acknowledged all that was sent?  True also once it is over."""
        main = self._streams.get(0)
        if self._ending is None and main is not None:
            self.send_eof(main)
        return True if self._ending is not None or self._inside.flushed() else LATER

    def close(self, code: int = 0, reason: str = "") -> None:
        """Say CONNECTION_CLOSE with the next output.  No effect on a connection that is over."""
        if self._ending is None:
            self._quic.close(code, reason_phrase=reason)
            self._end(Ending(code, reason, application=True, errno=errno.EBADF))

    def _send_ping(self) -> int:
        self._check()
        self._pings += 1
        self._quic.send_ping(self._pings)
        return self._pings

    def _check(self) -> None:
        if self._ending is not None:
            raise ConnectionEnded(self._ending)

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending

    # Events

    def _take_events(self) -> None:
        self._note_new_streams()
        while (event := self._quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived():
                    self._on_data(event)
                case events.StreamReset():
                    self._on_reset(event)
                case events.StopSendingReceived():
                    self._streams[event.stream_id].stopped = event.error_code
                case events.DatagramFrameReceived():
                    if len(self._datagrams) == MAX_DATAGRAMS:
                        self._datagrams.popleft()
                    self._datagrams.append(event.data)
                case events.PingAcknowledged():
                    self._on_ping(event.uid)
                case _:
                    pass
        if self._ending is None and (closed := self._inside.close_event) is not None:
            self._end(self._ending_of(closed))

    def _on_data(self, event: events.StreamDataReceived) -> None:
        stream = self._streams[event.stream_id]
        if stream.ended:  # stopped by us: what still comes is for nobody
            self._inside.consume(stream.id, len(event.data))
            return
        if event.data:
            stream.chunks.append(event.data)
        stream.ended = event.end_stream

    def _on_reset(self, event: events.StreamReset) -> None:
        stream = self._streams[event.stream_id]
        stream.drop()
        self._inside.consume_rest(stream.id)
        if not stream.ended:
            stream.aborted = event.error_code

    def _on_ping(self, number: int) -> None:
        if number == self._key_ping:
            self._key_ping = None
        elif number in self._asked:
            self._asked.discard(number)
            self._answered.add(number)

    def _note_new_streams(self) -> None:
        """In the order of their numbers: one opens all before it, also without data (RFC 9000 section 2.1)."""
        for unidirectional, queue in self._incoming.items():
            opened = self._inside.opened_by_peer(unidirectional)
            while self._noted[unidirectional] < opened:
                stream_id = 4 * self._noted[unidirectional] + 2 * unidirectional + self._is_client
                self._noted[unidirectional] += 1
                stream = self._streams[stream_id] = StreamState(stream_id, is_client=self._is_client)
                queue.append(stream)

    def _ending_of(self, closed: events.ConnectionTerminated) -> Ending:
        if self._inside.draining:
            return Ending(closed.error_code, closed.reason_phrase, application=closed.frame_type is None, by_peer=True)
        if closed.error_code == QuicErrorCode.INTERNAL_ERROR and closed.reason_phrase == "Idle timeout":
            return Ending(errno=errno.ETIMEDOUT)
        return Ending(closed.error_code, closed.reason_phrase, errno=errno.EPROTO)
