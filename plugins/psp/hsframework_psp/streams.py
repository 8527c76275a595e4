"""The consumer's streams, blocking and over asyncio: those of the core, with renewal and packets."""

from __future__ import annotations

from hsframework.streams import AsyncioStream, BlockingStream, Channel
from hsframework_psp.packet_stream import Packets
from hsframework_psp.renewal import Renewal


class PspStream(BlockingStream):
    """A blocking stream.  Implements :class:`hsframework.interface.Stream`.

    ``renewal``: when the session is due to be established anew.  ``packets``: seals and opens packets of the
    consumer's own; None where the connection itself is protected.
    """

    def __init__(self, channel: Channel, renewal: Renewal, packets: Packets | None) -> None:
        super().__init__(channel)
        self.renewal = renewal
        self.packets = packets

    def close(self) -> None:
        try:
            super().close()
        finally:
            self.renewal.close()


class AsyncPspStream(AsyncioStream):
    """A stream over asyncio.  Implements :class:`hsframework.interface.AsyncStream`."""

    def __init__(self, channel: Channel, renewal: Renewal, packets: Packets | None) -> None:
        super().__init__(channel)
        self.renewal = renewal
        self.packets = packets

    async def close(self) -> None:
        try:
            await super().close()
        finally:
            self.renewal.close()
