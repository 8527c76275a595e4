"""A socket that behaves as one with kTLS does: records are protected below ``send`` and ``recvmsg``.

What Linux does (``net/tls``), as far as :mod:`hsframework_tls13.ktls_stream` relies on it: ``TLS_SET_RECORD_TYPE`` and
``TLS_GET_RECORD_TYPE`` as ancillary data, one type a read, and setsockopt that takes a new key in mid-session, or does
not (before Linux 6.14: EBUSY).  It shares no code with what it is used to test but the AEAD.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Iterable
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SOL_TLS, TLS_TX, TLS_RX, RECORD_TYPE_SET, RECORD_TYPE_GET = 282, 1, 2, 1, 2


class _Key:
    def __init__(self, info: bytes) -> None:
        """Take ``struct tls12_crypto_info_aes_gcm_128``: version, cipher type, iv 8, key 16, salt 4, sequence 8."""
        assert info[:4] == b"\x04\x03\x33\x00"
        assert len(info) == 40
        iv, key, salt, self.sequence = info[4:12], info[12:28], info[28:32], int.from_bytes(info[32:], "big")
        self.iv, self.aead = int.from_bytes(salt + iv, "big"), AESGCM(key)

    def nonce(self) -> bytes:
        self.sequence += 1
        return (self.iv ^ (self.sequence - 1)).to_bytes(12, "big")


class KernelTlsSocket:
    """Wraps a connected socket; what a channel calls is here, and nothing else."""

    def __init__(self, sock: socket.socket, *, can_rekey: bool = True) -> None:
        self.sock, self.can_rekey = sock, can_rekey
        self.keys: dict[int, _Key] = {}
        self._wire = b""
        self._rest = b""
        self._rest_type = 0
        self._sending: threading.Thread | None = None

    def fileno(self) -> int:
        return self.sock.fileno()

    def gettimeout(self) -> float | None:
        """Zero or None: a channel reads past Python's own waiting, and the socket beneath this one waits instead."""
        return 0 if self.sock.gettimeout() == 0 else None

    def setblocking(self, flag: bool) -> None:
        self.sock.setblocking(flag)

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        return 0

    def setsockopt(self, level: int, option: int, value: bytes) -> None:
        assert level == SOL_TLS
        if option in self.keys and not self.can_rekey:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        self.keys[option] = _Key(value)

    def send(self, data: bytes | bytearray, flags: int = 0) -> int:
        return self._send(23, bytes(data[:16384]))

    def sendmsg(self, buffers: Iterable[bytes], ancillary: Iterable[tuple[int, int, bytes]], flags: int = 0) -> int:
        ((level, kind, record_type),) = ancillary
        assert (level, kind) == (SOL_TLS, RECORD_TYPE_SET)
        return self._send(record_type[0], b"".join(buffers))

    def _send(self, record_type: int, data: bytes) -> int:
        """Send a record that was begun whole, by the kernel itself where the caller does not wait."""
        if self._sending is not None and self._sending.is_alive():
            raise BlockingIOError
        header = b"\x17\x03\x03" + (len(data) + 17).to_bytes(2, "big")
        key = self.keys[TLS_TX]
        record = header + key.aead.encrypt(key.nonce(), data + bytes((record_type,)), header)
        try:
            sent = self.sock.send(record)
        except BlockingIOError:
            key.sequence -= 1
            raise
        if sent < len(record):
            self._sending = threading.Thread(target=self._send_rest, args=(record[sent:],), daemon=True)
            self._sending.start()
        return len(data)

    def _send_rest(self, rest: bytes) -> None:
        while rest:
            select.select((), (self.sock,), ())
            rest = rest[self.sock.send(rest) :]

    def recvmsg(self, size: int, ancillary_size: int, flags: int = 0) -> tuple[bytes, list[Any], int, None]:
        if not self._rest and not self._next_record(flags):
            return b"", [], 0, None
        data, self._rest = self._rest[:size], self._rest[size:]
        return data, [(SOL_TLS, RECORD_TYPE_GET, bytes((self._rest_type,)))], 0, None

    def _next_record(self, flags: int) -> bool:
        while len(self._wire) < 5 or len(self._wire) < 5 + int.from_bytes(self._wire[3:5], "big"):
            more = self.sock.recv(65536, flags)
            if not more:
                return False
            self._wire += more
        end = 5 + int.from_bytes(self._wire[3:5], "big")
        record, self._wire = self._wire[:end], self._wire[end:]
        key = self.keys[TLS_RX]
        try:
            inner = key.aead.decrypt(key.nonce(), record[5:], record[:5]).rstrip(b"\0")
        except Exception:
            raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG)) from None
        self._rest, self._rest_type = inner[:-1], inner[-1]
        return True
