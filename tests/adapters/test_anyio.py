"""Streams of anyio over sessions, on asyncio and on trio, with Python's ssl at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from hsframework.adapters.anyio import SessionStream, connect, listen, wrap
from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError
from tests.adapters.conftest import ROOT, STRANGER

pytestmark = pytest.mark.peers

BODY = os.urandom(1 << 20)
OURS = HandshakeOptions(peer_name="localhost", trust=ROOT.trust())
Run = Callable[[Callable[[], Awaitable[Any]]], Any]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Run an asynchronous function on a backend, for at most a minute."""

    def call(main: Callable[[], Awaitable[Any]]) -> Any:
        async def limited() -> Any:
            with anyio.fail_after(60):
                return await main()

        return anyio.run(limited, backend=request.param)

    return call


@contextlib.contextmanager
def ssl_echo(folder: Path) -> Iterator[int]:
    """Run a server of Python's ssl that sends back what comes until the end, and yield its port."""
    files = ROOT.issue(["localhost"]).write(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.private_key)

    def serve(plain: socket.socket) -> None:
        with contextlib.suppress(OSError), plain, context.wrap_socket(plain, server_side=True) as sock:
            while data := sock.recv(1 << 16):
                sock.sendall(data)
            sock.unwrap()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],)).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def ssl_context() -> ssl.SSLContext:
    """Return a client's context that trusts our root."""
    return ssl.create_default_context(cadata=ROOT.certificate_pem.decode())


async def echo(stream: SessionStream) -> None:
    """Send back what comes; a client of ssl that just closes leaves the session broken."""
    with contextlib.suppress(anyio.BrokenResourceError):
        async for data in stream:
            await stream.send(data)


async def all_of(stream: SessionStream, size: int) -> bytes:
    """Receive so many bytes."""
    received = b""
    while len(received) < size:
        received += await stream.receive()
    return received


def test_a_client(run: Run, client: Client, tmp_path: Path) -> None:
    """A megabyte both ways at once, what ssl tells, and the session's end."""

    async def main() -> None:
        async with await connect(client, "localhost", port, OURS) as stream:
            assert ("DNS", "localhost") in stream.extra(TLSAttribute.peer_certificate)["subjectAltName"]  # type: ignore[index]
            assert stream.extra(TLSAttribute.tls_version) == "TLSv1.3"
            assert stream.extra(SocketAttribute.remote_address)[1] == port
            assert not stream.extra(TLSAttribute.server_side)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.send, BODY)
                assert await all_of(stream, len(BODY)) == BODY
            await stream.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")

    with ssl_echo(tmp_path) as port:
        run(main)


def test_a_listener(run: Run, client: Client, server: HandshakeOptions) -> None:
    """Twenty clients of ssl at once; one that trusts another root is refused, and the listener goes on."""
    failed: list[Exception] = []

    def talk(port: int, context: ssl.SSLContext) -> bytes:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as sock,
        ):
            sock.sendall(BODY[:100_000])
            received = b""
            while len(received) < 100_000:
                received += sock.recv(1 << 16)
            return received

    async def main() -> None:
        listener = await listen(client, "127.0.0.1", 0, server, on_failure=failed.append)
        port = listener.extra(SocketAttribute.local_port)
        got: list[bytes] = []

        async def one() -> None:
            got.append(await anyio.to_thread.run_sync(talk, port, ssl_context()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, echo)
            with pytest.raises(ssl.SSLCertVerificationError):
                await anyio.to_thread.run_sync(talk, port, ssl.create_default_context())
            async with anyio.create_task_group() as clients:
                for _ in range(20):
                    clients.start_soon(one)
            await listener.aclose()
        assert got == [BODY[:100_000]] * 20

    run(main)
    assert len(failed) == 1
    assert isinstance(failed[0], HandshakeError)


def test_a_peer_that_is_refused(run: Run, client: Client, tmp_path: Path) -> None:
    """The error is the client's own, with its errno; the socket is closed."""

    async def main() -> None:
        with pytest.raises(HandshakeError):
            await connect(client, "localhost", port, HandshakeOptions(peer_name="localhost", trust=STRANGER.trust()))

    with ssl_echo(tmp_path) as port:
        run(main)


def test_a_wait_that_is_cancelled(run: Run, client: Client, tmp_path: Path) -> None:
    """A receive may be begun again, and loses nothing; a handshake with a silent peer ends, with its socket."""

    async def main() -> None:
        async with await connect(client, "localhost", port, OURS) as stream:
            with anyio.CancelScope() as scope:
                scope.cancel()
                await stream.receive()
            await stream.send(b"hello")
            assert await stream.receive() == b"hello"
        near, far = socket.socketpair()
        with far:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(wrap, client, near, OURS)
                while not await anyio.to_thread.run_sync(far.recv, 1):  # the ClientHello has come
                    pass
                tasks.cancel_scope.cancel()
            far.settimeout(30)
            while far.recv(1 << 16):
                pass
        assert near.fileno() == -1

    with ssl_echo(tmp_path) as port:
        run(main)


def test_a_session_that_breaks(run: Run, client: Client, server: HandshakeOptions) -> None:
    """The end of the connection without the session's is an error; so is a second reader."""

    async def main() -> None:
        listener = await listen(client, "127.0.0.1", 0, server)
        port = listener.extra(SocketAttribute.local_port)
        ended = anyio.Event()

        async def broken(stream: SessionStream) -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(another, stream)
                with pytest.raises(anyio.BrokenResourceError) as caught:
                    await stream.receive()
                assert isinstance(caught.value.__cause__, OSError)
            ended.set()

        async def another(stream: SessionStream) -> None:
            with pytest.raises(anyio.BusyResourceError):
                await stream.receive()
            plain.shutdown(socket.SHUT_RDWR)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, broken)
            plain = await anyio.to_thread.run_sync(socket.create_connection, ("127.0.0.1", port))
            with plain:
                wrapped = ssl_context().wrap_socket(plain, server_hostname="localhost", do_handshake_on_connect=False)
                with wrapped as sock:
                    plain = sock
                    await anyio.to_thread.run_sync(sock.do_handshake)
                    await ended.wait()
            await listener.aclose()

    run(main)
