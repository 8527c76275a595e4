"""The kernel's TLS (linux/tls.h): its numbers, a check for a session in a socket, and the supported ciphers.

Loading the kernel's module takes CAP_NET_ADMIN, which no agent has; its ciphers would be loaded by the first handshake
that uses them, from a root filesystem that may hang by then.  So each process that depends on them tries all at start,
on a connection of its own over loopback; a sandbox that allows none (no AF_INET, no loopback) leaves the question open.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable

from hsframework.probes import No, NotSeen, Probe, Yes

TCP_ULP = 31
SOL_TLS = 282
TLS_TX, TLS_RX = 1, 2
TLS_1_3_VERSION = 0x0304

AES_128_GCM, AES_256_GCM, AES_128_CCM, CHACHA20_POLY1305 = 51, 52, 53, 54
_KEY_MATERIAL = {AES_128_GCM: 36, AES_256_GCM: 52, AES_128_CCM: 36, CHACHA20_POLY1305: 52}
"""Bytes of iv, key, salt and sequence number, after version and cipher."""

_SAYS_NO = frozenset({errno.ENOENT, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EINVAL})
"""Answers of a kernel that lacks TLS or a cipher; any other, as EPERM of a sandbox, says nothing about it."""


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


def supported_ciphers() -> Probe[frozenset[int]]:
    """Return the ciphers that this kernel supports, by trying each on a loopback connection, which loads it."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            answers = {cipher: _try(server, cipher, size) for cipher, size in _KEY_MATERIAL.items()}
    except OSError as error:
        return NotSeen(f"no connection over loopback to try it on: {error.strerror or error}")
    taken = frozenset(cipher for cipher, refusal in answers.items() if refusal is None)
    if taken:
        return Yes(taken)
    refusal = next(refusal for refusal in answers.values() if refusal is not None)
    if refusal.errno in _SAYS_NO:
        return No(f"the kernel has no TLS (CONFIG_TLS, module tls): {refusal.strerror}")
    return NotSeen(f"the kernel's TLS cannot be tried: {refusal.strerror}")


def connected(server: socket.socket) -> socket.socket:
    """Return a socket that is connected to a server on loopback, with a timeout of 1 s.  Raises OSError.

    ``socket.create_connection`` looks up a codec for the address, which takes the interpreter's folder: an agent that
    has given up its privileges may not read it.
    """
    client = socket.socket(server.family, socket.SOCK_STREAM)
    try:
        client.settimeout(1)
        client.connect(server.getsockname())
    except OSError:
        client.close()
        raise
    return client


def _try(server: socket.socket, cipher: int, size: int) -> OSError | None:
    """Return the kernel's refusal of a cipher, or None.  Raises OSError if there is no connection."""
    with connected(server) as client, server.accept()[0]:
        try:
            client.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
            for direction in (TLS_TX, TLS_RX):
                client.setsockopt(SOL_TLS, direction, struct.pack("=HH", TLS_1_3_VERSION, cipher) + bytes(size))
        except OSError as error:
            return error
        return None
