"""PSP packets: header, protection, transport-mode encapsulation (PSP Architecture Specification 1.0).  Sans-IO.

::

     0                   1                   2                   3
    +---------------+---------------+---------------+---------------+
    |  next header  | hdr ext len   | R | crypt off |S|D| ver   |V|1|
    +---------------+---------------+---------------+---------------+
    |                             SPI                               |
    |                      IV, 64 bits                              |
    |            virtualisation cookie, 64 bits, if V               |
    |  payload: in clear up to the crypt offset, then encrypted     |
    |                      ICV, 128 bits                            |

The nonce is SPI ‖ IV.  The crypt offset counts units of 4 bytes from the end of the IV, so a cookie belongs to what
it counts.  All that is not encrypted is authenticated; with AES-GMAC nothing is encrypted.  An IV must not come twice
under a key, which :class:`PacketSealer` sees to.
"""

from __future__ import annotations

import struct
from itertools import count
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from hsframework.errors import StreamError
from hsframework_psp.versions import SPI_MASK, Version

UDP_PORT = 1000
HEADER_SIZE = 16
COOKIE_SIZE = 8
ICV_SIZE = 16
MAX_CRYPT_OFFSET = 63 * 4
MAX_IV = 2**64 - 1

_HEADER = struct.Struct(">BBBBI8s")
_UDP = struct.Struct(">HHHH")
_ONE, _VIRTUAL, _DROP, _SAMPLE = 1, 2, 0x40, 0x80
_VERSIONS = {int(version): version for version in Version}
_ENCRYPTING = frozenset(version for version in Version if version.encrypts)


class PacketRefused(StreamError):
    """A packet that is malformed, or does not authenticate.  Nothing in it may be trusted."""


class Header(NamedTuple):
    """The fields that can be read before a packet is opened, and trusted only afterwards."""

    next_header: int
    crypt_offset: int
    """Bytes."""
    version: Version
    spi: int
    iv: bytes
    virtual: bool
    sample: bool = False
    drop: bool = False


class Opened(NamedTuple):
    """A packet that authenticated."""

    header: Header
    payload: bytes
    cookie: bytes | None = None


def read_header(packet: bytes) -> Header:
    """Return the header, read from the first 16 bytes.  Raises PacketRefused."""
    if len(packet) < HEADER_SIZE + ICV_SIZE:
        raise PacketRefused(f"a packet of {len(packet)} bytes; PSP's header and ICV alone have 32")
    next_header, size, offset, flags, spi, iv = _HEADER.unpack_from(packet)
    virtual = flags & _VIRTUAL != 0
    version = _VERSIONS.get(flags >> 2 & 0xF)
    if not flags & _ONE or offset & 0xC0:
        raise PacketRefused("a reserved bit of the header is wrong")
    if version is None:
        raise PacketRefused(f"version {flags >> 2 & 0xF} is not known")
    if size != (2 if virtual else 1):
        raise PacketRefused(f"header extension length {size} {'with' if virtual else 'without'} a cookie")
    if not spi & SPI_MASK:
        raise PacketRefused(f"SPI 0x{spi:08x}")
    return Header(next_header, offset * 4, version, spi, iv, virtual, flags & _SAMPLE != 0, flags & _DROP != 0)


