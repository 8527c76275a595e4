"""A client's handshake.  The rules: :mod:`.handshake`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aioquic.quic.logger import QuicLogger

from hsframework.failures import Failure, HandshakeFailed
from hsframework_quic.aioquic_adapter.handshaking import PEER, HandshakeConnection
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions, keep_none
from hsframework_quic.failures import CRYPTO_ERROR
from hsframework_quic.handshake.frames import Glimpse
from hsframework_quic.handshake.handshake import Handshake

if TYPE_CHECKING:
    from hsframework_quic.settings import Settings

MAX_TICKET_DATA = 32 * 1024
"""Bytes of a server's 1-RTT crypto stream that are looked at."""


class ClientHandshake(Handshake):
    """A client's handshake.  There is :meth:`output` from the start."""

    def __init__(self, settings: Settings, options: TlsOptions, now: float, logger: QuicLogger | None = None) -> None:
        super().__init__(settings, options, logger)
        self._crypto: dict[int, bytes] = {}
        self._crypto_next = 0
        self._connection = HandshakeConnection(self._configuration(), self._new_tls(), max_streams=settings.max_streams)
        self._connection.connect(PEER, now)

    def _see(self, connection: HandshakeConnection, seen: Glimpse) -> None:
        super()._see(connection, seen)
        try:
            self._take_crypto(connection, seen.crypto)
        except Exception:
            # A server that breaks TLS after its handshake.  The outcome counts no more.
            failure = connection.failure or HandshakeFailed(Failure.UNEXPECTED_MESSAGE)
            code = failure.failure.alert if isinstance(failure, HandshakeFailed) else None
            connection.close(error_code=CRYPTO_ERROR + (code or 80), frame_type=0x06)
            return
        if seen.handshake_done and self.error is None:
            self.finished = True

    def _take_crypto(self, connection: HandshakeConnection, frames: list[tuple[int, bytes]]) -> None:
        """Take tickets, in the order of their stream."""
        if self._tickets.keep is keep_none:
            return
        for offset, data in frames:
            if offset + len(data) <= MAX_TICKET_DATA:
                self._crypto.setdefault(offset, data)
        while True:
            found = next((item for item in self._crypto if item <= self._crypto_next), None)
            if found is None:
                return
            data = self._crypto.pop(found)[self._crypto_next - found :]
            self._crypto_next += len(data)
            if data:
                connection.take_tls(data)
