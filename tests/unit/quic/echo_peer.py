"""aioquic's own connection on a real socket, driven by a thread: echoes streams and datagrams."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType

from aioquic.quic import events
from aioquic.quic.connection import QuicConnection


class EchoPeer:
    """``with EchoPeer(quic, sock):`` runs until its connection ends or the block does.

    Bidirectional streams are echoed; what comes on a unidirectional one goes back on one of ours.
    """

    def __init__(self, quic: QuicConnection, sock: socket.socket) -> None:
        self.quic = quic
        self.socket = sock
        self.terminated: events.ConnectionTerminated | None = None
        self.drop_every = 0
        """Every so many-th datagram that arrives is dropped; 0: none."""
        self.drop_until = 1 << 30
        """No datagram after so many is dropped."""
        self._arrived = 0
        self._stop = os.eventfd(0)
        self._actions: list[str] = []
        self._answers: dict[int, int] = {}
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> EchoPeer:
        self.socket.setblocking(False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.eventfd_write(self._stop, 1)
        self._thread.join()
        os.close(self._stop)

    def wait(self) -> events.ConnectionTerminated:
        """Wait until its connection has terminated."""
        self._thread.join(30)
        assert self.terminated is not None
        return self.terminated

    def ask(self, action: str) -> None:
        """Let its thread do something: ``close CODE REASON``, ``keys``, ``die``."""
        self._actions.append(action)
        os.eventfd_write(self._stop, 2)

    def _run(self) -> None:
        while self.terminated is None:
            for data, _ in self.quic.datagrams_to_send(time.monotonic()):
                with suppress(ConnectionRefusedError):
                    self.socket.send(data)
            due = self.quic.get_timer()
            timeout = None if due is None else max(0.0, due - time.monotonic())
            ready, _, _ = select.select([self.socket.fileno(), self._stop], [], [], timeout)
            if self._stop in ready:
                if not self._actions:
                    return
                os.eventfd_read(self._stop)
                if not self._act(self._actions.pop(0).split(" ", 2)):
                    return
            now = time.monotonic()
            if self.socket.fileno() in ready:
                self._take_in(now)
            due = self.quic.get_timer()
            if due is not None and due <= now:
                self.quic.handle_timer(now)
            while (event := self.quic.next_event()) is not None:
                self._on_event(event)

    def _take_in(self, now: float) -> None:
        while True:
            try:
                data = self.socket.recv(65535)
            except OSError:
                return
            self._arrived += 1
            if self._arrived > self.drop_until or not self.drop_every or self._arrived % self.drop_every:
                self.quic.receive_datagram(data, self.quic.get_peer_address(), now)

    def _act(self, words: list[str]) -> bool:
        match words:
            case ["close", code, reason]:
                self.quic.close(int(code), reason_phrase=reason)
            case ["keys"]:
                self.quic.request_key_update()
            case ["die"]:
                self.socket.close()
                return False
        return True

    def _on_event(self, event: events.QuicEvent) -> None:
        match event:
            case events.ConnectionTerminated():
                self.terminated = event
            case events.DatagramFrameReceived():
                self.quic.send_datagram_frame(event.data)
            case events.StreamDataReceived():
                stream_id = event.stream_id
                if stream_id & 2:
                    stream_id = self._answers.setdefault(
                        stream_id, self.quic.get_next_available_stream_id(is_unidirectional=True)
                    )
                self.quic.send_stream_data(stream_id, event.data, event.end_stream)
