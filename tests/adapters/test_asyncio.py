"""Asyncio's streams, transports and protocols over sessions, and the libraries that stand on them."""

from __future__ import annotations

import asyncio
import email.message
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import uvicorn
from aiosmtpd.smtp import Envelope

from hsframework.adapters import aio
from hsframework.adapters.aiosmtpd import SessionSMTP
from hsframework.adapters.httpx import SessionTransport
from hsframework.adapters.uvicorn import Server
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import ClientError, ClientHandshakeError, HandshakeError, StreamError
from tests.adapters.conftest import ROOT, STRANGER
from tests.support.service import Service

pytestmark = pytest.mark.peers

BODY = os.urandom(1 << 20)
OURS = HandshakeOptions(peer_name="localhost", trust=ROOT.trust())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Send back what comes."""
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    writer.write_eof()
    writer.close()
    await writer.wait_closed()


@asynccontextmanager
async def echoing(service: Service, options: HandshakeOptions) -> AsyncIterator[tuple[AsyncClient, int]]:
    """Run an echo server; the client, and its port."""
    async with (
        AsyncClient(service.runtime) as client,
        await aio.start_server(client, echo, "127.0.0.1", 0, options) as server,
    ):
        yield client, server.sockets[0].getsockname()[1]
        server.close_clients()


async def test_streams(service: Service, server: HandshakeOptions) -> None:
    """Data both ways, the end of each direction, and what ssl tells."""
    async with echoing(service, server) as (client, port):
        reader, writer = await aio.open_connection(client, "localhost", port, OURS)
        assert ("DNS", "localhost") in writer.get_extra_info("peercert")["subjectAltName"]
        assert writer.get_extra_info("cipher")[1] == "TLSv1.3"
        assert writer.get_extra_info("alpn") is None
        assert writer.get_extra_info("peername")[1] == port
        assert writer.get_extra_info("nothing", "default") == "default"
        reading = asyncio.ensure_future(reader.read())
        for start in range(0, len(BODY), 100_000):
            writer.write(BODY[start : start + 100_000])
            await writer.drain()
        writer.write_eof()
        assert await reading == BODY
        writer.close()
        await writer.wait_closed()


async def test_a_hundred_at_once(service: Service, server: HandshakeOptions) -> None:
    """Each connection has its own data."""

    async def one(client: AsyncClient, port: int, number: int) -> bytes:
        reader, writer = await aio.open_connection(client, "localhost", port, OURS)
        writer.write(b"%d\n" % number)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async with echoing(service, server) as (client, port):
        assert await asyncio.gather(*(one(client, port, each) for each in range(100))) == [
            b"%d\n" % each for each in range(100)
        ]


async def test_a_refused_peer(service: Service, server: HandshakeOptions) -> None:
    """The client's error is an OSError; the server goes on, and says what has failed."""
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    strange = HandshakeOptions(peer_name="localhost", trust=STRANGER.trust())
    async with (
        AsyncClient(service.runtime) as client,
        await aio.start_server(client, echo, "127.0.0.1", 0, server, on_failure=failures.put_nowait) as running,
    ):
        port = running.sockets[0].getsockname()[1]
        with pytest.raises(ClientHandshakeError, match="trusted"):
            await aio.open_connection(client, "localhost", port, strange)
        assert isinstance(await failures.get(), HandshakeError)
        _, writer = await aio.open_connection(client, "localhost", port, OURS)
        writer.close()
        await writer.wait_closed()


async def test_close_while_reading(service: Service, server: HandshakeOptions) -> None:
    """A read that waits ends, as with asyncio's own streams, and no fd is left."""
    async with echoing(service, server) as (client, port):
        reader, writer = await aio.open_connection(client, "localhost", port, OURS)
        reading = asyncio.ensure_future(reader.read(10))
        await asyncio.sleep(0)
        writer.close()
        await writer.wait_closed()
        assert await asyncio.wait_for(reading, 20) == b""


async def test_cancellation(service: Service, server: HandshakeOptions) -> None:
    """A handshake with a silent server is given up by asyncio.timeout, and its socket is closed."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with AsyncClient(service.runtime) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await aio.open_connection(client, "localhost", silent.getsockname()[1], OURS)
            assert client.pending == 0


async def test_a_slow_reader_holds_the_writer(service: Service, server: HandshakeOptions) -> None:
    """drain() waits while the peer reads nothing; abort() ends it at once, and the peer sees a cut connection."""
    peers: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    async with (
        AsyncClient(service.runtime) as client,
        await aio.start_server(
            client, lambda reader, writer: peers.put_nowait((reader, writer)), "127.0.0.1", 0, server
        ) as running,
    ):
        port = running.sockets[0].getsockname()[1]
        _, writer = await aio.open_connection(client, "localhost", port, OURS)
        there, back = await peers.get()
        for _ in range(200):
            writer.write(BODY[:100_000])
        draining = asyncio.ensure_future(writer.drain())
        await there.readexactly(100_000)
        assert not draining.done()
        writer.transport.abort()
        await draining
        with pytest.raises(StreamError):
            while await there.read(1 << 20):
                pass
        back.close()


async def test_buffered_protocols(service: Service, server: HandshakeOptions) -> None:
    """A protocol that lends its own buffer gets everything, in pieces of its size."""

    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(1000)
            self.got = b""
            self.lost = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, nbytes: int) -> None:
            self.got += self.buffer[:nbytes]

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async with echoing(service, server) as (client, port):
        transport, protocol = await aio.create_connection(client, Buffered, "localhost", port, OURS)
        transport.writelines([BODY[:5000], BODY[5000:50_000]])
        transport.write_eof()
        assert await protocol.lost is None
        assert protocol.got == BODY[:50_000]


async def test_starttls_of_streams(service: Service, server: HandshakeOptions) -> None:
    """asyncio's own streams on both sides, plain lines, then a session."""
    done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        writer.write(b"go on\n")
        _reader, _writer = await aio.start_tls(client, writer, server)
        done.set_result(await _reader.readline())
        _writer.close()

    async with AsyncClient(service.runtime) as client, await asyncio.start_server(serve, "127.0.0.1", 0) as plain:
        reader, writer = await asyncio.open_connection("127.0.0.1", plain.sockets[0].getsockname()[1])
        writer.write(b"STARTTLS\n")
        assert await reader.readline() == b"go on\n"
        reader, writer = await aio.start_tls(client, writer, OURS)
        writer.write(b"secret\n")
        assert await done == b"secret\n"
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


