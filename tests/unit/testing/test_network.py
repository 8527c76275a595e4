"""The bad network: what it does follows from its seed, and a stream arrives whole whatever is done to it."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.testing.network import BadNetwork, Conditions
from hsframework.testing.virtual_time import run

DATA = bytes(range(256)) * 2


async def _read_all(sock: socket.socket) -> bytes:
    loop, found = asyncio.get_running_loop(), b""
    sock.setblocking(False)
    while data := await loop.sock_recv(sock, 65536):
        found += data
    return found


@settings(deadline=None, max_examples=15)
@given(
    st.builds(
        Conditions,
        seed=st.integers(0, 1000),
        chunk=st.sampled_from([0, 1, 7, 5000]),
        delay=st.sampled_from([0.0, 0.5]),
        coalesce=st.booleans(),
    )
)
def test_streams_arrive_whole(conditions: Conditions) -> None:
    """Every byte in its order, in both directions, and the end after the last."""

    async def scene() -> None:
        with BadNetwork.streams(conditions) as network:
            for sock, data in ((network.left, DATA[:300]), (network.right, DATA[100:300])):
                sock.sendall(data)
                sock.shutdown(socket.SHUT_WR)
            assert await asyncio.gather(*map(_read_all, (network.left, network.right))) == [
                DATA[100:300],
                DATA[:300],
            ]

    run(scene())


async def _datagrams(conditions: Conditions) -> list[int]:
    with BadNetwork.datagrams(conditions) as network:
        for number in range(200):
            network.left.send(bytes([number]))
        await asyncio.sleep(60)
        network.right.setblocking(False)
        found: list[int] = []
        try:
            while True:
                found.extend(network.right.recv(10))
        except BlockingIOError:
            return found


def test_datagrams_of_a_good_network() -> None:
    """Each once and in order."""
    assert run(_datagrams(Conditions())) == list(range(200))


def test_datagrams_are_lost_doubled_and_reordered() -> None:
    """Each about as often as was asked for, the same for the same seed, and otherwise for another."""
    bad = Conditions(drop=0.3, duplicate=0.2, reorder=0.3)
    first, again, other = (run(_datagrams(replace(bad, seed=seed))) for seed in (1, 1, 2))
    assert first == again != other
    assert 100 < len(set(first)) < 180
    assert len(first) > len(set(first))
    assert first != sorted(first)


def test_first_losses() -> None:
    """So many at the beginning, whatever the seed."""
    assert run(_datagrams(Conditions(first_losses=3))) == list(range(3, 200))


def test_stall_flush_and_tamper() -> None:
    """Held bytes are delivered where they are cut; tampering changes what passes; injection goes ahead."""

    async def scene() -> None:
        with BadNetwork.streams() as network:
            network.right.setblocking(False)
            loop = network._loop
            network.tamper = lambda direction, data: data.upper() if direction == "right" else data
            network.stalled = True
            network.left.send(b"hello")
            await loop.idle()
            assert network.held("right") == 5
            network.inject("right", b"<")
            network.flush("right", 2, 1)
            while network.delivering("right"):
                await loop.idle()
            assert network.right.recv(100) == b"<HELLO"
            assert network.passed["right"] == [b"<", b"HE", b"L", b"LO"]
            network.hang_up("right")
            assert await loop.sock_recv(network.right, 10) == b""

    run(scene())


def test_without_virtual_time() -> None:
    """It says what is wanted."""

    async def scene() -> None:
        with pytest.raises(RuntimeError, match="virtual_time"), BadNetwork.streams():
            pass

    asyncio.run(scene())
