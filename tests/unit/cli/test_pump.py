"""Data transfer between a session and input and output: an end is a success only where nothing was left to send."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.cli.options.pump import pump
from hsframework.interface import Role, Secret
from hsframework.testing.network import tcp_pair
from hsframework_tls13.channel import UserSpaceChannel
from hsframework_tls13.ciphers import AES_128_GCM
from hsframework_tls13.streams import AsyncTlsStream, TlsStream

SIZE = 1_500_000
SECRETS = Secret(b"c" * 32), Secret(b"s" * 32)


@pytest.fixture
def sink() -> Iterator[int]:
    """Open an output that nobody reads."""
    fd = os.open(os.devnull, os.O_WRONLY)
    yield fd
    os.close(fd)


def ends() -> tuple[AsyncTlsStream, TlsStream, socket.socket, socket.socket]:
    """Make a stream for the pump and its blocking peer, over TCP."""
    near, far = tcp_pair()
    ours = AsyncTlsStream(UserSpaceChannel(near, Role.SERVER, AES_128_GCM, *SECRETS))
    return ours, TlsStream(UserSpaceChannel(far, Role.CLIENT, AES_128_GCM, *SECRETS)), near, far


def received(peer: TlsStream) -> int:
    """Return the number of bytes up to the end of the direction."""
    return sum(map(len, iter(peer.receive, b"")))


@pytest.mark.parametrize("through_pipe", [False, True], ids=["file", "pipe"])
def test_a_peer_that_half_closes_first_gets_all_of_the_input(tmp_path: Path, sink: int, through_pipe: bool) -> None:
    """Its close_notify ends its own direction alone: the whole input arrives, from a file and from a pipe."""

    async def scene() -> int:
        ours, peer, near, far = ends()
        with near, far, (tmp_path / "input").open("wb+") as file:
            file.write(os.urandom(SIZE))
            file.seek(0)
            peer.send_eof()
            counting = asyncio.create_task(asyncio.to_thread(received, peer))
            if through_pipe:
                read_end, write_end = os.pipe()
                feeding = threading.Thread(target=_feed, args=(file.read(), write_end))
                feeding.start()
                await pump(ours, read_end, sink)
                feeding.join()
                os.close(read_end)
            else:
                await pump(ours, file.fileno(), sink)
            return await counting

    assert asyncio.run(scene()) == SIZE


def _feed(data: bytes, fd: int) -> None:
    with os.fdopen(fd, "wb") as pipe:
        pipe.write(data)


def test_input_that_cannot_be_delivered_is_an_error(tmp_path: Path, sink: int) -> None:
    """A peer that closes the connection under a file that is being sent: no success."""

    async def scene() -> None:
        ours, peer, near, far = ends()
        with near, (tmp_path / "input").open("wb+") as file:
            file.truncate(1 << 28)
            peer.send_eof()
            with pytest.raises(OSError):
                sending = asyncio.create_task(pump(ours, file.fileno(), sink))
                await asyncio.to_thread(peer.receive)
                far.close()
                await sending

    asyncio.run(scene())


def test_a_silent_pipe_is_not_waited_for_once_the_connection_has_ended(sink: int) -> None:
    """The peer closes its direction and then the connection, and the input neither ends nor has anything."""

    async def scene() -> None:
        ours, peer, near, far = ends()
        read_end, write_end = os.pipe()
        with near:
            peer.send_eof()
            pumping = asyncio.create_task(pump(ours, read_end, sink))
            far.close()
            await asyncio.wait_for(pumping, 60)
        os.close(write_end)

    asyncio.run(scene())
