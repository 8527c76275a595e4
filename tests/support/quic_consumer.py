"""A consumer's end of a QUIC session in blocking calls, and UDP sockets as the service wants them.

It works on the restored connection itself, so that aioquic's HTTP/3 can speak over it to programs that speak nothing
else.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Callable, Iterator

from aioquic.h3.connection import H3Connection
from aioquic.h3.events import DataReceived, H3Event, HeadersReceived
from aioquic.quic import events

from hsframework.client import Client, HandshakeOptions, Session
from hsframework_quic.aioquic_adapter.handshaking import PEER
from hsframework_quic.aioquic_adapter.restore import restore
from hsframework_quic.session import QuicSession

PATIENCE = 20.0
"""Seconds for anything that is to happen."""


class Consumer:
    """Session of the service, on its socket."""

    def __init__(self, sock: socket.socket, session: Session) -> None:
        self.session = session
        self.socket = sock
        self.handed_over = QuicSession.of(session.established)
        self.quic = restore(self.handed_over, now=time.monotonic())
        self.events: list[events.QuicEvent] = []
        self.on_event: Callable[[events.QuicEvent], None] = lambda event: None
        for packet in self.handed_over.packets:
            self.quic.receive_datagram(packet, PEER, time.monotonic())

    def until(self, condition: Callable[[], bool]) -> None:
        """Do the connection's work until it is so."""
        end = time.monotonic() + PATIENCE
        self._work()
        while not condition():
            assert time.monotonic() < end, f"it did not happen; last events: {self.events[-5:]}"
            timer = self.quic.get_timer()
            assert timer is not None, f"the connection is over: {self.events[-1:]}"
            ready, _, _ = select.select([self.socket], [], [], max(0.0, min(timer, end) - time.monotonic()))
            now = time.monotonic()
            if ready:
                with contextlib.suppress(ConnectionRefusedError):
                    self.quic.receive_datagram(self.socket.recv(65535), PEER, now)
            elif now >= timer:
                self.quic.handle_timer(now)
            self._work()

    def _work(self) -> None:
        while (event := self.quic.next_event()) is not None:
            self.events.append(event)
            self.on_event(event)
        for data, _ in self.quic.datagrams_to_send(time.monotonic()):
            with contextlib.suppress(ConnectionRefusedError):
                self.socket.send(data)

    @property
    def ended(self) -> events.ConnectionTerminated | None:
        """Return the event with which the connection ended."""
        return next((item for item in self.events if isinstance(item, events.ConnectionTerminated)), None)

    def close(self) -> None:
        """Say goodbye."""
        self.quic.close()
        self._work()


class Http:
    """HTTP/3 over it: what the other programs speak."""

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        self.http = H3Connection(consumer.quic)
        self.headers: dict[int, dict[bytes, bytes]] = {}
        self.bodies: dict[int, bytearray] = {}
        self.whole: list[int] = []
        consumer.on_event = self._take
        for event in consumer.events:
            self._take(event)

    def _take(self, event: events.QuicEvent) -> None:
        for item in self.http.handle_event(event):
            self._note(item)

    def _note(self, item: H3Event) -> None:
        if isinstance(item, HeadersReceived):
            self.headers[item.stream_id] = dict(item.headers)
        if isinstance(item, DataReceived):
            self.bodies.setdefault(item.stream_id, bytearray()).extend(item.data)
        if isinstance(item, (HeadersReceived, DataReceived)) and item.stream_ended:
            self.whole.append(item.stream_id)

    def get(self, path: str) -> bytes:
        """Get the body at ``path``."""
        stream = self.consumer.quic.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "https"), (":authority", "server.example"), (":path", path)]
        self.http.send_headers(stream, [(name.encode(), value.encode()) for name, value in fields], end_stream=True)
        self.consumer.until(lambda: stream in self.whole)
        return bytes(self.bodies.get(stream, b""))

    def serve(self, body: bytes) -> bytes:
        """Wait for one request, answer it with ``body``; the request's own body is returned."""
        self.consumer.until(lambda: bool(self.whole))
        stream = self.whole[0]
        self.http.send_headers(stream, [(b":status", b"200"), (b"content-length", str(len(body)).encode())])
        self.http.send_data(stream, body, end_stream=True)
        return bytes(self.bodies.get(stream, b""))


def connected_udp(address: tuple[str, int]) -> socket.socket:
    """Connect a client's socket."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.connect(address)
    return sock


@contextlib.contextmanager
def listening_udp() -> Iterator[socket.socket]:
    """Make a socket on loopback that waits for one client."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.settimeout(PATIENCE)
        yield sock


def first_datagram(sock: socket.socket) -> bytes:
    """Receive from the first client that comes; the socket is connected to it from then on."""
    data, address = sock.recvfrom(65535)
    sock.connect(address)
    return data


def hand_over(client: Client, sock: socket.socket, options: HandshakeOptions) -> Consumer:
    """Run the handshake by the service and go on."""
    return Consumer(sock, client.handshake(sock, options))
