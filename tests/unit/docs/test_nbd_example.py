"""The negotiation of examples/nbd, with a server's side as bytes."""

from __future__ import annotations

import struct

import pytest

from hsframework.errors import HandshakeError
from hsframework_nbd.negotiation import Export, Negotiation

HELLO = b"NBDMAGICIHAVEOPT" + struct.pack("!H", 3)


def reply(option: int, kind: int, data: bytes = b"") -> bytes:
    return struct.pack("!QIII", 0x3E889045565A9, option, kind, len(data)) + data


TLS = HELLO + reply(5, 1)
EXPORT = reply(7, 3, struct.pack("!HQH", 0, 1 << 20, 5))
BLOCK_SIZE = reply(7, 3, struct.pack("!HIII", 3, 4096, 4096, 1 << 20))


class Played:
    """A server that has sent all its bytes, of which a read gets one at a time or as many as it asks for."""

    def __init__(self, data: bytes, most: int) -> None:
        self.left, self._most = data, most
        self.sent = b""
        self.negotiation = Negotiation(self._send, self._receive)

    def _send(self, data: bytes) -> None:
        self.sent += data

    def _receive(self, size: int) -> bytes:
        size = min(size, self._most)
        data, self.left = self.left[:size], self.left[size:]
        return data


@pytest.mark.parametrize("most", [1, 1 << 16])
def test_both_parts(most: int) -> None:
    """STARTTLS, then GO; not a byte more is read than belongs to either."""
    played = Played(TLS + b"TLS", most)
    played.negotiation.start_tls()
    assert played.left == b"TLS"
    assert played.sent == struct.pack("!I", 3) + b"IHAVEOPT" + struct.pack("!II", 5, 0)
    played.left, played.sent = EXPORT + BLOCK_SIZE + reply(7, 1) + b"data", b""
    assert played.negotiation.go("disk") == Export(1 << 20, 5, 4096)
    assert played.left == b"data"
    assert played.sent == b"IHAVEOPT" + struct.pack("!III4sHH", 7, 12, 4, b"disk", 1, 3)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"NBDMAGIC\x00\x00\x42\x02\x81\x86\x12\x53", "no newstyle"),
        (HELLO[:16] + bytes(2), "no TLS"),
        (HELLO + reply(5, (1 << 31) + 1, b"not here"), "not here"),
        (HELLO + reply(5, 1, b"more"), "neither yes nor no"),
        (HELLO + reply(7, 1), "not one to our option"),
        (HELLO + reply(5, 1, bytes(5000)), "not one to our option"),
        (TLS[:-1], "has closed"),
    ],
)
def test_a_server_without_tls(data: bytes, reason: str) -> None:
    """Nothing goes on in plain text."""
    played = Played(data, 1 << 16)
    with pytest.raises(HandshakeError, match=reason):
        played.negotiation.start_tls()


@pytest.mark.parametrize(
    ("data", "reason"), [(reply(7, 1), "how large"), (reply(7, (1 << 31) + 6, b"unknown export"), "unknown export")]
)
def test_no_export(data: bytes, reason: str) -> None:
    """An export that the server does not have, or does not describe, is an error."""
    with pytest.raises(HandshakeError, match=reason):
        Played(data, 1 << 16).negotiation.go("disk")


def test_a_server_that_says_no_block_size() -> None:
    """Its blocks have 512 bytes."""
    assert Played(EXPORT + reply(7, 1), 1 << 16).negotiation.go("disk") == Export(1 << 20, 5, 512)
