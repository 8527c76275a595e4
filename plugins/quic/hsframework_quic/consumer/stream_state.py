"""The state of one stream: data that has arrived and was not read, and how far either side is."""

from __future__ import annotations

from collections import deque


class StreamState:
    """The state of a stream.

    ``aborted``: the code by which the peer reset it; ``stopped``: the code by which it asked us to stop.

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
        """True if one side sends and the other receives."""
        return bool(self.id & 2)

    @property
    def can_send(self) -> bool:
        """True if there is a direction from us to the peer."""
        return self.ours or not self.unidirectional

    @property
    def can_receive(self) -> bool:
        """True if there is a direction from the peer to us."""
        return not self.ours or not self.unidirectional

    def take(self, max_size: int) -> bytes:
        """Return at least one byte and at most ``max_size`` from the front of the data, which must not be empty."""
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
        """Drop the data that has arrived; return its size in bytes."""
        size = sum(map(len, self.chunks))
        self.chunks.clear()
        return size
