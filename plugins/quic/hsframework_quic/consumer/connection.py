"""The consumer's connection without I/O: datagrams and the time go in, datagrams, deadlines and data come out.

* ``try_`` methods never wait.  They return :data:`~.later.LATER` where a caller has to wait for the peer.  After any of
  them, and after :meth:`Connection.receive` and :meth:`Connection.on_timer`, there may be output: send
  :meth:`Connection.output`, then arm a timer for :meth:`Connection.timer`.
* Nothing grows without bound.  Unread data of the peer is held by the receive windows; our data that the peer does not
  acknowledge, by :data:`~.streams.SEND_BUFFER` a stream; datagrams that nobody takes, by :data:`MAX_DATAGRAMS`, of
  which the oldest go first (RFC 9221 section 5.3 lets them); streams that nobody accepts, by
  :data:`~.streams.MAX_UNACCEPTED`.
* A datagram from the peer's own address that begins a connection: the peer may have died and come back.  It is asked
  by a PING, and if it does not answer, this connection ends: its socket keeps the newcomer from the listening one.
* A fault of aioquic's in the work that a peer gives it ends the connection: nobody waits for one that is half done.
* The end of a connection is known when it begins to close or drain.  Data that had arrived before can still be read.
* Key updates: one at a time, since a second needs a packet of the first to be acknowledged, whichever side began it
  (RFC 9001 section 6.1); and by itself long before the cipher's limit (section 6.6).
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aioquic.quic import events
from aioquic.quic.packet import QuicErrorCode, QuicFrameType

from hsframework.errors import StreamError
from hsframework_quic.aioquic_adapter.consumer import Inside
from hsframework_quic.consumer.endings import GONE, REPLACED, STATELESS_RESET, Ending, Undelivered, check_open
from hsframework_quic.consumer.later import LATER, Later, later
from hsframework_quic.consumer.streams import MAX_UNACCEPTED, Streams
from hsframework_quic.stateless_reset import is_stateless_reset

if TYPE_CHECKING:
    from aioquic.quic.connection import QuicConnection

MAX_DATAGRAMS = 1024
"""Received datagrams that wait to be taken, and our own that wait to be sent."""

PACKETS_PER_KEY = 1 << 22
"""Half the confidentiality limit of AES-GCM (RFC 9001 section 6.6)."""

CLOSE_PATIENCE = 3.0
"""Seconds that ``close`` waits at least for the peer's next acknowledgement of what was sent."""

PATIENCE_IN_PROBES = 4
"""The same in probe timeouts, for slow paths."""

SUSPICION = 1.0
"""Seconds that a peer has at least for a sign of life, once a newcomer has written from its address."""

SUSPICION_IN_PROBES = 6
"""The same in probe timeouts."""

REFUSALS = 3
"""ICMP "port unreachable" in a row after which the peer is taken for gone.

One alone may be left over from its close.
"""


