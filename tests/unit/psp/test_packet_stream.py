"""The stream over sealed packets: in pieces of any size, and whatever is done to it on the way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from hsframework_psp.packet_stream import MAX_DATA, Packets, PacketSession
from hsframework_psp.packets import PacketOpener, PacketSealer
from hsframework_psp.versions import Version
from hsframework_tls13.events import SessionBroken, SessionTruncated

KEYS = bytes(16), bytes(range(16))


def ends() -> tuple[PacketSession, PacketSession]:
    one, other = (
        PacketSession(Packets(PacketSealer(Version.AES_GCM_128, 1, ours), PacketOpener(Version.AES_GCM_128, 1, theirs)))
        for ours, theirs in (KEYS, KEYS[::-1])
    )
    return one, other


@given(st.lists(st.binary(max_size=40), max_size=6), st.lists(st.integers(0, 600), max_size=8))
def test_in_any_pieces(messages: list[bytes], cuts: list[int]) -> None:
    """The bytes are the same in whatever pieces they come, and the end is the end."""
    sender, receiver = ends()
    wire = b"".join(map(sender.encrypt, messages)) + sender.close()
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    assert b"".join(receiver.decrypt(wire[start:end]) for start, end in pairwise(edges)) == b"".join(messages)
    assert receiver.peer_closed
    receiver.receive_eof()


def test_byte_by_byte() -> None:
    """Also data of more than one packet."""
    sender, receiver = ends()
    data = bytes(range(256)) * (MAX_DATA // 128)
    wire = sender.encrypt(data)
    assert b"".join(receiver.decrypt(wire[at : at + 1]) for at in range(len(wire))) == data
    assert not receiver.peer_closed


def test_every_flipped_bit() -> None:
    """Of a packet or of its length: an error, or (a length that grew) bytes that do not come."""
    sender, _ = ends()
    wire = sender.encrypt(b"data")
    for bit in range(len(wire) * 8):
        _, receiver = ends()
        changed = bytearray(wire)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert receiver.decrypt(bytes(changed)) == b""
        except SessionBroken:
            with pytest.raises(SessionBroken):
                receiver.decrypt(b"")
        else:
            with pytest.raises(SessionTruncated):
                receiver.receive_eof()
        with pytest.raises((SessionBroken, SessionTruncated)):
            receiver.receive_eof()


def test_good_data_comes_before_the_error() -> None:
    """The data in front of a broken packet is given first."""
    sender, receiver = ends()
    first, second = sender.encrypt(b"first"), bytearray(sender.encrypt(b"second"))
    second[-1] ^= 1
    assert receiver.decrypt(first + second) == b"first"
    for _ in range(2):
        with pytest.raises(SessionBroken):
            receiver.decrypt(b"")


def test_packets_of_another_kind() -> None:
    """One of the consumer's own in the stream's place, a kind that does not exist, the end cut off: refused."""
    for payload, next_header in ((bytes(9), 6), (bytes(8) + b"\2", 59), (b"short", 59)):
        _, receiver = ends()
        packet = PacketSealer(Version.AES_GCM_128, 1, KEYS[0]).seal(payload, next_header=next_header)
        with pytest.raises(SessionBroken):
            receiver.decrypt(len(packet).to_bytes(2, "big") + packet)


def test_after_our_end() -> None:
    """The goodbye is said once, and nothing after it."""
    sender, _ = ends()
    assert sender.close()
    assert sender.close() == b""
    with pytest.raises(SessionBroken):
        sender.encrypt(b"more")
