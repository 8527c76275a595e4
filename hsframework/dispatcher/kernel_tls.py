"""The kernel's TLS module and its ciphers: loaded here and once, by using each on a connection over loopback.

The module takes CAP_NET_ADMIN, which no agent has; the ciphers would be loaded by the first handshake that uses them,
from a root filesystem that may hang by then.
"""

from __future__ import annotations

import contextlib
import socket
import struct

TCP_ULP = 31
SOL_TLS = 282
TLS_TX = 1
TLS_1_3_VERSION = 0x0304

_KEY_MATERIAL = {51: 36, 52: 52, 53: 36, 54: 52}
"""Bytes of iv, key, salt and sequence number after version and cipher (linux/tls.h), by cipher: AES-GCM with 128 and
256 bits, AES-CCM with 128, ChaCha20-Poly1305."""


def load_kernel_tls() -> bool:
    """Have the module and all four ciphers loaded.  False: this kernel has no TLS, or we have no loopback."""
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 0)) as server:
        for cipher, size in _KEY_MATERIAL.items():
            _try(server, cipher, size)
        return True
    return False


def _try(server: socket.socket, cipher: int, size: int) -> None:
    """Raises OSError where there is no TLS; a cipher that this kernel has not is nobody's fault."""
    with socket.create_connection(server.getsockname()) as client, server.accept()[0]:
        client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
        with contextlib.suppress(OSError):
            client.setsockopt(SOL_TLS, TLS_TX, struct.pack("=HH", TLS_1_3_VERSION, cipher) + bytes(size))
