"""The consumer's stream over asyncio: the core's, and what TLS can do beyond it."""

from __future__ import annotations

from hsframework.streams import AsyncioStream
from hsframework_tls13.channel import Channel


class AsyncTlsStream(AsyncioStream):
    """Implements :class:`hsframework.interface.AsyncStream`.  Makes its socket non-blocking, as asyncio needs it."""

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._tls = channel

    async def update_keys(self, request_peer: bool = False) -> None:
        """Change our sending keys; with ``request_peer`` the peer is asked to change its own."""
        await self.write(lambda: self._tls.queue_key_update(request_peer))
