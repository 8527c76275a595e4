"""PSP packets: every version, offset and length; every bit; what is malformed."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings, strategies as st

from hsframework.errors import StreamError
from hsframework_psp.packets import (
    HEADER_SIZE,
    ICV_SIZE,
    MAX_CRYPT_OFFSET,
    MAX_IV,
    PacketOpener,
    PacketRefused,
    PacketSealer,
    decapsulate,
    encapsulate,
    read_header,
)
from hsframework_psp.versions import Version

SPI = 0x80000001
each_version = pytest.mark.parametrize("version", list(Version), ids=lambda version: version.label)


def pair(version: Version) -> tuple[PacketSealer, PacketOpener]:
    key = bytes(range(version.key_size))
    return PacketSealer(version, SPI, key), PacketOpener(version, SPI, key)


@each_version
@settings(max_examples=200, deadline=None)
@given(
    payload=st.binary(max_size=600),
    offset=st.integers(0, MAX_CRYPT_OFFSET // 4),
    cookie=st.none() | st.binary(min_size=8, max_size=8),
    next_header=st.integers(0, 255),
)
def test_round_trip(version: Version, payload: bytes, offset: int, cookie: bytes | None, next_header: int) -> None:
    """A sealed packet opens to the same; the part before the crypt offset is in clear, the rest is not."""
    sealer, opener = pair(version)
    content = (cookie or b"") + payload
    offset = min(offset, len(content) // 4) * 4
    packet = sealer.seal(payload, next_header=next_header, crypt_offset=offset, cookie=cookie)
    assert len(packet) == HEADER_SIZE + len(content) + ICV_SIZE
    opened = opener.open(packet)
    assert (opened.payload, opened.cookie) == (payload, cookie)
    assert (opened.header.next_header, opened.header.crypt_offset) == (next_header, offset)
    inside = packet[HEADER_SIZE:-ICV_SIZE]
    assert inside[:offset] == content[:offset]
    if version.encrypts and len(content) - offset >= 16:
        assert inside[offset:] != content[offset:]
    if not version.encrypts:
        assert inside == content


@each_version
@pytest.mark.parametrize("cookie", [None, b"cookie!!"], ids=["plain", "cookie"])
@pytest.mark.parametrize("offset", range(0, MAX_CRYPT_OFFSET + 1, 4))
def test_every_offset_and_length(version: Version, offset: int, cookie: bytes | None) -> None:
    """Each crypt offset with each number of bytes behind it up to 36: at block edges, and none at all."""
    sealer, opener = pair(version)
    for behind in range(36):
        payload = bytes(i & 0xFF for i in range(max(0, offset - len(cookie or b"")) + behind))
        packet = sealer.seal(payload, next_header=6, crypt_offset=offset, cookie=cookie)
        assert opener.open(packet).payload == payload


@each_version
@pytest.mark.parametrize("cookie", [None, b"cookie!!"], ids=["plain", "cookie"])
def test_every_flipped_bit_is_refused(version: Version, cookie: bytes | None) -> None:
    """Header, clear part, encrypted part, ICV: no bit of a packet can change."""
    sealer, opener = pair(version)
    packet = sealer.seal(b"clear part, then the rest", next_header=6, crypt_offset=12, cookie=cookie)
    opener.open(packet)
    for bit in range(len(packet) * 8):
        changed = bytearray(packet)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PacketRefused):
            opener.open(bytes(changed))


@each_version
def test_every_truncation_and_extension_is_refused(version: Version) -> None:
    """A packet is whole or nothing."""
    sealer, opener = pair(version)
    packet = sealer.seal(b"payload of a packet", next_header=6, crypt_offset=8)
    for size in range(len(packet)):
        with pytest.raises(PacketRefused):
            opener.open(packet[:size])
    with pytest.raises(PacketRefused):
        opener.open(packet + b"\0")


@given(st.binary(max_size=200))
def test_anything_else_is_refused(data: bytes) -> None:
    """Random bytes never open, and never raise anything but PacketRefused."""
    _, opener = pair(Version.AES_GCM_128)
    with pytest.raises(PacketRefused):
        opener.open(data)
    with pytest.raises(PacketRefused):
        decapsulate(data[:2] + b"\0\1" + data[2:])


def test_ivs_never_repeat() -> None:
    """They count up, and a key ends with the last one."""
    sealer, _ = pair(Version.AES_GCM_256)
    packets = [sealer.seal(b"", next_header=6) for _ in range(100)]
    assert len({read_header(packet).iv for packet in packets}) == 100
    last = PacketSealer(Version.AES_GCM_128, SPI, bytes(16), next_iv=MAX_IV)
    last.seal(b"", next_header=6)
    with pytest.raises(StreamError, match="used up"):
        last.seal(b"", next_header=6)


def test_ivs_never_repeat_in_threads() -> None:
    """A stream on one thread and packets of the consumer's own on others: an IV that comes twice gives the key away."""
    sealer, _ = pair(Version.AES_GCM_128)

    def seal(_: int) -> list[bytes]:
        return [read_header(sealer.seal(b"", next_header=6)).iv for _ in range(2000)]

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            ivs = [iv for found in pool.map(seal, range(4)) for iv in found]
    finally:
        sys.setswitchinterval(before)
    assert len(set(ivs)) == len(ivs) == 8000


def test_wrong_arguments() -> None:
    """A crypt offset past the payload, an odd one, a short cookie, a short key, an SPI of zero."""
    sealer, opener = pair(Version.AES_GCM_128)
    for arguments in ({"crypt_offset": 8}, {"crypt_offset": 2}, {"crypt_offset": 256}, {"cookie": b"short"}):
        with pytest.raises(ValueError, match=r"crypt offset|cookie"):
            sealer.seal(b"four", next_header=6, **arguments)
    for spi, key in ((SPI, bytes(15)), (PHASE_ONLY, bytes(16))):
        with pytest.raises(ValueError, match=r"key|SPI"):
            PacketSealer(Version.AES_GCM_128, spi, key)
    with pytest.raises(PacketRefused, match="not of this session"):
        opener.open(PacketSealer(Version.AES_GCM_128, SPI + 1, bytes(range(16))).seal(b"", next_header=6))


PHASE_ONLY = 0x80000000


def test_transport_mode() -> None:
    """UDP to port 1000 around the packet, and off again; another port, or a length that lies, is refused."""
    sealer, _ = pair(Version.AES_GCM_128)
    packet = sealer.seal(b"segment", next_header=6)
    datagram = encapsulate(packet, source_port=4242)
    assert datagram[:8] == bytes.fromhex("109203e8") + (len(packet) + 8).to_bytes(2, "big") + b"\0\0"
    assert decapsulate(datagram) == packet
    for wrong in (datagram[:2] + b"\x03\xe9" + datagram[4:], datagram[:-1], datagram[:7]):
        with pytest.raises(PacketRefused):
            decapsulate(wrong)
