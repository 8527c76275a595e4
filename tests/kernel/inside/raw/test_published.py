"""The published dialect of the raw-netlink form, message by message."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.dispatcher.namespaces import network_namespace
from tests.kernel import raw, raw_published as published
from tests.kernel.genl import attributes
from tests.kernel.machine import debian
from tests.kernel.raw import Agent, Outcome, Refused, Submission, submitted
from tests.kernel.raw_house import dialect
from tests.kernel.raw_published import put, put_u32
from tests.support.running import tcp_pairs

Pair = tuple[socket.socket, socket.socket]
KEYS = struct.pack("=HH8s16s4s8s", 0x0304, 51, b"i" * 8, b"k" * 16, b"s" * 4, bytes(8))


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """In the published dialect."""
    with raw.published(protocols=5):
        yield


def accepted(agent: Agent) -> tuple[int, list[tuple[int, bytes]]]:
    """Accept; return the socket, and what the nest holds."""
    answer = agent.ask(raw.ACCEPT, put_u32(raw.PROTOCOL, 1))
    (kind, fd), (nest, arguments) = answer
    assert (kind, nest) == (raw.SOCKFD, raw.ACCEPT_RESP)
    return int.from_bytes(fd, "little"), attributes(arguments)


def number(value: int) -> bytes:
    return struct.pack("=I", value)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, [(20, 1), (21, 1)]),
        ({"auth": raw.X509, "certificate": 77, "private_key": 78}, [(20, 1), (21, 2), (23, 77), (24, 78)]),
        ({"auth": raw.X509}, [(20, 1), (21, 2), (23, 0), (24, 0)]),
        ({"auth": raw.PSK, "peers": (79,)}, [(20, 1), (21, 3), (25, 79)]),
        ({"role": raw.SERVER, "auth": raw.PSK}, [(20, 2), (21, 3), (25, 0)]),
        ({"timeout": 4321}, [(20, 1), (21, 1), (28, 4)]),
        ({"timeout": 1}, [(20, 1), (21, 1), (28, 1)]),
    ],
    ids=["anonymous", "x509", "x509 without keys", "psk", "server", "timeout", "less than a second"],
)
def test_numbers(pair: Pair, agent: Agent, asked: dict[str, object], told: list[tuple[int, int]]) -> None:
    """A successful ACCEPT has SOCKFD and the nest, no more; its numbers are u32, its auth modes the published ones."""
    with submitted(pair[0], **asked):
        fd, arguments = accepted(agent)
        assert [(kind, payload) for kind, payload in arguments if kind != 22] == [
            (kind, number(value)) for kind, value in told
        ]
        os.close(fd)


def test_texts(pair: Pair, agent: Agent) -> None:
    """The consumer's priorities, or TLS's default; behind the published numbers, its peer's name and its keyring."""
    ring = int(debian("keyctl", "newring", "published", "@u"))
    for asked, told in (
        ({"priorities": "NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305"}, b"NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305\0"),
        ({}, None),
    ):
        with submitted(pair[0], peername="server.example", keyring=ring, **asked):
            fd, arguments = accepted(agent)
            os.close(fd)
            texts = dict(arguments)
            assert (texts[29], texts[30]) == (b"server.example\0", number(ring))
            assert told is None or texts[22] == told
    debian("keyctl", "unlink", str(ring), "@u")
    text = texts[22].rstrip(b"\0").decode()
    listed = debian("gnutls-cli", "--list", "--priority", text)
    assert "Protocols: VERS-TLS1.3\n" in listed
    assert {line.split()[0] for line in listed.splitlines() if line.startswith("TLS_")} == {
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
    }


def test_other_mechanisms_have_no_default_priorities(pair: Pair) -> None:
    """They are TLS's."""
    with Agent(raw.PSP) as agent, submitted(pair[0], protocol=raw.PSP):
        answer = agent.ask(raw.ACCEPT, put_u32(raw.PROTOCOL, raw.PSP))
        assert [kind for kind, _ in attributes(dict(answer)[raw.ACCEPT_RESP])] == [20, 21]
        os.close(int.from_bytes(dict(answer)[raw.SOCKFD], "little"))


@pytest.mark.parametrize("asked", [{"peers": (1, 2)}, {"handshake_type": 1}], ids=["two identities", "a rekey"])
@pytest.mark.usefixtures("agent")
def test_what_it_cannot_say(pair: Pair, asked: dict[str, object]) -> None:
    """The consumer is refused."""
    with Submission() as request, pytest.raises(OSError) as refused:
        request.submit(pair[0].fileno(), **asked)  # type: ignore[arg-type]
    assert refused.value.errno == errno.EOPNOTSUPP


@pytest.mark.parametrize("asked", [{"peers": (1, 2)}, {"handshake_type": 1}], ids=["two identities", "a rekey"])
def test_what_it_cannot_say_of_a_request_that_waits(pair: Pair, agent: Agent, asked: dict[str, object]) -> None:
    """Submitted in our dialect, accepted in this one: the request ends, no agent is told half of it or has a socket."""
    before = raw.users()
    with tcp_pairs() as (other,), dialect(0), submitted(pair[0], **asked) as request, dialect(1):
        with pytest.raises(Refused) as refused:
            agent.accept()
        assert refused.value.status == raw.SYSTEMFAULT
        assert request.outcome() == Outcome(errno.EOPNOTSUPP)
        raw.set_limit(1, "lent")
        with submitted(other[0]):
            os.close(accepted(agent)[0])
    assert raw.users() == before


STATUS = {"nothing": b""}
for _value in (0, 1, 2, 3):
    STATUS[f"session status {_value}"] = put_u32(published.TLS_SESS_STATUS, _value)
