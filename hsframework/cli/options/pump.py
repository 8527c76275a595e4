"""Data transfer between a session and this process's input and output."""

from __future__ import annotations

import asyncio
import os
import select
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

from hsframework.cli.options.stream import half_close
from hsframework.interface import AsyncStream

CHUNK = 65536
_READ_AHEAD = 4


async def pump(stream: AsyncStream, input_fd: int, output_fd: int) -> None:
    """Send input to the peer and write received data to output, until both directions are closed.

    The end of the input closes our direction (close_notify) and leaves the other open.  The peer's end closes its own
    alone: what is left of the input is sent, so that an end of this function is no loss.  A terminal is not waited
    for, nor is a silent pipe once the connection itself has ended.  Raises the stream's errors.
    """
    sender = asyncio.create_task(send_input(stream, input_fd))
    receiver = asyncio.create_task(receive_output(stream, output_fd))
    tasks = [sender, receiver]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if sender.done():
            sender.result()
        await receiver
        if not sender.done() and not os.isatty(input_fd):
            tasks.append(asyncio.create_task(_end_of_connection(stream, input_fd)))
            await asyncio.wait({sender, tasks[-1]}, return_when=asyncio.FIRST_COMPLETED)
            if sender.done():
                sender.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end_of_connection(stream: AsyncStream, input_fd: int) -> None:
    """Wait until the connection has ended, if the stream can tell; for ever, if the input can be read then."""
    wait_ended: Any = getattr(stream, "wait_ended", None)
    sock: socket.socket | None = getattr(stream, "socket", None)
    if wait_ended is not None:
        await wait_ended()
    elif sock is not None:
        await _hang_up(sock)
    if _readable(input_fd):
        await asyncio.Event().wait()  # what is there is sent, or sending fails


def _readable(fd: int) -> bool:
    poller = select.poll()
    try:
        poller.register(fd, select.POLLIN)
    except OSError:
        return False
    return bool(poller.poll(0))


async def _hang_up(sock: socket.socket) -> None:
    """Wait until the peer has ended its connection (FIN); for ever, if other bytes come first."""
    loop, woken = asyncio.get_running_loop(), asyncio.Event()
    fd = os.dup(sock.fileno())
    loop.add_reader(fd, woken.set)
    try:
        await woken.wait()
    finally:
        loop.remove_reader(fd)
        os.close(fd)
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    if not poller.poll(0):
        await asyncio.Event().wait()


async def send_input(stream: AsyncStream, input_fd: int) -> None:
    """Send everything from ``input_fd``, then close our direction."""
    async for data in read_chunks(input_fd):
        await stream.send(data)
    await half_close(stream)


async def receive_output(stream: AsyncStream, output_fd: int) -> None:
    """Write everything that the peer sends to ``output_fd``."""
    while data := await stream.receive(CHUNK):
        await asyncio.to_thread(_write_all, output_fd, data)


async def echo(stream: AsyncStream) -> int:
    """Send received data back until the peer has closed its direction; return the number of bytes."""
    total = 0
    while data := await stream.receive(CHUNK):
        await stream.send(data)
        total += len(data)
    return total


async def read_chunks(fd: int) -> AsyncIterator[bytes]:
    """Yield what can be read from ``fd`` (a file, a pipe or a terminal) until its end.

    A daemon thread reads, at most ``_READ_AHEAD`` chunks ahead, so that a read that never returns delays neither the
    loop nor the exit.
    """
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(_READ_AHEAD)

    def read() -> None:
        data = b" "
        while data:
            room.acquire()
            try:
                data = os.read(fd, CHUNK)
            except OSError:
                data = b""
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, data)
            except RuntimeError:  # the loop is closed
                return

    threading.Thread(target=read, name="input", daemon=True).start()
    while data := await chunks.get():
        room.release()
        yield data


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, "output") from None
