"""Our connection and aioquic's, joined in memory with a clock of their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from aioquic.quic import events

from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.stream_state import StreamState
from tests.unit.quic.joined import Ends


class Pair:
    """Our connection and aioquic's, with a clock of their own that only moves when it is told to."""

    def __init__(self, ends: Ends, *, client: bool = True) -> None:
        self.now = time.monotonic()
        own, self.peer = (ends.client, ends.server) if client else (ends.server, ends.client)
        self.own = Connection(own)
        self.address = self.peer.get_peer_address()
        self.events: list[events.QuicEvent] = []
        self.lose: Callable[[bytes], bool] = lambda datagram: False

    def settle(self) -> None:
        """Carry datagrams, and let delayed acknowledgements run off, until neither side has anything more to send."""
        while True:
            self.now += 0.03
            if (due := self.own.timer()) is not None and due <= self.now:
                self.own.on_timer(self.now)
            self.run_peer()
            out = self.own.output(self.now)
            for data in out:
                if not self.lose(data):
                    self.peer.receive_datagram(data, self.address, self.now)
            while (event := self.peer.next_event()) is not None:
                self.events.append(event)
            back = [data for data, _ in self.peer.datagrams_to_send(self.now)]
            for data in back:
                self.own.receive(data, self.now)
            if not out and not back:
                return

    def run_peer(self) -> None:
        if (due := self.peer.get_timer()) is not None and due <= self.now:
            self.peer.handle_timer(self.now)

    def got(self, kind: type[Any]) -> list[Any]:
        """Return the events of one kind at the peer."""
        return [event for event in self.events if isinstance(event, kind)]

    def data(self, stream_id: int) -> bytes:
        return b"".join(event.data for event in self.got(events.StreamDataReceived) if event.stream_id == stream_id)


def opened(result: object) -> StreamState:
    assert isinstance(result, StreamState)
    return result
