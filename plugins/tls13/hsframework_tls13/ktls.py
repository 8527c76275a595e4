"""The finished session into the socket: kernel TLS (Linux ``Documentation/networking/tls.rst``).

The rules:

* ``TCP_ULP`` first, then TLS_TX, then TLS_RX.  Until TLS_TX is in, the socket still carries plain records and the
  session can live in user space; with TLS_TX in and TLS_RX refused it can live nowhere (``HalfInstalled``).
* Nothing of the peer's next record may have been read before, and all of ours must have been written.
* Any process may do this on a socket that it was handed; only loading the module ``tls`` needs a privilege, and the
  ciphers' modules may be loaded at first use.  So :func:`supported_suites` tries all of them once, at start.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Iterator

from hsframework.interface import Role, Secret
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

SOL_TCP = 6
TCP_ULP = 31
SOL_TLS = 282
TLS_TX = 1
TLS_RX = 2
TLS_SET_RECORD_TYPE = 1
TLS_GET_RECORD_TYPE = 2

CIPHER_TYPES = {AES_128_GCM.code: 51, AES_256_GCM.code: 52, AES_128_CCM.code: 53, CHACHA20_POLY1305.code: 54}
"""Cipher suite → the kernel's ``cipher_type``."""
_SALT_SIZES = {51: 4, 52: 4, 53: 4, 54: 0}


class KernelRefused(Exception):
    """The kernel does not take the session; the socket is as before.  ``errno`` says why."""

    def __init__(self, step: str, error: OSError) -> None:
        self.errno = error.errno or errno.EIO
        super().__init__(f"{step}: {os.strerror(self.errno)}")


class HalfInstalled(KernelRefused):
    """TLS_TX is in and TLS_RX is not: the connection is of no use to anybody."""


def crypto_info(suite: CipherSuite, secret: Secret, sequence: int = 0) -> bytes:
    """``struct tls12_crypto_info_*`` of ``linux/tls.h`` for one direction."""
    keys = traffic_keys(suite, secret.reveal())
    cipher = CIPHER_TYPES[suite.code]
    salt = _SALT_SIZES[cipher]
    head = struct.pack("=HH", TLS_1_3, cipher)
    return head + keys.iv[salt:] + keys.key + keys.iv[:salt] + sequence.to_bytes(8, "big")


def install(sock: socket.socket, role: Role, suite: CipherSuite, client_secret: Secret, server_secret: Secret) -> None:
    """Plant a session whose sequence numbers are both 0.  Raises KernelRefused, HalfInstalled."""
    ours, theirs = (client_secret, server_secret) if role is Role.CLIENT else (server_secret, client_secret)
    try:
        sock.setsockopt(SOL_TCP, TCP_ULP, b"tls")
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


def is_installed(sock: socket.socket) -> bool:
    """Are TLS_TX and TLS_RX in place?  Asks for version and cipher alone, so no key is read."""
    try:
        return all(any(sock.getsockopt(SOL_TLS, direction, 4)) for direction in (TLS_TX, TLS_RX))
    except OSError:
        return False


def supported_suites() -> frozenset[CipherSuite]:
    """The suites that this kernel takes, found out on a connection over the loopback interface.

    As a side effect the modules that they need are loaded now, and not in the middle of a handshake.
    """
    return frozenset(suite for suite in SUITES if _takes(suite))


def _takes(suite: CipherSuite) -> bool:
    secret = Secret(bytes(32 if suite.hash == "sha256" else 48))
    with _connected_pair() as (near, _far):
        if near is None:
            return False
        try:
            install(near, Role.CLIENT, suite, secret, secret)
        except KernelRefused:
            return False
        return True


@contextlib.contextmanager
def _connected_pair() -> Iterator[tuple[socket.socket | None, socket.socket | None]]:
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            near = stack.enter_context(socket.create_connection(listener.getsockname(), timeout=1))
            far = stack.enter_context(listener.accept()[0])
        except OSError:
            yield None, None
        else:
            yield near, far
