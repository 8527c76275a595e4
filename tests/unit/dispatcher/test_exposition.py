"""The process that serves the metrics: it answers scrapes, holds nothing, and is missed when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hsframework.dispatcher import exposition as module
from hsframework.dispatcher.exposition import Exposition
from hsframework.errors import ConfigurationError
from hsframework.telemetry.metrics import check_address

WAIT = 20


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.asynccontextmanager
async def served(port: int) -> AsyncIterator[tuple[Exposition, list[int]]]:
    """Run the process; the texts that it was given are counted in the list."""
    made = Exposition(f"127.0.0.1:{port}")
    asked: list[int] = []

    def text() -> bytes:
        asked.append(len(asked))
        return b"hsframework_number %d\n" % len(asked)

    try:
        await made.start(text)
        yield made, asked
    finally:
        made.close()


async def scrape(port: int, request: bytes = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n") -> bytes:
    """Return the whole answer, once the process listens."""
    async with asyncio.timeout(WAIT):
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        return answer


def test_the_address_is_a_number() -> None:
    """Or ``localhost``: the service looks no names up, and a mistake is seen at start."""
    assert check_address("localhost:9464") == ("127.0.0.1", 9464)
    assert check_address("[::1]:9464") == ("::1", 9464)
    with pytest.raises(ConfigurationError, match="no address"):
        Exposition("metrics.example:9464")


async def test_a_scrape() -> None:
    """Prometheus' text, as it is now; scrapes that follow one another closely get the same."""
    port = free_port()
    async with served(port) as (_, asked):
        answers = [await scrape(port) for _ in range(3)]
        head, _, body = answers[0].partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"text/plain; version=0.0.4" in head
        assert body == b"hsframework_number 1\n"
        assert len(asked) < 3 or module.FRESH == 0


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (b"GET /other HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"HTTP/1.1 404"),
        (b"\x16\x03\x01\r\n\r\n", b"HTTP/1.1 404"),
        (b"x" * 100_000, b""),
    ],
)
async def test_nonsense(request_: bytes, answer: bytes) -> None:
    """It is refused, or its connection closed; the next scrape is served."""
    port = free_port()
    async with served(port):
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            assert (await scrape(port, request_)).startswith(answer)
        assert b"hsframework_number" in await scrape(port)


async def test_it_holds_nothing() -> None:
    """No descriptor of the dispatcher's, no capability, no root; filtered, and it ends with the dispatcher."""
    secret = os.memfd_create("secret")
    port = free_port()
    try:
        async with served(port) as (made, _):
            await scrape(port)
            process = Path(f"/proc/{made._pid}")
            lines = process.joinpath("status").read_text().splitlines()
            facts = {line.split(":")[0]: line.split(":")[1].split() for line in lines}
            open_files = [os.readlink(each) for each in process.joinpath("fd").iterdir()]
    finally:
        os.close(secret)
    assert not any("secret" in name for name in open_files)
    assert len(open_files) < 12
    assert facts["CapEff"] == facts["CapPrm"] == ["0" * 16]
    assert facts["NoNewPrivs"] == ["1"]
    assert facts["Seccomp"] == ["2"]
    if os.geteuid() == 0:
        assert facts["Uid"] == [str(module.USER)] * 4


async def test_a_port_that_another_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, tried again, and taken once it is free."""
    monkeypatch.setattr(module, "RETRY", 0.02)

    async def until(has_problem: bool) -> None:
        async with asyncio.timeout(WAIT):
            while (made.problem is not None) is not has_problem:
                await asyncio.sleep(0)

    with socket.create_server(("127.0.0.1", 0)) as other:
        port = int(other.getsockname()[1])
        made = Exposition(f"127.0.0.1:{port}")
        await made.start(lambda: b"x 1\n")
        try:
            await until(has_problem=True)
            other.close()
            await until(has_problem=False)
            assert b"x 1" in await scrape(port)
        finally:
            made.close()


async def test_its_end_is_a_problem() -> None:
    """A process that was killed leaves no metrics, and the dispatcher knows."""
    port = free_port()
    async with served(port) as (made, _):
        await scrape(port)
        os.kill(made._pid, signal.SIGKILL)
        async with asyncio.timeout(WAIT):
            while made.problem is None:
                await asyncio.sleep(0)
        assert "restart the service" in made.problem


def test_an_address_that_there_is_not() -> None:
    """A name without an address is an error of the configuration."""
    with pytest.raises(ConfigurationError, match=r"metrics\.listen"):
        Exposition("no-such-host.invalid:9464")
