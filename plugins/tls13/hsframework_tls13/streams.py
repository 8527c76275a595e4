"""The consumer's stream, blocking: the core's, and what TLS can do beyond it."""

from __future__ import annotations

from hsframework.streams import BlockingStream
from hsframework_tls13.channel import Channel


class TlsStream(BlockingStream):
    """Implements :class:`hsframework.interface.Stream`.  Errors: SessionBroken, SessionTruncated, OSError."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._tls = channel

    def update_keys(self, request_peer: bool = False) -> None:
        """Change our sending keys; with ``request_peer`` the peer is asked to change its own."""
        self.write(lambda: self._tls.queue_key_update(request_peer))
