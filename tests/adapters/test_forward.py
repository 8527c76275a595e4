"""``hsframework forward`` as processes: a program that cannot be changed on each side, PostgreSQL and its client among
them."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from hsframework.testing.certificates import Authority
from tests.support.processes import PATIENCE
from tests.support.running import Running, short_folder, until
from tests.support.service import Service

pytestmark = pytest.mark.peers

ROOT = Authority("Forward Root")
MIB = os.urandom(1 << 20)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the authority, and a certificate for each side: root.crt, server.crt, client.crt, and keys."""
    folder = tmp_path_factory.mktemp("forward")
    ROOT.write(folder, "root")
    ROOT.issue(["localhost"]).write(folder, "server")
    ROOT.issue(["client.example"]).write(folder, "client")
    return folder


@contextlib.contextmanager
def forward(service: Service, *words: str) -> Iterator[tuple[Running, int]]:
    """Run the command until the end of the block; the process, and the port on which it listens."""
    with short_folder() as folder:
        command = Running(("forward", "--listen", "0", *words, "--runtime-dir", str(service.runtime)), folder)
        try:
            found = until(lambda: re.findall(r"forwarding from \S+:(\d+) ", command.log.text), "it listens")
            yield command, int(found[0])
        finally:
            command.clean_up()


@contextlib.contextmanager
def both(service: Service, files: Path, to: str, *more: str) -> Iterator[tuple[Running, Running, int]]:
    """Run a forwarder for each side, the server's first; the port on which plain connections begin."""
    server = ("--server", "--to", to, "--cert", f"{files}/server.crt", "--key", f"{files}/server.key", *more)
    with forward(service, *server) as (there, port):
        client = ("--ca", f"{files}/root.crt", "--cert", f"{files}/client.crt", "--key", f"{files}/client.key")
        with forward(service, "--to", f"localhost:{port}", *client) as (here, begin):
            yield here, there, begin


@contextlib.contextmanager
def echo() -> Iterator[str]:
    """Run a plain server that sends back what it gets, and yield its place."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, backlog=256))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:

        async def end() -> None:
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            asyncio.get_running_loop().stop()

        asyncio.run_coroutine_threadsafe(end(), loop)
        thread.join()
        loop.close()


async def exchange(port: int, data: bytes) -> bytes:
    """Send data through the forwarders, end our direction, and return everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    reading = asyncio.ensure_future(reader.read())
    for start in range(0, len(data), 1 << 18):
        writer.write(data[start : start + (1 << 18)])
        await writer.drain()
    writer.write_eof()
    received = await reading
    writer.close()
    await writer.wait_closed()
    return received


def test_two_hundred_connections(service: Service, files: Path) -> None:
    """Each has its own data, and each direction ends by itself."""

    async def scene(port: int) -> None:
        answers = await asyncio.gather(*(exchange(port, b"%d," % each * 1000) for each in range(200)))
        assert answers == [b"%d," % each * 1000 for each in range(200)]

    with echo() as place, both(service, files, place) as (_, _, port):
        asyncio.run(scene(port))


def test_bulk(service: Service, files: Path) -> None:
    """64 MiB both ways at once, whole."""
    data = MIB * 64
    with echo() as place, both(service, files, place) as (_, _, port):
        received = asyncio.run(exchange(port, data))
    assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()