class Connection:
    """A connection that continues a session.  ``quic``: as it was restored, its peer on one address."""

    def __init__(self, quic: QuicConnection) -> None:
        self._quic = quic
        self._inside = Inside(quic)
        self._address = quic.get_peer_address()
        self.streams = Streams(quic, self._inside, lambda: self._ending)
        self._datagrams: deque[bytes] = deque()
        self._refusals = 0
        self._ending: Ending | None = None
        self.end_was_told = False
        """True once a call has raised ConnectionEnded."""
        self._pings = 0
        self._asked: set[int] = set()
        self._answered: set[int] = set()
        self._key_ping: int | None = None
        """Acknowledged, it tells that the peer has the keys in use."""
        self._key_phase = self._inside.key_phase
        self._suspected: tuple[int, float] | None = None
        """A PING after a newcomer's datagram, and the time by which the peer has to acknowledge it."""
        self._packets = 0
        self._keep_alive: float | None = None
        self._active_at: float | None = None
        self._take_events()

    # Input and output

    def receive(self, datagram: bytes, now: float) -> None:
        """Take a datagram from the peer; ``now`` in seconds on a monotonic clock."""
        self._refusals = 0
        self._active_at = now
        if is_stateless_reset(datagram, self._inside.reset_token):
            self._end(STATELESS_RESET)
            return
        if self._inside.begins_another(datagram):
            self._suspect(now)
            return
        with self._contained():
            self._quic.receive_datagram(datagram, self._address, now)
            self._note_key_phase()
            self._take_events()

    def _suspect(self, now: float) -> None:
        """Ask the peer for a sign of life, once at a time."""
        if self._ending is None and self._suspected is None:
            number = self._send_ping()
            self._suspected = number, now + max(SUSPICION, SUSPICION_IN_PROBES * self._inside.probe_timeout)

    def refused(self) -> None:
        """Note that the socket has reported ECONNREFUSED: nobody listens at the peer's port."""
        self._refusals += 1
        if self._refusals >= REFUSALS:
            self._end(GONE)

    def output(self, now: float) -> list[bytes]:
        """Return the datagrams to send now."""
        if self._ending is not None and self._inside.close_event is None:
            return []
        if self._packets >= PACKETS_PER_KEY and self._ending is None:
            self.try_update_keys()
        self._inside.hold_streams = self.streams.unaccepted >= MAX_UNACCEPTED
        datagrams: list[bytes] = []
        with self._contained():
            datagrams = [data for data, _ in self._quic.datagrams_to_send(now)]
        self._packets += len(datagrams)
        if datagrams or self._active_at is None:
            self._active_at = now
        self.streams.prune()
        return datagrams

    def timer(self) -> float | None:
        """Return the time at which :meth:`on_timer` is due; None: never, the connection is over."""
        if self._ending is not None:
            return None
        due = self._quic.get_timer()
        if self._suspected is not None:
            due = self._suspected[1] if due is None else min(due, self._suspected[1])
        if self._keep_alive is None or self._active_at is None:
            return due
        return self._active_at + self._keep_alive if due is None else min(due, self._active_at + self._keep_alive)

    def on_timer(self, now: float) -> None:
        """Do the work that is due.  Call it at the time of :meth:`timer` or later."""
        if self._ending is not None:
            return
        if self._suspected is not None and now >= self._suspected[1]:
            self._end(REPLACED)
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

    # Datagrams (RFC 9221)

    @property
    def max_datagram_size(self) -> int | None:
        """The largest datagram, in bytes; None: the peer takes none."""
        return self._inside.max_datagram_size

    def try_send_datagram(self, data: bytes) -> bool | Later:
        """Queue a datagram.  Raises StreamError: EOPNOTSUPP where the peer takes none, EMSGSIZE for one too large."""
        check_open(self._ending)
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
        """Return the next datagram."""
        if self._datagrams:
            return self._datagrams.popleft()
        return later(self._ending)

    # The connection itself

    @property
    def ending(self) -> Ending | None:
        """The end of the connection; None: it goes on."""
        return self._ending

    def ping(self) -> int:
        """Send PING and return its number, for :meth:`try_answered`."""
        number = self._send_ping()
        self._asked.add(number)
        return number

    def try_answered(self, number: int) -> bool | Later:
        """Return True once the peer has acknowledged the PING of this number."""
        if number in self._answered:
            self._answered.discard(number)
            return True
        return later(self._ending)

    def try_update_keys(self) -> bool | Later:
        """Change the keys of both directions (RFC 9001 section 6).

        LATER while an earlier change is not acknowledged.
        """
        check_open(self._ending)
        if self._key_ping is not None:
            return LATER
        self._packets = 0
        self._quic.request_key_update()
        self._key_ping = self._send_ping()
        return True

    def _note_key_phase(self) -> None:
        """Ask for an acknowledgement under the new keys when the peer has changed them.

        Our next change must wait for it.
        """
        if self._inside.key_phase == self._key_phase:
            return
        self._key_phase = self._inside.key_phase
        if self._key_ping is None and self._ending is None:
            self._packets = 0
            self._key_ping = self._send_ping()

    def try_finished(self, before: int | None = None) -> bool | Later:
        """End stream 0, if there is one; return True once all data is acknowledged or the connection is over.

        With ``before`` False once less than so many bytes are left, so that a caller can wait on.
        """
        if self._ending is None:
            self.streams.end_main()
        if self._ending is not None or self._inside.flushed():
            return True
        return False if before is not None and self.undelivered() < before else LATER

    def undelivered(self) -> int:
        """Return the bytes of all streams that the peer has not acknowledged."""
        return self._inside.undelivered()

    def patience(self) -> float:
        """Return the seconds to wait for an acknowledgement while closing: :data:`CLOSE_PATIENCE`, or some probes."""
        return max(CLOSE_PATIENCE, PATIENCE_IN_PROBES * self._inside.probe_timeout)

    def check_delivered(self) -> None:
        """Raise Undelivered if a connection that is to be closed has data under way.

        A peer that has closed it with code 0 wants no more, and a caller who was told of the end knows.
        """
        size = self.undelivered()
        if size and not self.end_was_told and not (self._ending is not None and self._ending.orderly):
            raise Undelivered(size, self._ending)

    def close(self, code: int = 0, reason: str = "") -> None:
        """Close the connection: CONNECTION_CLOSE goes out with the next output.

        No effect on a connection that is over.
        """
        if self._ending is None:
            self._quic.close(code, reason_phrase=reason)
            self._end(Ending(code, reason, application=True, errno=errno.EBADF))

    def _send_ping(self) -> int:
        check_open(self._ending)
        self._pings += 1
        self._quic.send_ping(self._pings)
        return self._pings

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending

    # Events

    def _take_events(self) -> None:
        self.streams.note_new()
        while (event := self._quic.next_event()) is not None:
            match event:
                case events.StreamDataReceived():
                    self.streams.on_data(event)
                case events.StreamReset():
                    self.streams.on_reset(event)
                case events.StopSendingReceived():
                    self.streams.on_stopped(event)
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

    def _on_ping(self, number: int) -> None:
        if number == self._key_ping:
            self._key_ping = None
        elif self._suspected is not None and number == self._suspected[0]:
            self._suspected = None
        elif number in self._asked:
            self._asked.discard(number)
            self._answered.add(number)

    def _ending_of(self, closed: events.ConnectionTerminated) -> Ending:
        if self._inside.draining:
            return Ending(closed.error_code, closed.reason_phrase, application=closed.frame_type is None, by_peer=True)
        if closed.error_code == QuicErrorCode.INTERNAL_ERROR and closed.reason_phrase == "Idle timeout":
            return Ending(errno=errno.ETIMEDOUT)
        return Ending(closed.error_code, closed.reason_phrase, errno=errno.EPROTO)
