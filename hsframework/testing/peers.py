"""Peers and network faults for the handshakes of the conformance suite."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator, Sequence

from hsframework.testing.network import BadNetwork, Conditions

MARKER = b"<these bytes are the consumer's>"
"""Data of a consumer that follows a handshake on the wire."""

SEEDS = 20
Sizes = Callable[[int], Sequence[int]]
"""Returns the sizes of the pieces into which a flight is cut, by its size in bytes."""


def silence(network: BadNetwork, direction: str) -> None:
    """Do nothing: a silent peer."""


def send_and_hang_up(data: bytes) -> Callable[[BadNetwork, str], None]:
    """Return a peer that sends ``data`` and closes a stream."""

    def act(network: BadNetwork, direction: str) -> None:
        network.inject(direction, data)
        if network.kind is socket.SOCK_STREAM:
            network.hang_up(direction)

    return act


def stall_after(messages: int) -> Callable[[BadNetwork], None]:
    """Return a fault: all data behind the first ``messages`` pieces is held back."""

    def arrange(network: BadNetwork) -> None:
        passed = 0

        def count(direction: str, data: bytes) -> bytes:
            nonlocal passed
            passed += 1
            network.stalled = network.stalled or passed > messages
            return data

        network.tamper = count

    return arrange


def flip_a_bit(seed: int) -> Callable[[BadNetwork], None]:
    """Return a fault: one bit of one message is flipped."""
    chance = random.Random(f"flip {seed}")
    wanted, direction, position = chance.randrange(3), chance.choice(("left", "right")), chance.random()

    def arrange(network: BadNetwork) -> None:
        seen = 0

        def tamper(way: str, data: bytes) -> bytes:
            nonlocal seen
            if way != direction or not data:
                return data
            seen += 1
            if seen != wanted + 1:
                return data
            changed = bytearray(data)
            changed[int(position * len(data))] ^= 1 << chance.randrange(8)
            return bytes(changed)

        network.tamper = tamper

    return arrange


def cuts() -> Iterator[tuple[str, Sizes]]:
    """Yield places at which flights are cut, with a name: each of the first and last bytes, some between, all."""
    yield "nowhere", lambda size: ()
    for at in range(1, 65):
        yield f"behind byte {at}", lambda size, at=at: (min(at, size),)  # type: ignore[misc]
    for at in range(1, len(MARKER) + 65):
        yield f"{at} bytes before the end", lambda size, at=at: (max(size - at, 0),)  # type: ignore[misc]
    chance = random.Random("cuts")
    for share in (chance.random() for _ in range(32)):
        yield f"at {share:.0%}", lambda size, share=share: (int(size * share),)  # type: ignore[misc]
    yield "behind every byte", lambda size: (1,) * size


def garbage(chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield data of another protocol and of no protocol, with a name."""
    yield "a request of another protocol", b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
    for size in (1, 2, 3, 5, 16, 100, 1400):
        yield f"{size} zero bytes", bytes(size)
        yield f"{size} bytes of ones", b"\xff" * size
        yield f"{size} random bytes", chance.randbytes(size)
    yield "many random bytes", chance.randbytes(60_000)


def bad_conditions(streams: bool) -> Iterator[Conditions]:
    """Yield bad conditions for handshakes; ``streams``: over TCP, else over UDP."""
    for seed in range(SEEDS):
        if streams:
            yield Conditions(seed=seed, chunk=(7, 60, 400, 1400)[seed % 4], delay=0.0 if seed % 2 else 0.02)
        else:
            yield Conditions(seed=seed, drop=0.2, duplicate=0.2, reorder=0.3, delay=0.03, first_losses=seed % 3)


def bulk_conditions(streams: bool) -> tuple[Conditions, ...]:
    """Return conditions for the data of sessions; ``streams``: over TCP, else over UDP."""
    if streams:
        return Conditions(), Conditions(coalesce=True), Conditions(chunk=5000, delay=0.001)
    return Conditions(), Conditions(drop=0.02, reorder=0.1, duplicate=0.05)
