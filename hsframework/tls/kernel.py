"""The kernel's TLS (linux/tls.h): its numbers, a check for a session in a socket, and the supported ciphers.

Loading the kernel's module takes CAP_NET_ADMIN, which no agent has; its ciphers would be loaded by the first handshake
that uses them, from a root filesystem that may hang by then.  So each process that depends on them tries all at start.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable

TCP_ULP = 31
SOL_TLS = 282
TLS_TX, TLS_RX = 1, 2
TLS_1_3_VERSION = 0x0304

AES_128_GCM, AES_256_GCM, AES_128_CCM, CHACHA20_POLY1305 = 51, 52, 53, 54
_KEY_MATERIAL = {AES_128_GCM: 36, AES_256_GCM: 52, AES_128_CCM: 36, CHACHA20_POLY1305: 52}
"""Bytes of iv, key, salt and sequence number, after version and cipher."""


def is_planted(getsockopt: Callable[[int, int, int], bytes]) -> bool:
    """Return True if a socket has a session in both directions (TLS_TX and TLS_RX).

    ``getsockopt``: the socket's method.  Only version and cipher are read, and no key.
    """
    try:
        for direction in (TLS_TX, TLS_RX):
            version, cipher = struct.unpack("=HH", getsockopt(SOL_TLS, direction, 4))
            if not version or not cipher:
                return False
    except (OSError, struct.error):
        return False
    return True


def supported_ciphers() -> frozenset[int]:
    """Return the ciphers that this kernel supports, by trying each on a loopback connection, which loads it."""
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 0)) as server:
        return frozenset(cipher for cipher, size in _KEY_MATERIAL.items() if _takes(server, cipher, size))
    return frozenset()


def _takes(server: socket.socket, cipher: int, size: int) -> bool:
    with socket.create_connection(server.getsockname(), timeout=1) as client, server.accept()[0]:
        try:
            client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            for direction in (TLS_TX, TLS_RX):
                client.setsockopt(SOL_TLS, direction, struct.pack("=HH", TLS_1_3_VERSION, cipher) + bytes(size))
        except OSError:
            return False
        return True