EXPECTED = {"session status 0": Outcome(0), "session status 2": Outcome(errno.EACCES)}


@pytest.mark.parametrize(
    ("nest", "outcome"),
    [
        *((nest, EXPECTED.get(name, Outcome(errno.EIO))) for name, nest in STATUS.items()),
        (put_u32(26, 0) + put_u32(21, 1) + put_u32(27, 0), Outcome(0)),
        (put_u32(26, 0) + put_u32(27, 4711), Outcome(0, (4711,))),
        (put_u32(26, 0) + put(64, b"a mechanism's own"), Outcome(0)),
        (put(26, b"\0"), Outcome(errno.EIO)),
        (put_u32(26, 0) + put_u32(31, 0), Outcome(errno.EIO)),
        (put_u32(1, 0), Outcome(errno.EIO)),
        (put_u32(26, 0) + b"\xff\xff\xff\xff", Outcome(errno.EIO)),
        (None, Outcome(errno.EIO)),
    ],
    ids=[*STATUS, "as the agent of 2023", "a peer", "own attributes", "no u32", "an unknown attribute", "our dialect's",
         "malformed", "no nest"],
)  # fmt: skip
def test_every_done_ends_its_request(pair: Pair, agent: Agent, nest: bytes | None, outcome: Outcome) -> None:
    """Session status ok is 0, rejected EACCES, all else EIO; no answer comes, and the descriptor is gone."""
    with submitted(pair[0]) as request, Agent() as reporting:
        fd, _ = accepted(agent)
        arguments = b"" if nest is None else put(raw.DONE_ARGS | raw.NLA_F_NESTED, nest)
        # PROTOCOL is not in the published DONE, and is not looked at.
        published.send(reporting.socket, raw.DONE, put_u32(raw.SOCKFD, fd) + put_u32(raw.PROTOCOL, 99) + arguments)
        assert request.outcome() == outcome
        with pytest.raises(OSError):
            os.fstat(fd)
        assert reporting.hears_nothing


def test_done_without_a_socket(pair: Pair, agent: Agent) -> None:
    """INVAL: our dialect's place for it in the nest is none here, and ends no request."""
    with submitted(pair[0]) as request:
        fd, _ = accepted(agent)
        for nest in (put_u32(published.TLS_SESS_STATUS, 0), put_u32(2, fd)):
            answer = agent.ask(raw.DONE, put(raw.DONE_ARGS | raw.NLA_F_NESTED, nest))
            assert answer == [(raw.MSG_STATUS, number(raw.INVAL))]
        assert request.waits
        os.close(fd)


def plant(fd: int, *directions: int) -> None:
    with socket.socket(fileno=os.dup(fd)) as sock:
        sock.setsockopt(6, 31, b"tls")
        for direction in directions:
            sock.setsockopt(282, direction, KEYS)


@pytest.mark.parametrize(
    ("planted", "status"),
    [(None, errno.EIO), ((), errno.EIO), ((1,), errno.EIO), ((2,), errno.EIO), ((1, 2), 0)],
    ids=["plain text", "no keys", "one way out", "one way in", "both ways"],
)
def test_closing_tells(pair: Pair, agent: Agent, planted: tuple[int, ...] | None, status: int) -> None:
    """The last copy closed without DONE is success where the socket has a session both ways, and nowhere else."""
    with submitted(pair[0]) as request:
        fd, _ = accepted(agent)
        if planted is not None:
            plant(fd, *planted)
        copy = os.dup(fd)
        os.close(fd)
        assert request.waits
        os.close(copy)
        assert request.outcome() == Outcome(status)


def test_closing_tells_of_tls_alone() -> None:
    """A TLS session is no success of another mechanism, and a socket that cannot have one is asked in vain."""
    near, far = socket.socketpair()
    with Agent(raw.TLSHD, raw.PSP) as agent, tcp_pairs() as (pair,), near, far:
        for sock, protocol in ((pair[0], raw.PSP), (near, raw.TLSHD)):
            with submitted(sock, protocol=protocol) as request:
                answer = agent.ask(raw.ACCEPT, put_u32(raw.PROTOCOL, protocol))
                fd = int.from_bytes(dict(answer)[raw.SOCKFD], "little")
                if sock is pair[0]:
                    plant(fd, 1, 2)
                os.close(fd)
                assert request.outcome() == Outcome(errno.EIO)


def set_dialect(value: int) -> None:
    Path("/proc/sys/net/hsframework_handshake/dialect").write_text(str(value))


def test_both_dialects_side_by_side(pair: Pair, agent: Agent, yellow: str) -> None:
    """Each namespace has its own; a request keeps the one in which it was accepted; other values are refused."""
    with contextlib.ExitStack() as opened:
        with network_namespace(yellow):
            set_dialect(0)
            ours = opened.enter_context(Agent(raw.TLSHD))
            there, _ = (opened.enter_context(end) for end in socket.socketpair())
        ours_asked = opened.enter_context(submitted(there))
        asked = opened.enter_context(submitted(pair[0]))
        fd, _ = accepted(agent)
        got = ours.take()
        assert [kind for kind, _ in got.arguments] == [1, 3, 5]
        with network_namespace(yellow):
            set_dialect(1)
        set_dialect(0)
        try:
            ours.done(got.fd, errno.ETIMEDOUT)
            assert ours_asked.outcome() == Outcome(errno.ETIMEDOUT)
            published.done(fd, published.SESS_STATUS_REJECTED)
            assert asked.outcome() == Outcome(errno.EACCES)
        finally:
            set_dialect(1)
        with pytest.raises(OSError):
            set_dialect(2)
