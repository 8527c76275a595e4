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

import structlog

from hsframework.interface import Role, Secret
from hsframework.probes import No, NotSeen, Yes
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

_log = structlog.get_logger("hsframework.agent")

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
    """A refusal of the session by the kernel; the socket is as before.  ``errno`` has the reason."""

    def __init__(self, step: str, error: OSError) -> None:
        self.errno = error.errno or errno.EIO
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


def install(sock: socket.socket, role: Role, suite: CipherSuite, client_secret: Secret, server_secret: Secret) -> None:
    """Install a session whose sequence numbers are both 0.  Raises KernelRefused, HalfInstalled."""
    ours, theirs = (client_secret, server_secret) if role is Role.CLIENT else (server_secret, client_secret)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_ULP, b"tls")
    except OSError as error:
        raise KernelRefused("TCP_ULP tls", error) from None
    try:
        sock.setsockopt(SOL_TLS, TLS_TX, crypto_info(suite, ours))
    except OSError as error:
        raise KernelRefused("TLS_TX", error) from None
    try:
        sock.setsockopt(SOL_TLS, TLS_RX, crypto_info(suite, theirs))
    except OSError as error:
        raise HalfInstalled("TLS_RX", error) from None


def supported_suites() -> frozenset[CipherSuite]:
    """Return the suites that this kernel takes.

    Each is tried, so that its module is loaded now and not in mid-handshake.  Where none can be tried, all are
    returned: the kernel is asked again with each session.
    """
    answer = kernel_tls.supported_ciphers()
    match answer:
        case Yes(ciphers):
            return frozenset(suite for suite in SUITES if CIPHER_TYPES[suite.code] in ciphers)
        case No(reason):
            _log.info("sessions stay in user space", reason=reason)
            return frozenset()
        case NotSeen(reason):
            _log.warning("the kernel's TLS could not be tried; each session will be", reason=reason)
            return frozenset(SUITES)
