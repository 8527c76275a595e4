"""An agent that is no Python and none of our code: compiled with cc, against the real dispatcher.

The messages that docs/reference/agents-socket.md shows byte by byte are what went over the socket.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hsframework.client import AsyncClient, Client, HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework.interface import AuthMode, Role, Secret
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.netlink.messages import MessageCodec
from hsframework.netlink.spec import builtin_specification
from tests.support.processes import PATIENCE, Program
from tests.support.running import Running, running, short_folder, write_configuration
from tests.support.specs import C_HEADER, check_numbers

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "reference" / "agents-socket.md"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-fsanitize=address,undefined"]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent, compiled without a warning and with the sanitizers that stop it at its first wrong step."""
    result = tmp_path_factory.mktemp("c") / "agent"
    subprocess.run(["cc", *FLAGS, "-o", str(result), str(HERE / "agent.c")], check=True)
    return result


@pytest.fixture
def dispatcher() -> Iterator[Running]:
    """`hsframework dispatcher` alone."""
    with short_folder() as folder:
        file = write_configuration(folder)
        with running(("dispatcher", "--config", str(file)), folder) as process:
            process.log.wait("the dispatcher is ready")
            yield process


@pytest.fixture
def agent(dispatcher: Running, program: Path) -> Iterator[Program]:
    """The agent, joined; at the end it has said nothing but its messages, and that it was left alone."""
    with Program([program, "-x", dispatcher.runtime_dir / "agent.sock"]) as process:
        process.wait_for("^joined$")
        yield process
    expected = re.compile(r"[<>] [0-9a-f]+|joined||agent: the dispatcher is gone")
    complaints = [line for line in process.said().splitlines() if not expected.fullmatch(line)]
    assert complaints == []


@pytest.fixture
def client(dispatcher: Running, agent: Program) -> Iterator[Client]:
    with Client(dispatcher.runtime_dir) as opened:
        yield opened


@contextlib.contextmanager
def connected() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Connect two sockets; yield our end and the peer's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        near = socket.create_connection(server.getsockname(), PATIENCE)
        far, _ = server.accept()
    with near, far:
        far.settimeout(PATIENCE)
        yield near, far


def options(role: Role, timeout: float = PATIENCE) -> HandshakeOptions:
    mode = AuthMode.OWN if role is Role.SERVER else AuthMode.UNAUTHENTICATED
    return HandshakeOptions(group="knock", role=role, auth_mode=mode, timeout=timeout)


@pytest.mark.parametrize("role", list(Role), ids=lambda role: role.name.lower())
def test_handshake(client: Client, role: Role) -> None:
    """Each role: the line that we owe, the session, and what comes behind the handshake is left for the consumer."""
    heard, owed = (b"ENTER\n", b"KNOCK\n") if role is Role.CLIENT else (b"KNOCK\n", b"ENTER\n")
    with connected() as (near, far):
        far.sendall(heard + b"data")
        session = client.handshake(near, options(role))
        assert far.recv(100) == owed
        assert (session.protocol, session.raw_parameters) == ("knock", Secret(b"plain text"))
        assert near.recv(100) == b"data"
        near.sendall(b"answer")
        assert far.recv(100) == b"answer"


def test_byte_by_byte(client: Client) -> None:
    """A line that comes in pieces, as the peer likes."""
    with connected() as (near, far), ThreadPoolExecutor(1) as threads:
        far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        waiting = threads.submit(client.handshake, near, options(Role.CLIENT))
        assert far.recv(100) == b"KNOCK\n"
        for byte in b"ENTER\n":
            far.send(bytes([byte]))
        assert waiting.result(PATIENCE).protocol == "knock"


def test_many_at_once(client: Client) -> None:
    """More than it has room for: the rest wait in the dispatcher, and all are served."""
    with contextlib.ExitStack() as opened, ThreadPoolExecutor(100) as threads:
        pairs = [opened.enter_context(connected()) for _ in range(100)]
        waiting = [threads.submit(client.handshake, near, options(Role.CLIENT)) for near, _ in pairs]
        for _, far in pairs:
            far.sendall(b"ENTER\n")
        assert [future.result(PATIENCE).protocol for future in waiting] == ["knock"] * 100


