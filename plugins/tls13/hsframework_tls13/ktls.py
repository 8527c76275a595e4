"""The hand-over of a finished session to the socket: kernel TLS (Linux ``Documentation/networking/tls.rst``).

The rules:

* ``TCP_ULP`` first, then TLS_TX, then TLS_RX.  Until TLS_TX is in, the socket still carries plain records and the
  session can live in user space; with TLS_TX in and TLS_RX refused it can live nowhere (``HalfInstalled``).
* Nothing of the peer's next record may have been read before, and all of ours must have been written.
* Any process may do this on a socket that it was handed; only loading the module ``tls`` needs a privilege.
"""

from __future__ import annotations

import errno
import os
import socket
import struct

from hsframework.interface import Role, Secret
from hsframework.tls import kernel as kernel_tls
from hsframework.tls.kernel import SOL_TLS, TCP_ULP, TLS_RX, TLS_TX
from hsframework_tls13.ciphers import (
    AES_128_CCM,
    AES_128_GCM,
    AES_256_GCM,
    CHACHA20_POLY1305,
    SUITES,
    CipherSuite,
)
from hsframework_tls13.client_hello import TLS_1_3
from hsframework_tls13.keyschedule import traffic_keys

TLS_SET_RECORD_TYPE = 1
TLS_GET_RECORD_TYPE = 2

CIPHER_TYPES = {
    AES_128_GCM.code: kernel_tls.AES_128_GCM,
    AES_256_GCM.code: kernel_tls.AES_256_GCM,
    AES_128_CCM.code: kernel_tls.AES_128_CCM,
    CHACHA20_POLY1305.code: kernel_tls.CHACHA20_POLY1305,
}
"""Cipher suite → the kernel's ``cipher_type``."""


class KernelRefused(Exception):
    """A refusal of the session by the kernel; no direction is in place.  ``errno`` has the reason.

    ``done``: steps that :func:`install` has taken before.
    """

    def __init__(self, step: str, error: OSError, done: int = 0) -> None:
        self.errno = error.errno or errno.EIO
        self.done = done
        super().__init__(f"{step}: {os.strerror(self.errno)}")


class HalfInstalled(KernelRefused):
    """A socket with TLS_TX and without TLS_RX: its connection is of no use to anybody."""


def crypto_info(suite: CipherSuite, secret: Secret, sequence: int = 0) -> bytes:
    """Return ``struct tls12_crypto_info_*`` of ``linux/tls.h`` for one direction."""
    keys = traffic_keys(suite, secret.reveal())
    cipher = CIPHER_TYPES[suite.code]
    salt = 0 if cipher == kernel_tls.CHACHA20_POLY1305 else 4
    head = struct.pack("=HH", TLS_1_3, cipher)
    return head + keys.iv[salt:] + keys.key + keys.iv[:salt] + sequence.to_bytes(8, "big")


def install(
    sock: socket.socket,
    role: Role,
    suite: CipherSuite,
    client_secret: Secret,
    server_secret: Secret,
    *,
    done: int = 0,
) -> None:
    """Install a session whose sequence numbers are both 0.  Raises KernelRefused, HalfInstalled.

    ``done``: the refusal's, to go on after a refusal that may not last (ENOMEM).
    """
    ours, theirs = (client_secret, server_secret) if role is Role.CLIENT else (server_secret, client_secret)
    steps = (
        ("TCP_ULP tls", socket.IPPROTO_TCP, TCP_ULP, b"tls"),
        ("TLS_TX", SOL_TLS, TLS_TX, crypto_info(suite, ours)),
        ("TLS_RX", SOL_TLS, TLS_RX, crypto_info(suite, theirs)),
    )
    for number, (name, level, option, value) in enumerate(steps[done:], done):
        try:
            sock.setsockopt(level, option, value)
        except OSError as error:
            refusal = HalfInstalled if option == TLS_RX else KernelRefused
            raise refusal(name, error, number) from None


def supported_suites() -> frozenset[CipherSuite]:
    """Return the suites that this kernel takes.

    Each is tried, so that its module is loaded now and not in mid-handshake.
    """
    ciphers = kernel_tls.supported_ciphers()
    return frozenset(suite for suite in SUITES if CIPHER_TYPES[suite.code] in ciphers)
