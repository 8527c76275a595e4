"""Both client libraries behind one blocking face, so that a test can be run with either."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from hsframework.client import AsyncClient, AsyncSession, BaseSession, Client, HandshakeOptions, Session
from hsframework.registry.plugins import Registry
from tests.support.processes import PATIENCE

T = TypeVar("T")


class Talk(ABC):
    """A session and its stream."""

    session: BaseSession

    @abstractmethod
    def send(self, data: bytes) -> None: ...

    @abstractmethod
    def receive(self, max_size: int = 65536) -> bytes: ...

    @abstractmethod
    def update_keys(self, *, request_peer: bool) -> None: ...

    @abstractmethod
    def send_eof(self) -> None: ...

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def exchange(self, data: bytes) -> bytes:
        """Send ``data`` and receive as many bytes, both at once."""

    def receive_exactly(self, size: int) -> bytes:
        """Receive ``size`` bytes; fewer when the peer closes before."""
        parts = bytearray()
        while len(parts) < size and (data := self.receive(size - len(parts))):
            parts += data
        return bytes(parts)


class Door(ABC):
    """A client of the service."""

    @abstractmethod
    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Talk: ...


class SyncDoor(Door):
    def __init__(self, client: Client) -> None:
        self._client = client

    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Talk:
        return _SyncTalk(self._client.handshake(sock, options))


class AsyncDoor(Door):
    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def handshake(self, sock: socket.socket, options: HandshakeOptions) -> Talk:
        return _AsyncTalk(self._runner.run(self._client.handshake(sock, options)), self._runner)


@contextlib.contextmanager
def open_door(kind: str, runtime: Path, registry: Registry | None = None) -> Iterator[Door]:
    """Open the door of a kind: sync or async."""
    if kind == "sync":
        with Client(runtime, registry=registry) as client:
            yield SyncDoor(client)
        return
    with asyncio.Runner() as runner:
        asynchronous = AsyncClient(runtime, registry=registry)
        yield AsyncDoor(asynchronous, runner)
        runner.run(_close(asynchronous))


async def _close(client: AsyncClient) -> None:
    client.close()


class _SyncTalk(Talk):
    def __init__(self, session: Session) -> None:
        self.session = session
        self._stream: Any = session.stream()

    def send(self, data: bytes) -> None:
        self._stream.send(data)

    def receive(self, max_size: int = 65536) -> bytes:
        data: bytes = self._stream.receive(max_size)
        return data

    def update_keys(self, *, request_peer: bool) -> None:
        self._stream.update_keys(request_peer)

    def send_eof(self) -> None:
        self._stream.send_eof()

    def close(self) -> None:
        self._stream.close()

    def exchange(self, data: bytes) -> bytes:
        sender = threading.Thread(target=self.send, args=(data,), daemon=True)
        sender.start()
        received = self.receive_exactly(len(data))
        sender.join(PATIENCE)
        assert not sender.is_alive()
        return received


class _AsyncTalk(Talk):
    def __init__(self, session: AsyncSession, runner: asyncio.Runner) -> None:
        self.session = session
        self._runner = runner
        self._stream: Any = session.stream()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(_bounded(coroutine))

    def send(self, data: bytes) -> None:
        self._run(self._stream.send(data))

    def receive(self, max_size: int = 65536) -> bytes:
        data: bytes = self._run(self._stream.receive(max_size))
        return data

    def update_keys(self, *, request_peer: bool) -> None:
        self._run(self._stream.update_keys(request_peer))

    def send_eof(self) -> None:
        self._run(self._stream.send_eof())

    def close(self) -> None:
        self._run(self._stream.close())

    def exchange(self, data: bytes) -> bytes:
        async def both() -> bytes:
            sender = asyncio.create_task(self._stream.send(data))
            parts = bytearray()
            while len(parts) < len(data) and (part := await self._stream.receive(len(data) - len(parts))):
                parts += part
            await sender
            return bytes(parts)

        return self._run(both())


async def _bounded(coroutine: Coroutine[Any, Any, T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await coroutine