def test_a_tls_policy(client: Client) -> None:
    """The agent has not said that it keeps to TLS policies, so it gets no request with one; others it gets."""
    demanding = dataclasses.replace(options(Role.CLIENT), tls_priorities="SECURE192")
    with connected() as (near, far):
        with pytest.raises(HandshakeError, match="does not keep to TLS policies") as refused:
            client.handshake(near, demanding)
        assert refused.value.errno == errno.EOPNOTSUPP
        near.close()
        assert far.recv(100) == b""
    test_handshake(client, Role.CLIENT)


@pytest.mark.parametrize(
    ("heard", "number", "message"),
    [
        (b"LEAVE\n", errno.EPROTO, "the peer does not knock"),
        (b"ENT", errno.ETIMEDOUT, "said nothing in time"),
        (None, errno.ECONNRESET, "the peer has gone"),
    ],
)
def test_failures(client: Client, heard: bytes | None, number: int, message: str) -> None:
    """The agent's errno and its words reach the consumer."""
    with connected() as (near, far):
        if heard is None:
            far.shutdown(socket.SHUT_WR)
        else:
            far.sendall(heard)
        with pytest.raises(HandshakeError, match=message) as caught:
            client.handshake(near, options(Role.CLIENT, timeout=0.3 if number == errno.ETIMEDOUT else PATIENCE))
        assert caught.value.errno == number


def test_killed(client: Client, agent: Program, dispatcher: Running, program: Path) -> None:
    """Its death costs one EIO at once; another takes its place, beside the first or after it."""
    with connected() as (near, far), ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.handshake, near, options(Role.CLIENT))
        assert far.recv(100) == b"KNOCK\n"
        agent.kill()
        error = waiting.exception(PATIENCE)
        assert isinstance(error, HandshakeError)
        assert error.errno == errno.EIO
    with Program([program, dispatcher.runtime_dir / "agent.sock"]) as another:
        another.wait_for("^joined$")
        test_handshake(client, Role.CLIENT)


def test_cancelled(dispatcher: Running, client: Client, agent: Program) -> None:
    """A consumer that withdraws: the agent is told, lets go of the socket, and serves on."""
    with connected() as (near, far):

        async def withdraw() -> None:
            async with AsyncClient(dispatcher.runtime_dir) as withdrawing:
                task = asyncio.ensure_future(withdrawing.handshake(near, options(Role.CLIENT)))
                assert await asyncio.to_thread(far.recv, 100) == b"KNOCK\n"
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(withdraw())
        agent.wait_for("^< .{8}2000.{20}08010000")
        near.close()
        assert far.recv(100) == b""
    test_handshake(client, Role.SERVER)


def test_the_dispatcher_dies(dispatcher: Running, agent: Program) -> None:
    """The agent notices by the end of its connection."""
    dispatcher.process.send_signal(signal.SIGKILL)
    assert agent.wait() == 0
    assert "the dispatcher is gone" in agent.said()


# What is refused

HEADER = bytes.fromhex("2000 0500 01000000 00000000 05 01 0000")
"""Of a JOIN under the number 1, behind its length."""
KNOCK = bytes.fromhex("0a000100 6b6e6f636b000000")


