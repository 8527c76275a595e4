"""1-RTT packets that arrive with the handshake: how many are kept, and when they are read."""

from __future__ import annotations

from typing import Any, cast

import pytest
from aioquic.quic.crypto import CryptoError

from hsframework_quic.aioquic_adapter.handshaking import HandshakeConnection
from hsframework_quic.handshake.frames import Glimpse
from hsframework_quic.handshake.packets import MAX_EARLY_PACKETS, KeptPackets
from hsframework_quic.session import MAX_PACKET_BYTES, MAX_PACKETS

PING = b"\1"


class Connection:
    """A connection, played: a packet is ``number:payload``, and one that begins with x is not the peer's.

    One that begins with n is under the peer's next keys.
    """

    def __init__(self, *, can_read: bool = True, complete: bool = True) -> None:
        self.can_read, self.complete = can_read, complete
        self.noted: list[tuple[int, bool]] = []

    def read(self, packet: bytes) -> tuple[bytes, int, bool]:
        if packet.startswith(b"x"):
            raise CryptoError
        number, _, payload = packet.removeprefix(b"n").partition(b":")
        return payload, int(number), packet.startswith(b"n")

    def has_packet(self, number: int) -> bool:
        return any(number == noted for noted, _ in self.noted)

    def note_packet(self, number: int, now: float, *, ack_eliciting: bool) -> None:
        self.noted.append((number, ack_eliciting))


def read(kept: KeptPackets, connection: Connection) -> list[Glimpse]:
    """Return what is read now."""
    return list(kept.look_into(cast(HandshakeConnection, connection), 1.0))


def kept_packets(*packets: bytes) -> KeptPackets:
    """Return these packets, kept."""
    made = KeptPackets()
    for packet in packets:
        made.keep(packet, can_read=True)
    return made


@pytest.mark.parametrize("missing", ["can_read", "complete"])
def test_nothing_is_read_too_early(missing: str) -> None:
    """Neither without keys nor before the handshake is complete; the packets stay, and are read later."""
    kept = kept_packets(b"0:\1", b"x", b"1:\0")
    early: dict[str, Any] = {missing: False}
    assert read(kept, Connection(**early)) == []
    assert list(kept.all) == [b"0:\1", b"x", b"1:\0"]
    late = Connection()
    assert read(kept, late) == [Glimpse(ack_eliciting=True), Glimpse()]
    assert late.noted == [(0, True), (1, False)]


def test_what_is_not_the_peers_is_dropped() -> None:
    """Garbage and repetitions; each packet of the peer's is read once, in its order."""
    connection = Connection()
    kept = kept_packets(b"1:\1", b"x", b"1:\1", b"0:\1")
    assert len(read(kept, connection)) == 2
    assert list(kept.all) == [b"1:\1", b"0:\1"]
    assert read(kept, connection) == []
    kept.keep(b"1:\1", can_read=True)
    kept.keep(b"2:\1", can_read=True)
    assert len(read(kept, connection)) == 1
    assert list(kept.all) == [b"1:\1", b"0:\1", b"2:\1"]
    assert [number for number, _ in connection.noted] == [1, 0, 2]


def test_a_bounded_number_is_kept() -> None:
    """Fewer before there are keys, since anybody may have sent them; and so many bytes in all."""
    kept = KeptPackets()
    for number in range(MAX_EARLY_PACKETS + 5):
        kept.keep(b"%d:" % number, can_read=False)
    assert list(kept.all) == [b"%d:" % number for number in range(MAX_EARLY_PACKETS)]
    for _ in range(MAX_PACKETS + 5):
        kept.keep(b"y", can_read=True)
    assert len(kept.all) == MAX_PACKETS
    kept.clear()
    assert list(kept.all) == []
    for size in (MAX_PACKET_BYTES - 1, 2, 1, 1):
        kept.keep(b"z" * size, can_read=True)
    assert [len(packet) for packet in kept.all] == [MAX_PACKET_BYTES - 1, 1]


def test_packets_that_were_cleared_leave_no_trace() -> None:
    """The next one is read from its first packet on."""
    connection = Connection()
    kept = kept_packets(b"0:\1")
    assert len(read(kept, connection)) == 1
    kept.clear()
    kept.keep(b"7:\1", can_read=True)
    assert len(read(kept, connection)) == 1


def test_the_end_of_the_handshake_is_seen_however_much_came_before() -> None:
    """HANDSHAKE_DONE, a close: in a packet that is too many, which is neither kept nor acknowledged."""
    kept, connection = KeptPackets(), Connection()
    for number in range(MAX_PACKETS):
        kept.keep(b"%d:\1" % number, can_read=True)
    read(kept, connection)
    noted = list(connection.noted)
    for payload, expected in (
        (b"\x1e", Glimpse(ack_eliciting=True, handshake_done=True, kept=False)),
        (b"\x1c\7\0\0", Glimpse(closed=True, close_code=7, kept=False)),
        (b"\6\0\1a", Glimpse(ack_eliciting=True, kept=False)),
    ):
        kept.keep(b"999:" + payload, can_read=True)
        assert read(kept, connection) == [expected]
    assert len(kept.all) == MAX_PACKETS
    assert connection.noted == noted
    assert read(kept, connection) == []


def test_a_packet_under_the_next_keys_is_left_to_the_consumer() -> None:
    """An acknowledgement would have to be under ours: it is looked into, and that is all."""
    kept, connection = kept_packets(b"0:\1", b"n1:\x1e"), Connection()
    assert [seen.handshake_done for seen in read(kept, connection)] == [False, True]
    assert kept.all == (b"0:\1",)
    assert connection.noted == [(0, True)]
