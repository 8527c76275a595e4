"""NBD's fixed newstyle negotiation, a client's side (https://github.com/NetworkBlockDevice/nbd: the NBD protocol).

Rules:

* Reads take exactly the bytes of one message: a byte that was read too early would be missing in the TLS handshake, or
  in the kernel's transmission phase.
* Before TLS the server's answer to STARTTLS is believed and nothing else: whoever is on the way can change it.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from dataclasses import dataclass

from hsframework.errors import HandshakeError

NBD_MAGIC, OPTION_MAGIC, REPLY_MAGIC = b"NBDMAGIC", b"IHAVEOPT", 0x3E889045565A9
FIXED_NEWSTYLE, NO_ZEROES = 1, 2
OPT_STARTTLS, OPT_GO = 5, 7
REP_ACK, REP_INFO, REP_ERROR = 1, 3, 1 << 31
INFO_EXPORT, INFO_BLOCK_SIZE = 0, 3
MOST_BYTES = 4096
"""Bytes of a reply at most; those that are asked for have 20 at most, errors and names a text."""

Send = Callable[[bytes], None]
Receive = Callable[[int], bytes]
"""Receive 1 to so many bytes; b"" at the end."""


@dataclass(frozen=True, slots=True)
class Export:
    """An export as its server describes it.  ``flags``: NBD's transmission flags."""

    size: int
    flags: int
    block_size: int = 512


class Negotiation:
    """One negotiation, over a plain connection at first.  Every method raises HandshakeError and OSError."""

    def __init__(self, send: Send, receive: Receive) -> None:
        self.use(send, receive)

    def use(self, send: Send, receive: Receive) -> None:
        """Go on over another connection: the protected one."""
        self._send, self._receive = send, receive

    def start_tls(self) -> None:
        """Exchange greetings and ask for TLS; the ClientHello is to be sent next."""
        if self._exactly(16) != NBD_MAGIC + OPTION_MAGIC:
            raise _wrong("the server speaks no newstyle NBD")
        (flags,) = struct.unpack("!H", self._exactly(2))
        if not flags & FIXED_NEWSTYLE:
            raise _wrong("the server has no fixed newstyle negotiation, and so no TLS")
        self._send(struct.pack("!I", FIXED_NEWSTYLE | flags & NO_ZEROES))
        self._option(OPT_STARTTLS)
        if self._reply(OPT_STARTTLS) != (REP_ACK, b""):
            raise _wrong("the server's answer to STARTTLS is neither yes nor no")

    def go(self, name: str) -> Export:
        """Choose an export.  The kernel's transmission phase is next."""
        encoded = name.encode()
        self._option(OPT_GO, struct.pack(f"!I{len(encoded)}sHH", len(encoded), encoded, 1, INFO_BLOCK_SIZE))
        export: Export | None = None
        block_size = 512
        while True:
            kind, data = self._reply(OPT_GO)
            if kind == REP_ACK:
                break
            if kind == REP_INFO and data[:2] == struct.pack("!H", INFO_EXPORT) and len(data) == 12:
                export = Export(*struct.unpack("!QH", data[2:]))
            elif kind == REP_INFO and data[:2] == struct.pack("!H", INFO_BLOCK_SIZE) and len(data) == 14:
                (block_size,) = struct.unpack("!I", data[2:6])
        if export is None:
            raise _wrong("the server does not say how large the export is")
        return Export(export.size, export.flags, max(512, block_size))

    def _option(self, option: int, data: bytes = b"") -> None:
        self._send(OPTION_MAGIC + struct.pack("!II", option, len(data)) + data)

    def _reply(self, option: int) -> tuple[int, bytes]:
        magic, answered, kind, length = struct.unpack("!QIII", self._exactly(20))
        if magic != REPLY_MAGIC or answered != option or length > MOST_BYTES:
            raise _wrong("the server's reply is not one to our option")
        data = self._exactly(length)
        if kind & REP_ERROR:
            text = data.decode(errors="replace") or f"error {kind & ~REP_ERROR}"
            raise HandshakeError(f"the server refuses option {option}: {text}", errno=errno.EACCES)
        return kind, data

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._receive(size - len(data))
            if not more:
                raise HandshakeError("the server has closed the connection", errno=errno.ECONNRESET)
            data += more
        return data


def _wrong(problem: str) -> HandshakeError:
    return HandshakeError(problem, errno=errno.EPROTO)
