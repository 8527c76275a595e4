"""Input of a local user to a running dispatcher: packets and file descriptors of any kind, to both sockets."""

from __future__ import annotations

import array
import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, strategies as st
from structlog.testing import capture_logs

from hsframework.configuration.settings import Configuration, Limits
from hsframework.errors import MessageError
from hsframework.interface import Trust
from hsframework.local.trustfile import decode_trust, encode_trust
from hsframework.netlink.messages import NLM_F_ACK
from hsframework.netlink.spec import builtin_specification
from tests.fuzz.conftest import Fuzz
from tests.fuzz.mutation import damaged
from tests.netlink_values import attribute_values
from tests.support.house import codec, connected_pair, house, open_fds, serves

pytestmark = pytest.mark.fuzz

LOCAL = builtin_specification("local")
GROUPS = st.sampled_from(["toy", "well", "other"])
SENSE: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "submit": {"group": GROUPS, "message-type": st.integers(1, 2), "auth-mode": st.integers(1, 3)},
    "cancel": {"request-id": st.integers(0, 4)},
    "join": {"group": st.lists(GROUPS, min_size=1, max_size=2), "protocol": st.just("toy"), "agent": st.just("fuzz")},
    "leave": {"group": st.lists(GROUPS, min_size=1, max_size=2)},
    "accept": {"group": GROUPS, "count": st.integers(0, 3)},
    "done": {"request-id": st.integers(0, 4), "status": st.sampled_from([0, 5, 5000])},
    "psk-lookup": {"request-id": st.integers(0, 4), "identity": st.binary(max_size=8)},
    "crowded": {"name": st.text(max_size=40), "missed": st.integers(0, 2**32 - 1)},
    "traced": {"request-id": st.integers(0, 4), "report": st.text(max_size=40)},
    "trace": {"peer": st.sampled_from(["127.0.0.0/8", "::/0", "x"]), "count": st.integers(0, 3)},
    "restore": {"request-id": st.integers(0, 4), "group": GROUPS, "source": st.sampled_from(["local", "x"])},
}
"""Values with which a message is likely to be taken; anything else that its operation allows may be added."""

Packet = tuple[bytes, list[str]]


@st.composite
def packets(draw: st.DrawFn, *likely: str) -> Packet:
    """Draw mostly one of the ``likely`` operations, some damaged, some noise; and the fds that go with it."""
    name = draw(st.sampled_from([*likely * 4, *SENSE]))
    operation = LOCAL.operations[name]
    values = {key: draw(strategy) for key, strategy in SENSE[name].items()}
    if draw(st.integers(0, 3)) == 3:
        more = draw(attribute_values(LOCAL, operation.attribute_set))
        values |= {key: more[key] for key in more if key in (operation.request or ())}
    data = codec.encode(name, values, sequence=draw(st.integers(0, 4)), flags=draw(st.sampled_from([0, NLM_F_ACK])))
    if draw(st.integers(0, 4)) == 4:
        data = draw(st.one_of(damaged(data), st.binary(min_size=1, max_size=60)))
    fds: list[str] = []
    if name in ("submit", "restore"):
        fds = [draw(st.sampled_from(["tcp"] * 6 + [*MAKERS]))]
    if draw(st.integers(0, 9)) == 9:
        fds = draw(st.lists(st.sampled_from(["tcp", *MAKERS]), max_size=3))
    return data, fds


MAKERS: dict[str, Callable[[], tuple[int, int]]] = {
    "unix": lambda: _detached(*socket.socketpair()),
    "pipe": os.pipe,
    "unconnected": lambda: (socket.socket().detach(), socket.socket().detach()),
}


def _detached(one: socket.socket, two: socket.socket) -> tuple[int, int]:
    return one.detach(), two.detach()


def make(kind: str) -> tuple[int, int]:
    """Make two fds: the one to send and another to keep beside it."""
    if kind != "tcp":
        return MAKERS[kind]()
    with connected_pair() as (one, two):
        return os.dup(one.fileno()), os.dup(two.fileno())


def send(sock: socket.socket, packet: Packet) -> list[int]:
    """Send, unless the dispatcher has closed the connection; the fds that we keep."""
    data, kinds = packet
    pairs = [make(kind) for kind in kinds]
    fds = [pair[0] for pair in pairs]
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    with contextlib.suppress(OSError):
        sock.sendmsg([data], rights, socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT)
    for fd in fds:
        os.close(fd)
    return [pair[1] for pair in pairs]


async def play(scripts: list[tuple[str, list[Packet]]]) -> None:
    """Play each script on a connection of its own, by turns, packet by packet, and then a whole request."""
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    kept: list[int] = []
    try:
        async with house(Configuration(limits=Limits(per_source=6))) as home:
            sockets = []
            for name, _ in scripts:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                sock.connect(str(home.folder / name))
                sockets.append(sock)
            for turn in range(max(len(packets) for _, packets in scripts)):
                for sock, (_, packets) in zip(sockets, scripts, strict=True):
                    if turn < len(packets):
                        kept += send(sock, packets[turn])
                for _ in range(4):  # the dispatcher's turns: to read, to hand over, to answer
                    await asyncio.sleep(0)
            for sock in sockets:
                sock.close()
            await serves(home)
    finally:
        for fd in kept:
            os.close(fd)
    assert not failures, failures


def test_packets(fuzz: Fuzz) -> None:
    """No packet makes the dispatcher raise, keep a request or a file descriptor, or stop serving the others."""
    agent = packets("accept", "accept", "done", "psk-lookup", "leave", "join", "restore")
    join = codec.encode("join", {"group": ["toy", "well"], "protocol": "toy", "agent": "fuzz"}, flags=NLM_F_ACK)
    script = st.one_of(
        st.tuples(st.just("consumer.sock"), st.lists(packets("submit", "submit", "cancel"), max_size=6)),
        st.tuples(st.just("agent.sock"), st.lists(agent, max_size=6).map(lambda rest: [(join, []), *rest])),
        st.tuples(st.just("agent.sock"), st.lists(agent, max_size=3)),
    )

    @given(st.lists(script, min_size=1, max_size=4))
    def target(scripts: list[tuple[str, list[Packet]]]) -> None:
        before = open_fds()
        with capture_logs() as events:
            asyncio.run(play(scripts))
        assert open_fds() == before
        assert not [event for event in events if event["event"] == "a fault in the dispatcher"]

    fuzz(target)


def test_trust_files(fuzz: Fuzz) -> None:
    """A memfd with trust is decoded, or MessageError."""
    good = encode_trust(Trust((b"anchor", b"another"), (b"list",)))

    @given(st.one_of(damaged(good), st.binary(max_size=60)))
    def target(content: bytes) -> None:
        try:
            trust = decode_trust(content)
        except MessageError:
            return
        assert decode_trust(encode_trust(trust)) == trust

    fuzz(target)
