"""Data over two streams at once, in the test kernel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hsframework.interface import Stream


def receive(stream: Stream, size: int) -> bytes:
    """Receive exactly so many bytes."""
    data = bytearray()
    while len(data) < size:
        piece = stream.receive()
        assert piece, "the session ended"
        data += piece
    return bytes(data)


def both_ways(one: Stream, other: Stream, data: bytes) -> None:
    """Send ``data`` each way, at once."""
    with ThreadPoolExecutor(3) as pool:
        sending = [pool.submit(one.send, data), pool.submit(other.send, data[::-1])]
        received = pool.submit(receive, other, len(data))
        assert receive(one, len(data)) == data[::-1]
        assert received.result() == data
        for sent in sending:
            sent.result()
