"""Both ends of an upcall under a test's control: kernel consumers that are cheaply had, and an agent that does what it
is told.

As a client nvme-tcp: writing to /dev/nvme-fabrics connects, asks for a handshake, and fails with the status of the
handshake if that is not 0.  Its server is any socket of ours.  The kernel lets one write in at a time.

As a server nvmet-tcp: each connection to it asks for a handshake, and is closed when that fails.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.packets import Item, receive_packet, send_packet, taken_apart
from hsframework.netlink.messages import NLM_F_ACK, Message, MessageCodec
from hsframework.netlink.spec import builtin_specification
from tests.kernel.consumers import HOST_NQN, nvme_target
from tests.support.house import ABLE

SUBSYSTEM = "nqn.2014-08.org.example:scripted"
_HOST_ID = HOST_NQN.rpartition(":")[2]
_OPTIONS = f"transport=tcp,nqn={SUBSYSTEM},hostnqn={HOST_NQN},hostid={_HOST_ID},tls,duplicate_connect"


@dataclass(frozen=True)
class Consumer:
    """One that asks for a handshake.  ``status``: the errno with which that ended.  ``peer``: its server's socket."""

    _ended: Future[int]
    peer: socket.socket

    @property
    def waits(self) -> bool:
        return not self._ended.done()

    def status(self) -> int:
        """Return the exit status, waiting less than the 10 s after which it would give up by itself."""
        return self._ended.result(8)

    def heard(self) -> bytes:
        """Return everything that it ever sent to its server, once its connection has ended."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := self.peer.recv(4096):
                data += piece
        return data


class Consumers:
    """nvme-tcp hosts, each with a connection to a listener of ours.  There must be a key (``nvme_key``)."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._listener.settimeout(20)
        self._peers: list[socket.socket] = []
        self._pool = ThreadPoolExecutor(64)

    def start(self, *options: str) -> Consumer:
        """Start one more."""
        ended = self._pool.submit(_connect, self._listener.getsockname()[1], *options)
        sock, _ = self._listener.accept()
        sock.settimeout(20)
        self._peers.append(sock)
        return Consumer(ended, sock)

    def close(self) -> None:
        for sock in (self._listener, *self._peers):
            sock.close()
        self._pool.shutdown()


def _connect(port: int, *options: str) -> int:
    where = ("traddr=127.0.0.1", f"trsvcid={port}", *options)
    with open("/dev/nvme-fabrics", "r+b", buffering=0) as device:
        try:
            device.write(",".join((_OPTIONS, *where)).encode())
        except OSError as error:
            return error.errno or 0
    return 0


class Connections:
    """To a target of the kernel's: each is a request, as a server.  The target gives up by itself after 10 s."""

    def __init__(self) -> None:
        self.all: list[socket.socket] = []

    def start(self) -> socket.socket:
        """Start one more."""
        sock = socket.create_connection(("127.0.0.1", 4420), timeout=8)
        self.all.append(sock)
        return sock

    def close(self) -> None:
        for sock in self.all:
            sock.close()


def refused(sock: socket.socket) -> bool:
    """True if the target closes the connection and has sent nothing but a TLS alert."""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(4096):
            assert piece[0] == 21
    return True


@contextlib.contextmanager
def connections() -> Iterator[Connections]:
    made = Connections()
    with nvme_target(SUBSYSTEM, "127.0.0.1"):
        try:
            yield made
        finally:
            made.close()


@contextlib.contextmanager
def consumers() -> Iterator[Consumers]:
    made = Consumers()
    try:
        yield made
    finally:
        made.close()


class ScriptedAgent:
    """An agent of one group that answers nothing by itself.  ``accept`` gives a request's values and socket.

    ``tls_policies``: says that it keeps to them, without which it gets no request that has one.
    """

    def __init__(self, runtime_dir: Path, group: str = "tlshd", *, tls_policies: bool = False) -> None:
        self._group = group
        self._tls_policies = tls_policies
        self._codec = MessageCodec(
            builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("reply", "event")
        )
        self._sequence = 0
        self._heard: deque[Item] = deque()
        self._handed: dict[int, socket.socket] = {}
        self.connect(runtime_dir)

    def join(self) -> None:
        """Come into the group."""
        values = {"group": [self._group], "protocol": "scripted", "agent": "scripted", **ABLE}
        self._acknowledged("join", {**values, "tls-policies": self._tls_policies})

    def leave(self) -> None:
        """Go out of it by one's own word."""
        self._acknowledged("leave", {"group": [self._group]})

    def accept(self, number: int = 1) -> list[tuple[int, socket.socket]]:
        """Accept the next requests, and return their ids and sockets."""
        found: list[tuple[int, socket.socket]] = []
        while len(found) < number:
            self._send("accept", {"group": self._group, "count": number - len(found)})
            while len(found) < number:
                message, fd = self._receive()
                if message.operation == "accept":
                    assert fd is not None
                    request = message.values["request-id"]
                    self._handed[request] = socket.socket(fileno=fd)
                    found.append((request, self._handed[request]))
                elif fd is not None:
                    os.close(fd)
                if message.operation == "error":
                    self._await("ready")
                    break
        return found

    def accept_nothing(self) -> None:
        """Accept what is announced, and be told that there is nothing for this agent."""
        self._await("ready")
        self._send("accept", {"group": self._group})
        self._await("error")

    def done(self, request: int, status: int, **values: Any) -> None:
        """End a request as an agent does; its socket is closed before."""
        self._handed.pop(request).close()
        self._acknowledged("done", {"request-id": request, "status": status, **values})

    def restore(self, request: int, sock: socket.socket, source: str = "kernel") -> None:
        """Give a request of an earlier dispatcher back."""
        values = {"request-id": request, "group": self._group, "source": source, "kernel-consumer": True}
        self._acknowledged("restore", values, sock.fileno())

    def close(self) -> None:
        """Close everything, without a message."""
        for sock in (self._socket, *self._handed.values()):
            sock.close()

    def lost(self) -> None:
        """Wait until the dispatcher is gone.  The requests in hand stay."""
        while receive_packet(self._socket)[0]:
            pass
        self._socket.close()

    def connect(self, runtime_dir: Path) -> None:
        """Connect to the next dispatcher."""
        self._heard.clear()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(20)
        self._socket.connect(str(runtime_dir / "agent.sock"))
        self.join()

    def __enter__(self) -> ScriptedAgent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, operation: str, values: Mapping[str, Any], fd: int | None = None, flags: int = 0) -> None:
        self._sequence += 1
        message = self._codec.encode(operation, values, sequence=self._sequence, flags=flags)
        send_packet(self._socket, message, *([] if fd is None else [fd]))

    def _receive(self) -> tuple[Message, int | None]:
        if not self._heard:
            data, fds = receive_packet(self._socket)
            assert data, "the dispatcher is gone"
            self._heard.extend(taken_apart(data, fds))
        data, fd = self._heard.popleft()
        return self._codec.decode(data), fd

    def _await(self, operation: str) -> Message:
        while True:
            message, fd = self._receive()
            if fd is not None:
                os.close(fd)
            if message.operation == operation:
                return message

    def _acknowledged(self, operation: str, values: Mapping[str, Any], fd: int | None = None) -> None:
        self._send(operation, values, fd, NLM_F_ACK)
        assert self._await("error").error == 0
