"""Names and structures of in-kernel QUIC sockets (``linux/quic.h`` of the module; docs/reference/kernel-quic.md)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from hsframework.interface import Secret

IPPROTO_QUIC = 261
SOL_QUIC = 288

# Socket options.
CONNECTION_CLOSE = 5
CONFIG = 9
ALPN = 11
SESSION_TICKET = 12
CRYPTO_SECRET = 13
TRANSPORT_PARAMETERS = 14
"""The body of TLS extension 0x39: get is ours, set is the peer's."""

HANDSHAKE_INFO = 1
"""Type of the control message (level SOL_QUIC) with one byte: the encryption level."""
APPLICATION, INITIAL, HANDSHAKE = 0, 1, 2
"""Encryption levels."""

CONFIG_SIZE, MAX_ALPN, MAX_TRANSPORT_PARAMETERS = 28, 128, 512
MIN_TICKET, MAX_TICKET = 64, 4096

CIPHER_TYPES = {0x1301: 51, 0x1302: 52, 0x1303: 54, 0x1304: 53}
"""TLS cipher suite → the kernel's ``TLS_CIPHER_*``."""
SUITES = {kernel: suite for suite, kernel in CIPHER_TYPES.items()}

_CONFIG = struct.Struct("=IIII5B3xI")
_SECRET = struct.Struct("=BBxxI48s")
_CLOSE = struct.Struct("=IB3x64s")
CLOSE_SIZE = _CLOSE.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The configuration by the socket's owner.  ``payload_cipher`` 0: any; a ``TLS_CIPHER_*`` otherwise."""

    version: int
    payload_cipher: int
    receive_session_ticket: int
    """A client's: seconds to wait for a ticket; 0: none is wanted."""
    certificate_request: int
    """A server's: 0 none, 1 request, 2 require."""

    @classmethod
    def unpack(cls, data: bytes) -> Config:
        """Read the 28 bytes of the option CONFIG.  Raises ``ValueError`` for another size."""
        if len(data) != _CONFIG.size:
            raise ValueError(f"a configuration of {len(data)} bytes and not {_CONFIG.size}")
        version, _, _, cipher, _, _, _, ticket, request, _ = _CONFIG.unpack(data)
        return cls(
            version=version,
            payload_cipher=cipher,
            receive_session_ticket=ticket,
            certificate_request=request,
        )


@dataclass(frozen=True, slots=True)
class CryptoSecret:
    """A traffic secret for one direction of one level.  ``suite``: TLS cipher suite."""

    send: bool
    level: int
    suite: int
    secret: Secret

    def pack(self) -> bytes:
        """Return 56 bytes for the option CRYPTO_SECRET."""
        return _SECRET.pack(self.send, self.level, CIPHER_TYPES[self.suite], self.secret.reveal())


def close_code(data: bytes) -> int:
    """Return the error code in a CONNECTION_CLOSE option: the peer's, once the connection is closed; 0: none."""
    return int(_CLOSE.unpack(data)[0]) if len(data) == _CLOSE.size else 0
