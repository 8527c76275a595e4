"""A dispatcher that does what a test tells it: a SOCK_SEQPACKET server in a thread, speaking the local family."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from hsframework import __version__
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.packets import receive_packet, send_packet, taken_apart
from hsframework.netlink.messages import Message, MessageCodec, encode_error
from hsframework.netlink.spec import builtin_specification

CODEC = MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("request",))
STATE: Mapping[str, Mapping[str, Any]] = {
    "status": {"report": json.dumps({"version": __version__})},
    "groups": {"group": "tiny", "agent": [{"name": "tiny", "protocol": "tiny", "process": os.getpid(), "user": 0}]},
}
"""Answers about itself: one agent serves the group ``tiny``."""
SUCCESS: Mapping[str, Any] = {"status": 0, "protocol": "tiny", "session": b"\x01\x02"}


class Submission:
    """One message that a consumer sent, with what came along; answered by the test."""

    def __init__(self, connection: socket.socket, data: bytes, fds: list[int]) -> None:
        self.connection = connection
        self.data = data
        self.fds = fds
        self.message: Message = CODEC.decode(data)

    def result(self, values: Mapping[str, Any] = SUCCESS, *, fd: int | None = None) -> None:
        send_packet(
            self.connection,
            CODEC.encode("result", values, sequence=self.message.sequence),
            *([] if fd is None else [fd]),
        )

    def garbage(self) -> None:
        self.connection.send(b"hello")

    def refuse(self, number: int, text: str = "") -> None:
        send_packet(self.connection, encode_error(number, self.message.sequence, text))


class FakeDispatcher:
    """Listens in ``directory``.  ``on_submit`` runs in a connection's thread; every message also goes to ``seen``."""

    def __init__(self, directory: Path, on_submit: Callable[[Submission], None] = Submission.result) -> None:
        self.directory = directory
        self.path = directory / "consumer.sock"
        self.on_submit = on_submit
        self.on_trust: Callable[[Submission], None] = lambda _: None
        self.seen: queue.SimpleQueue[Submission] = queue.SimpleQueue()
        self.connections: list[socket.socket] = []
        self.gone: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(self.path))
        self._listener.listen(64)
        self._start(self._accept)

    def __enter__(self) -> FakeDispatcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as if the dispatcher had died."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        self.path.unlink(missing_ok=True)

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            while True:
                try:
                    data, fds = receive_packet(connection)
                except OSError:
                    break
                if not data:
                    break
                for message, fd in taken_apart(data, fds):
                    self._serve_message(Submission(connection, message, [] if fd is None else [fd]))
        self.gone.put(connection)

    def _serve_message(self, submission: Submission) -> None:
        self.seen.put(submission)
        if submission.message.operation == "submit":
            with contextlib.suppress(OSError):
                self.on_submit(submission)
        elif submission.message.operation == "trust":
            self.on_trust(submission)
        elif submission.message.operation in STATE:
            name = submission.message.operation
            with contextlib.suppress(OSError):
                answer = CODEC.encode(name, STATE[name], sequence=submission.message.sequence)
                send_packet(submission.connection, answer)
                submission.refuse(0)
        for fd in submission.fds:
            os.close(fd)