async def test_starttls_refuses_what_came_before(service: Service, server: HandshakeOptions) -> None:
    """Plain text behind the command, by which an attacker's words would count as the session's (CVE-2011-0411)."""
    refused: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        try:
            await aio.start_tls(client, writer, server)
        except ClientError as error:
            refused.set_result(error)

    async with AsyncClient(service.runtime) as client, await asyncio.start_server(serve, "127.0.0.1", 0) as plain:
        _, writer = await asyncio.open_connection("127.0.0.1", plain.sockets[0].getsockname()[1])
        writer.write(b"STARTTLS\nMAIL FROM:<attacker>\n")
        assert "before the handshake" in str(await refused)
        writer.close()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Send back the body, and the scheme in a header."""
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"scheme", scope["scheme"].encode())]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def web(service: Service, options: HandshakeOptions) -> AsyncIterator[tuple[AsyncClient, str]]:
    """Run uvicorn; the client, and its URL."""
    async with AsyncClient(service.runtime) as client:
        listener = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(application, log_config=None, lifespan="off", ws="none", timeout_graceful_shutdown=5)
        server = Server(client, options, config)
        serving = asyncio.ensure_future(server.serve([listener]))
        try:
            while not server.started and not serving.done():
                await asyncio.sleep(0)
            yield client, f"https://localhost:{listener.getsockname()[1]}/"
        finally:
            server.should_exit = True
            await serving


async def test_httpx_and_uvicorn(service: Service, server: HandshakeOptions) -> None:
    """A request with a large body, and a hundred at once."""
    async with web(service, server) as (client, url):
        transport = SessionTransport(client, trust=ROOT.trust())
        async with httpx.AsyncClient(transport=transport, timeout=60) as session:
            answer = await session.post(url, content=BODY)
            assert (answer.content, answer.headers["scheme"]) == (BODY, "https")
            answers = await asyncio.gather(*(session.post(url, content=b"%d" % each) for each in range(100)))
            assert [answer.content for answer in answers] == [b"%d" % each for each in range(100)]


async def test_httpx_refuses(service: Service, server: HandshakeOptions) -> None:
    """A server under another authority, and one with another name, are httpx's ConnectError."""
    async with web(service, server) as (client, url):
        strange = SessionTransport(client, trust=STRANGER.trust())
        async with httpx.AsyncClient(transport=strange) as session:
            with pytest.raises(httpx.ConnectError, match="trusted"):
                await session.get(url)
        async with httpx.AsyncClient(transport=SessionTransport(client, trust=ROOT.trust())) as session:
            with pytest.raises(httpx.ConnectError, match=r"127\.0\.0\.1"):
                await session.get(url.replace("localhost", "127.0.0.1"))


async def test_httpx_gives_up(service: Service) -> None:
    """httpx's own timeout, and cancellation, with a silent server."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with AsyncClient(service.runtime) as client:
            transport = SessionTransport(client, trust=ROOT.trust())
            async with httpx.AsyncClient(transport=transport, timeout=0.2) as session:
                with pytest.raises(httpx.ConnectTimeout):
                    await session.get(f"https://localhost:{silent.getsockname()[1]}/")
            assert client.pending == 0


async def test_aiosmtpd(service: Service, server: HandshakeOptions) -> None:
    """A mail after STARTTLS, by smtplib with a context of ours; in plain text it is refused."""
    import smtplib

    from hsframework.adapters.context import SessionContext
    from hsframework.client import Client

    class Handler:
        mails: list[bytes] = []  # noqa: RUF012
        facts: list[Any] = []  # noqa: RUF012

        async def handle_DATA(self, _: Any, session: Any, envelope: Envelope) -> str:
            assert isinstance(envelope.content, bytes)
            self.mails.append(envelope.content)
            self.facts.append(session.ssl)
            return "250 OK"

    def mail(port: int) -> None:
        message = email.message.EmailMessage()
        message["Subject"] = "hello"
        message.set_content("body")
        with Client(service.runtime) as blocking, smtplib.SMTP("localhost", port, timeout=30) as smtp:
            with pytest.raises(smtplib.SMTPSenderRefused, match="STARTTLS"):
                smtp.send_message(message, "a@example.org", ["b@example.org"])
            context: Any = SessionContext(blocking, trust=ROOT.trust())
            smtp.starttls(context=context)
            smtp.send_message(message, "a@example.org", ["b@example.org"])

    async with AsyncClient(service.runtime) as client:
        loop = asyncio.get_running_loop()
        listening = await loop.create_server(
            lambda: SessionSMTP(Handler(), client=client, options=server, required=True, loop=loop), "127.0.0.1", 0
        )
        async with listening:
            await asyncio.to_thread(mail, listening.sockets[0].getsockname()[1])
        assert b"body" in Handler.mails[0]
        assert Handler.facts[0]["cipher"][1] == "TLSv1.3"
