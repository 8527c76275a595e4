"""The consumer's streams, blocking and over asyncio: those of the core, with a method that changes the keys."""

from __future__ import annotations

from hsframework.streams import AsyncioStream, BlockingStream
from hsframework_tls13.channel import Channel


class TlsStream(BlockingStream):
    """A blocking stream.  Implements :class:`hsframework.interface.Stream`.

    Errors: SessionBroken, SessionTruncated, OSError.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._tls = channel

    def update_keys(self, request_peer: bool = False) -> None:
        """Change our sending keys; with ``request_peer`` ask the peer to change its own."""
        self.write(lambda: self._tls.queue_key_update(request_peer))


class AsyncTlsStream(AsyncioStream):
    """A stream over asyncio, with the same errors.  Implements :class:`hsframework.interface.AsyncStream`.

    It makes its socket non-blocking, as asyncio needs it.
    """

    def __init__(self, channel: Channel) -> None:
        super().__init__(channel)
        self._tls = channel

    async def update_keys(self, request_peer: bool = False) -> None:
        """Change our sending keys; with ``request_peer`` ask the peer to change its own."""
        await self.write(lambda: self._tls.queue_key_update(request_peer))
