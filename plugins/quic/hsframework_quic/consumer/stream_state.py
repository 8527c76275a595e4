"""One stream as the consumer's connection knows it: what has arrived and was not read, and how far either side is."""

from __future__ import annotations

from collections import deque


class StreamState:
    """``aborted``: the code by which the peer reset it; ``stopped``: the one by which it asked us to stop.

    ``ours``: this side has opened it.  ``ended``: nothing more comes.  ``sent_eof``: nothing more is sent.
    """

    __slots__ = ("aborted", "chunks", "ended", "id", "ours", "sent_eof", "stopped")

    def __init__(self, stream_id: int, *, is_client: bool) -> None:
        self.id = stream_id
        # The last bit tells who opened it, the one before of which kind it is (RFC 9000 section 2.1).
        self.ours = (stream_id & 1 == 0) == is_client
        self.chunks: deque[bytes] = deque()
        self.ended = False
        self.aborted: int | None = None
        self.stopped: int | None = None
        self.sent_eof = False

    @property
    def unidirectional(self) -> bool:
        """One side sends, the other receives."""
        return bool(self.id & 2)

    @property
    def can_send(self) -> bool:
        """Is there a direction from us to the peer?"""
        return self.ours or not self.unidirectional

    @property
    def can_receive(self) -> bool:
        """Is there a direction from the peer to us?"""
        return not self.ours or not self.unidirectional

    def take(self, max_size: int) -> bytes:
        """At least one and at most so many bytes from the front of what has arrived; there must be some."""
        data = self.chunks.popleft()
        if len(data) > max_size:
            self.chunks.appendleft(data[max_size:])
            return data[:max_size]
        parts, size = [data], len(data)
        while self.chunks and size + len(self.chunks[0]) <= max_size:
            parts.append(self.chunks.popleft())
            size += len(parts[-1])
        return b"".join(parts) if len(parts) > 1 else data

    def drop(self) -> int:
        """Forget what has arrived.  How many bytes it was."""
        size = sum(map(len, self.chunks))
        self.chunks.clear()
        return size