class PacketSealer:
    """The sealing of packets under one SPI and key, with IVs that count up from ``next_iv``.  Threads may share it."""

    def __init__(self, version: Version, spi: int, key: bytes, *, next_iv: int = 1) -> None:
        if len(key) != version.key_size:
            raise ValueError(f"a key for {version.label} has {version.key_size} bytes, not {len(key)}")
        if not spi & SPI_MASK or spi >> 32:
            raise ValueError(f"0x{spi:08x} is no SPI")
        self.version = version
        self.spi = spi
        self.next_iv = next_iv
        """The first one that is not used, while nobody seals."""
        # One step of it is one step for all threads, which `+= 1` is not.
        self._ivs = count(next_iv)
        self._aead = AESGCM(key)
        self._encrypts = version.encrypts
        self._flags = version << 2 | _ONE

    def seal(self, payload: bytes, *, next_header: int, crypt_offset: int = 0, cookie: bytes | None = None) -> bytes:
        """Return a whole packet, from its header to its ICV.

        ``crypt_offset``: bytes in clear behind the IV, a multiple of 4 up to 252 and no more than cookie and payload.
        ``cookie``: 8 bytes.  Raises StreamError when the IVs of the key are used up.
        """
        content = payload if cookie is None else cookie + payload
        if crypt_offset % 4 or not 0 <= crypt_offset <= MAX_CRYPT_OFFSET or crypt_offset > len(content):
            raise ValueError(f"a crypt offset of {crypt_offset} bytes with {len(content)} bytes behind the IV")
        if cookie is not None and len(cookie) != COOKIE_SIZE:
            raise ValueError(f"a virtualisation cookie has {COOKIE_SIZE} bytes, not {len(cookie)}")
        size, flags = (1, self._flags) if cookie is None else (2, self._flags | _VIRTUAL)
        clear = _HEADER.pack(next_header, size, crypt_offset // 4, flags, self.spi, self._take_iv())
        nonce = clear[4:]
        if not self._encrypts:
            clear, content = clear + content, b""
        elif crypt_offset:
            clear, content = clear + content[:crypt_offset], content[crypt_offset:]
        return clear + self._aead.encrypt(nonce, content, clear)

    def _take_iv(self) -> bytes:
        iv = next(self._ivs)
        if iv > MAX_IV:
            raise StreamError("the IVs of this key are used up: establish a new session")
        self.next_iv = iv + 1
        return iv.to_bytes(8, "big")


class PacketOpener:
    """The opening of packets of one SPI and key."""

    def __init__(self, version: Version, spi: int, key: bytes) -> None:
        if len(key) != version.key_size:
            raise ValueError(f"a key for {version.label} has {version.key_size} bytes, not {len(key)}")
        self.version = version
        self.spi = spi
        self._aead = AESGCM(key)

    def open(self, packet: bytes) -> Opened:
        """Return the content of a packet.  Raises PacketRefused."""
        header = read_header(packet)
        if header.spi != self.spi or header.version is not self.version:
            raise PacketRefused(
                f"a packet for SPI 0x{header.spi:08x} with {header.version.label} is not of this session"
            )
        return open_packet(self._aead, header, packet)


def open_packet(aead: AESGCM, header: Header, packet: bytes) -> Opened:
    """Open a packet.  ``header`` is its own, ``aead`` has the key of its SPI.  Raises PacketRefused."""
    end = len(packet) - ICV_SIZE
    cookie_size = COOKIE_SIZE if header.virtual else 0
    if HEADER_SIZE + max(header.crypt_offset, cookie_size) > end:
        raise PacketRefused("the crypt offset or the cookie reaches past the payload")
    start = HEADER_SIZE + header.crypt_offset if header.version in _ENCRYPTING else end
    clear = packet[:start]
    try:
        opened = aead.decrypt(packet[4:16], packet[start:], clear)
    except InvalidTag:
        raise PacketRefused(f"a packet for SPI 0x{header.spi:08x} does not authenticate") from None
    content = clear[HEADER_SIZE:] + opened if start > HEADER_SIZE else opened
    return Opened(header, content[cookie_size:], content[:cookie_size] if cookie_size else None)


def encapsulate(packet: bytes, *, source_port: int) -> bytes:
    """Return the UDP datagram of transport mode, with its header.

    It has no checksum: the ICV covers what matters (and IPv4 and RFC 6936 allow none).  ``source_port``: any that
    spreads flows, for example a hash of the inner ports.
    """
    return _UDP.pack(source_port, UDP_PORT, _UDP.size + len(packet), 0) + packet


def decapsulate(datagram: bytes) -> bytes:
    """Return the packet of a UDP datagram, given with its header, to port 1000.  Raises PacketRefused."""
    if len(datagram) < _UDP.size:
        raise PacketRefused(f"a UDP datagram of {len(datagram)} bytes")
    _, port, size, _ = _UDP.unpack_from(datagram)
    if port != UDP_PORT or not _UDP.size <= size <= len(datagram):
        raise PacketRefused(f"a UDP datagram to port {port}, of length {size}: not PSP")
    return datagram[_UDP.size : size]