def test_sigterm_drains(service: Service, files: Path) -> None:
    """After SIGTERM nothing new is let in, what is open goes on to its end, and the exit status is 0."""
    with echo() as place, both(service, files, place) as (here, _, port):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.settimeout(PATIENCE)
            sock.sendall(b"before")
            assert sock.recv(100) == b"before"
            here.process.send_signal(signal.SIGTERM)
            until(lambda: not _listens(port), "it stops listening")
            sock.sendall(b"after")
            assert sock.recv(100) == b"after"
            sock.shutdown(socket.SHUT_WR)
            assert sock.recv(100) == b""
        assert here.process.wait(PATIENCE) == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_cut_connection_is_none_that_ended(service: Service, files: Path) -> None:
    """A forwarder that is killed: the other side's program gets a reset, and no end of file."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = f"127.0.0.1:{listener.getsockname()[1]}"
        with (
            both(service, files, place) as (here, _, port),
            socket.create_connection(("127.0.0.1", port)) as sock,
        ):
            sock.sendall(b"half a ")
            plain, _ = listener.accept()
            with plain:
                plain.settimeout(PATIENCE)
                assert plain.recv(100) == b"half a "
                here.process.kill()
                with pytest.raises(ConnectionResetError):
                    plain.recv(100)


def test_who_is_allowed(service: Service, files: Path) -> None:
    """A client whose certificate has an allowed name comes in, with the header that tells its address; no other."""
    demand = ("--client-certificate", "require", "--ca", f"{files}/root.crt", "--send-proxy", "1")
    with echo() as place:
        with both(service, files, place, *demand, "--allow", "client.example") as (_, _, port):
            answer = asyncio.run(exchange(port, b"hello"))
            assert re.fullmatch(rb"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 \d+ \d+\r\nhello", answer)
        with both(service, files, place, *demand, "--allow", "other.example") as (_, there, port):
            with pytest.raises(ConnectionResetError):
                asyncio.run(exchange(port, b"hello"))
            until(lambda: "none of those that are allowed" in there.log.text, "the refusal is reported")


@contextlib.contextmanager
def haproxy(folder: Path, to: int, version: int) -> Iterator[int]:
    """Run HAProxy, which passes connections on with a header of the PROXY protocol, and yield its port."""
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("HAProxy is not installed: 'make peers' installs it")
    kind = "send-proxy" if version == 1 else "send-proxy-v2"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        os.set_inheritable(listener.fileno(), True)
        (folder / "haproxy.cfg").write_text(
            "defaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n"
            f"listen it\n bind fd@{listener.fileno()}\n server there 127.0.0.1:{to} {kind}\n"
        )
        command = [program, "-db", "-f", str(folder / "haproxy.cfg")]
        with subprocess.Popen(command, pass_fds=[listener.fileno()], stderr=subprocess.DEVNULL) as process:
            try:
                yield listener.getsockname()[1]
            finally:
                process.terminate()


@pytest.mark.parametrize("version", [1, 2])
def test_behind_a_balancer(service: Service, files: Path, tmp_path: Path, version: int) -> None:
    """HAProxy tells the address of its client, which is told on; a connection without a header is refused by name."""
    server = ("--server", "--cert", f"{files}/server.crt", "--key", f"{files}/server.key")
    with (
        echo() as place,
        forward(service, *server, "--to", place, "--accept-proxy", "--send-proxy", "1") as (there, port),
        haproxy(tmp_path, port, version) as balanced,
        forward(service, "--to", f"localhost:{balanced}", "--ca", f"{files}/root.crt") as (_, begin),
        forward(service, "--to", f"localhost:{port}", "--ca", f"{files}/root.crt") as (_, without),
    ):
        answer = asyncio.run(exchange(begin, b"hello"))
        found = re.fullmatch(rb"PROXY TCP4 127\.0\.0\.1 127\.0\.0\.1 (\d+) (\d+)\r\nhello", answer)
        assert found is not None
        assert int(found[2]) == balanced, "the balancer's port is what its client has connected to"
        with contextlib.suppress(ConnectionResetError):
            asyncio.run(exchange(without, b"hello"))
        until(lambda: "does not begin with a header" in there.log.text, "the refusal is reported")


def test_files_that_change(service: Service, files: Path, tmp_path: Path) -> None:
    """SIGHUP: the next connection is judged by what the authority's file holds now; a wrong file changes nothing."""
    authority = tmp_path / "ca.crt"
    authority.write_bytes(ROOT.certificate_pem)
    server = ("--server", "--cert", f"{files}/server.crt", "--key", f"{files}/server.key")
    with (
        echo() as place,
        forward(service, *server, "--to", place) as (_, port),
        forward(service, "--to", f"localhost:{port}", "--ca", str(authority)) as (here, begin),
    ):
        assert asyncio.run(exchange(begin, b"hello")) == b"hello"
        authority.write_bytes(b"nothing")
        here.process.send_signal(signal.SIGHUP)
        until(lambda: "all stays as it is" in here.log.text, "the file is refused")
        assert asyncio.run(exchange(begin, b"hello")) == b"hello"
        authority.write_bytes(Authority("Another Root").certificate_pem)
        here.process.send_signal(signal.SIGHUP)
        until(lambda: "were read again" in here.log.text, "the file is taken")
        with pytest.raises(ConnectionResetError):
            asyncio.run(exchange(begin, b"hello"))


@contextlib.contextmanager
def postgresql() -> Iterator[Path]:
    """Run PostgreSQL with a database of its own, and yield the socket at which it listens, and nowhere else."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="hs-pg-", dir="/tmp"))
    if user is not None:
        shutil.chown(folder, user)
    try:
        begin = [str(programs[-1] / "initdb"), "-U", "postgres", "-A", "trust", "-N", "-D", f"{folder}/data"]
        subprocess.run(begin, check=True, capture_output=True, user=user, cwd="/")
        serve = [str(programs[-1] / "postgres"), "-D", f"{folder}/data", "-k", str(folder), "-h", "", "-F"]
        with subprocess.Popen(serve, user=user, cwd="/", stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            while "ready to accept" not in (line := process.stderr.readline()):
                assert line, "PostgreSQL has ended"
            try:
                yield folder / ".s.PGSQL.5432"
            finally:
                process.send_signal(signal.SIGINT)
                process.communicate(timeout=PATIENCE)
    finally:
        shutil.rmtree(folder)


def test_psycopg_and_postgresql(service: Service, files: Path) -> None:
    """A client and a server that know nothing of it: many rows both ways, and an error of the server's."""
    with (
        postgresql() as path,
        both(service, files, f"unix:{path}") as (_, _, port),
        psycopg.connect(host="127.0.0.1", port=port, user="postgres", sslmode="disable") as connection,
    ):
        connection.execute("CREATE TABLE t (n int, body text)")
        with connection.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(20_000):
                copy.write_row((number, "x" * 100))
        rows = connection.execute("SELECT count(*), sum(n), sum(length(body)) FROM t").fetchone()
        assert rows == (20_000, sum(range(20_000)), 2_000_000)
        assert len(connection.execute("SELECT * FROM t").fetchall()) == 20_000
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute("SELECT * FROM nowhere")
