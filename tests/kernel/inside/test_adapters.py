"""The adapters where the session is in the kernel: the object is the socket, and sendfile(2) works on it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.adapters import aio
from hsframework.adapters.sockets import SessionSocket
from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.interface import Role
from hsframework.testing.network import tcp_pair
from tests.kernel.house import ROOT, House, house

NAME = "server.test"
BODY = os.urandom(4 << 20)
OURS = HandshakeOptions(peer_name=NAME, trust=ROOT.trust(), timeout=20)
THEIRS = HandshakeOptions(role=Role.SERVER, identities=(ROOT.issue([NAME]).identity,), timeout=20)


@pytest.fixture(scope="module")
def running() -> Iterator[House]:
    with house(more="[plugins.tls13]\nkernel-offload = true\n") as service:
        yield service


def test_sendfile(running: House, tmp_path: Path) -> None:
    """4 MiB by the kernel alone, with our method and with os.sendfile; then the proper end, and data the other way."""
    path = tmp_path / "file"
    path.write_bytes(BODY)
    near, far = tcp_pair()
    with Client(running.runtime_dir) as client, ThreadPoolExecutor(1) as threads:
        other = threads.submit(SessionSocket.wrap, client, far, THEIRS)
        with SessionSocket.wrap(client, near, OURS) as here, other.result() as there, path.open("rb") as file:
            assert here.session.in_kernel
            assert there.session.in_kernel
            reading = threads.submit(lambda: b"".join(iter(there.recv, b"")))
            assert here.sendfile(file) == len(BODY)
            sent = 0
            while sent < len(BODY):
                sent += os.sendfile(here.fileno(), file.fileno(), sent, len(BODY) - sent)
            here.shutdown(socket.SHUT_WR)
            assert reading.result(60) == BODY + BODY
            there.sendall(b"back")
            assert here.recv(1) == b"b"
            assert here.pending() == 3
            with pytest.raises(ValueError, match="in the kernel"):
                here.unwrap()


def test_streams(running: House) -> None:
    """asyncio's streams over sessions in the kernel: an echo, and the end of each direction."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert writer.get_extra_info("session").in_kernel
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def scene() -> None:
        async with (
            AsyncClient(running.runtime_dir) as client,
            await aio.start_server(client, echo, "127.0.0.1", 0, THEIRS) as server,
        ):
            reader, writer = await aio.open_connection(client, "127.0.0.1", server.sockets[0].getsockname()[1], OURS)
            reading = asyncio.ensure_future(reader.read())
            for start in range(0, len(BODY), 1 << 18):
                writer.write(BODY[start : start + (1 << 18)])
                await writer.drain()
            writer.write_eof()
            assert await reading == BODY
            writer.close()
            await writer.wait_closed()

    asyncio.run(scene())
