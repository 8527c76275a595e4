"""Planting a session in the socket: the layout of crypto_info, and what happens at each refusal."""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from typing import cast

import pytest

from hsframework.interface import Role, Secret
from hsframework.tls.kernel import SOL_TLS, TLS_RX, TLS_TX
from hsframework_tls13.ciphers import AES_128_CCM, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, SUITES, CipherSuite
from hsframework_tls13.keyschedule import traffic_keys
from hsframework_tls13.ktls import (
    HalfInstalled,
    KernelRefused,
    crypto_info,
    install,
    supported_suites,
)


def layout(iv: int, key: int, salt: int) -> type[ctypes.Structure]:
    """Return ``struct tls12_crypto_info_*`` of linux/tls.h."""

    class Info(ctypes.Structure):
        _fields_ = (
            ("version", ctypes.c_uint16),
            ("cipher_type", ctypes.c_uint16),
            ("iv", ctypes.c_ubyte * iv),
            ("key", ctypes.c_ubyte * key),
            ("salt", ctypes.c_ubyte * salt),
            ("rec_seq", ctypes.c_ubyte * 8),
        )

    return Info


@pytest.mark.parametrize(
    ("suite", "cipher_type", "structure"),
    [
        (AES_128_GCM, 51, layout(8, 16, 4)),
        (AES_256_GCM, 52, layout(8, 32, 4)),
        (AES_128_CCM, 53, layout(8, 16, 4)),
        (CHACHA20_POLY1305, 54, layout(12, 32, 0)),
    ],
)
def test_crypto_info_has_the_kernels_layout(
    suite: CipherSuite, cipher_type: int, structure: type[ctypes.Structure]
) -> None:
    """Size and every field; salt and iv together are the IV of the key schedule."""
    secret = Secret(b"s" * (48 if suite.hash == "sha384" else 32))
    data = crypto_info(suite, secret, 7)
    assert len(data) == ctypes.sizeof(structure)
    info = structure.from_buffer_copy(data)
    keys = traffic_keys(suite, secret.reveal())
    assert (info.version, info.cipher_type) == (0x0304, cipher_type)
    assert bytes(info.salt) + bytes(info.iv) == keys.iv
    assert bytes(info.key) == keys.key
    assert bytes(info.rec_seq) == bytes(7) + b"\x07"


class RefusingSocket:
    """Takes socket options up to the one that the test wants refused."""

    def __init__(self, refused: tuple[int, int], number: int) -> None:
        self.refused, self.number = refused, number
        self.taken: list[tuple[int, int, bytes]] = []

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        if (level, option) == self.refused:
            raise OSError(self.number, os.strerror(self.number))
        self.taken.append((level, option, value))


@pytest.mark.parametrize(
    ("refused", "number", "half"),
    [
        ((6, 31), errno.ENOENT, False),
        ((SOL_TLS, TLS_TX), errno.EOPNOTSUPP, False),
        ((SOL_TLS, TLS_RX), errno.EIO, True),
    ],
)
def test_each_refusal(refused: tuple[int, int], number: int, half: bool) -> None:
    """No ULP or no TLS_TX: user space may go on.  TLS_TX without TLS_RX: nobody may."""
    sock = RefusingSocket(refused, number)
    secret = Secret(b"s" * 32)
    with pytest.raises(KernelRefused) as caught:
        install(cast(socket.socket, sock), Role.CLIENT, AES_128_GCM, secret, secret)
    assert isinstance(caught.value, HalfInstalled) == half
    assert caught.value.errno == number


@pytest.mark.parametrize("role", Role)
def test_each_direction_has_its_secret(role: Role) -> None:
    """A client sends under the client's secret and reads under the server's; a server the other way round."""
    sock = RefusingSocket((0, 0), 0)
    client, server = Secret(b"c" * 32), Secret(b"s" * 32)
    install(cast(socket.socket, sock), role, AES_128_GCM, client, server)
    ours, theirs = (client, server) if role is Role.CLIENT else (server, client)
    assert sock.taken == [
        (6, 31, b"tls"),
        (SOL_TLS, TLS_TX, crypto_info(AES_128_GCM, ours)),
        (SOL_TLS, TLS_RX, crypto_info(AES_128_GCM, theirs)),
    ]


def test_what_this_kernel_can_do() -> None:
    """The answer is about real sockets: all suites that it names can be installed, and none without the ULP."""
    supported = supported_suites()
    assert supported <= frozenset(SUITES)
    available = b"tls" in _available_ulps().split()
    assert available or not supported


def _available_ulps() -> bytes:
    try:
        with open("/proc/sys/net/ipv4/tcp_available_ulp", "rb") as file:
            return file.read()
    except OSError:
        return b""