@pytest.mark.parametrize(
    ("attributes", "number", "text"),
    [
        (KNOCK + bytes.fromhex("08006300 01000000"), errno.EBADMSG, "unknown attribute 99"),
        (bytes.fromhex("08000300 06000000") + KNOCK + KNOCK[:3], errno.EBADMSG, "too few for an attribute"),
        (KNOCK + bytes.fromhex("06000300 06000000"), errno.EBADMSG, "2 bytes where 4 are wanted"),
        (KNOCK + 2 * bytes.fromhex("0a000200 6b6e6f636b000000"), errno.EBADMSG, "there twice"),
        (KNOCK[:2] + b"\x01\x80" + KNOCK[4:], errno.EBADMSG, "flags 0x8000"),
        (b"", errno.EBADMSG, "group is missing"),
        (KNOCK, 0, ""),
    ],
)
def test_the_dispatcher_is_strict(attributes: bytes, number: int, text: str, dispatcher: Running) -> None:
    """The answer as the page describes it, made and read here by its bytes alone; the connection goes on."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
        agent.settimeout(PATIENCE)
        agent.connect(str(dispatcher.runtime_dir / "agent.sock"))
        for message, wanted in ((attributes, number), (KNOCK, 0)):
            agent.send((20 + len(message)).to_bytes(4, sys.byteorder) + HEADER + message)
            answer = agent.recv(1000)
            assert len(answer) == int.from_bytes(answer[:4], sys.byteorder)
            kind, flags, sequence = struct.unpack_from("=HHI", answer, 4)
            assert (kind, sequence, struct.unpack_from("=i", answer, 16)[0]) == (2, 1, -wanted)
            if wanted:
                size, attribute = struct.unpack_from("=HH", answer, 36)
                assert (flags & 0x200, attribute) == (0x200, 1)
                assert text in answer[40 : 36 + size].rstrip(b"\0").decode()


def test_the_numbers_of_the_header() -> None:
    """The header that the agent is compiled with has each number of the specification; a stale one does not."""
    specification = builtin_specification("local")
    check_numbers(C_HEADER, specification)
    done = dataclasses.replace(specification.operations["done"], value=99)
    other = dataclasses.replace(specification, operations={**specification.operations, "done": done})
    with pytest.raises(AssertionError, match="HSFRAMEWORK_CMD_DONE"):
        check_numbers(C_HEADER, other)


# The documentation

BLOCK = re.compile(r"^```text\n([<>]) (.*)\n((?:.*\n)*?)```", re.MULTILINE)
BYTES = re.compile(r"((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:   .*)?")


def shown() -> dict[str, tuple[str, bytes]]:
    """Return the messages of the page by their headings: the direction, and the bytes."""
    found = {}
    for direction, name, lines in BLOCK.findall(PAGE.read_text("utf-8")):
        matches = [BYTES.fullmatch(line) for line in lines.splitlines()]
        assert all(matches), f"{name}: a line that is not bytes and a remark"
        found[name] = direction, b"".join(bytes.fromhex(match[1]) for match in matches if match)
    return found


def test_the_page_shows_what_goes_over_the_socket(client: Client, agent: Program) -> None:
    """Every message of a request's life, in its order and byte for byte; of the request, all but what is its own."""
    with connected() as (near, far):
        far.sendall(b"ENTER\n")
        client.handshake(near, options(Role.CLIENT))
    agent.wait_for("^< 24000000.*f5ffffff")
    lines = (line.split(" ") for line in agent.said().splitlines() if line[:1] in "<>" and line)
    said = [(direction, bytes.fromhex(data)) for direction, data in lines]
    page = shown()
    assert list(page) == ["JOIN", "the answer", "READY", "ACCEPT", "the request", "nothing waits", "DONE"]
    for name, message in page.items():
        if name != "the request":
            assert message in said, name
    codec = MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE)
    request = next(
        codec.decode(data) for direction, data in said if direction == "<" and data[16] == 2 and data[4] == 32
    )
    assert request.values["user"] == os.getuid()
    example = codec.decode(page["the request"][1])
    theirs = {"local-address", "peer-address", "timeout", "user"}
    assert (list(example.values), example.sequence) == (list(request.values), request.sequence)
    assert [example.values[name] for name in example.values if name not in theirs] == [
        request.values[name] for name in request.values if name not in theirs
    ]


CONSUMERS = ("trace", "submit", "result", "groups", "status", "reload")
"""Operations that agents have no part in."""


def test_the_numbers_of_the_page() -> None:
    """The table of operations has each number that an agent meets, as the specification has it."""
    rows = re.findall(r"^\| (\d+) \| ([A-Z-]+) \|", PAGE.read_text("utf-8"), re.MULTILINE)
    operations = builtin_specification("local").operations
    assert {name.lower(): int(number) for number, name in rows} == {
        name: operation.value for name, operation in operations.items() if name not in CONSUMERS
    }


def test_the_attributes_of_the_page() -> None:
    """The tables of attributes have each one that an agent meets, with its number, its type and its operations."""
    specification = builtin_specification("local")
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for line in PAGE.read_text("utf-8").splitlines():
        if title := re.match(r"\| \| `([a-z-]+)` \|", line):
            found[title[1]] = {}
        elif (row := re.match(r"\| (\d+) \| `([a-z-]+)` \| ([a-z0-9 ]+)", line)) and found:
            found[list(found)[-1]][row[2]] = (int(row[1]), row[3].strip())
    consumers = {"trust-anchor", "crl", "crl-check"}
    assert set(found) == {
        used.attribute_set for name, used in specification.operations.items() if name not in CONSUMERS
    } | {"identity", "psk", "tag"}
    for name, rows in found.items():
        assert rows == {
            attribute.name: (attribute.value, f"nest {attribute.nested}" if attribute.nested else attribute.type)
            for attribute in specification.sets[name].attributes.values()
            if attribute.name not in consumers
        }, name
