"""Requests of a dispatcher that is gone: kept for thirty seconds, taken back once, or ended."""

from __future__ import annotations

import asyncio
import os
import socket

from structlog.testing import capture_logs

from hsframework.agent.endpoint import StreamEndpoint
from hsframework.agent.readiness import Readiness
from hsframework.agent.stranded import Restorable, StrandedRequests
from hsframework.testing import virtual_time
from hsframework.testing.network import tcp_pair

KNOWN = {"request-id": 7, "group": "toy", "source": "kernel", "kernel-consumer": True}


def kept(requests: StrandedRequests, sock: socket.socket, readiness: Readiness) -> Restorable:
    """Keep the socket, and return what is kept."""
    requests.keep(Restorable.of(StreamEndpoint(sock.dup(), readiness), KNOWN))
    return requests.items()[-1]


def shut_down(sock: socket.socket) -> bool:
    """True if the other end has shut its direction down."""
    try:
        return sock.recv(1, socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False


def test_a_request_that_is_taken_back_is_over_here() -> None:
    """Its copy is closed and its connection lives; nothing of it is reported after the thirty seconds."""

    async def body() -> None:
        requests, readiness = StrandedRequests(asyncio.get_running_loop()), Readiness(asyncio.get_running_loop())
        near, far = tcp_pair()
        with near, far, capture_logs() as logs:
            item = kept(requests, near, readiness)
            assert item.values == {**KNOWN, "outcome": None}
            assert os.fstat(item.fileno()).st_ino == os.fstat(near.fileno()).st_ino
            requests.taken(item)
            requests.taken(item)
            requests.refused(item)
            assert len(requests) == 0
            await asyncio.sleep(100)
            assert not shut_down(far)
        assert logs == []
        readiness.close()

    virtual_time.run(body())


def test_a_request_that_nobody_takes_back_ends_after_thirty_seconds() -> None:
    """Not before; the peer sees the end, and the log says whose it was."""

    async def body() -> None:
        requests, readiness = StrandedRequests(asyncio.get_running_loop()), Readiness(asyncio.get_running_loop())
        near, far = tcp_pair()
        with near, far, capture_logs() as logs:
            kept(requests, near, readiness)
            await asyncio.sleep(29.9)
            assert not shut_down(far)
            assert len(requests) == 1
            await asyncio.sleep(0.2)
            assert shut_down(far)
            assert len(requests) == 0
        assert [it["request"] for it in logs] == [7]
        readiness.close()

    virtual_time.run(body())


async def test_all_end_with_the_agent() -> None:
    """Those that are refused or left over are shut down, for every copy of the socket."""
    requests, readiness = StrandedRequests(asyncio.get_running_loop()), Readiness(asyncio.get_running_loop())
    near, far = tcp_pair()
    other_near, other_far = tcp_pair()
    with near, far, other_near, other_far:
        requests.refused(kept(requests, near, readiness))
        assert shut_down(far)
        kept(requests, other_near, readiness)
        assert not shut_down(other_far)
        requests.close()
        assert shut_down(other_far)
        assert len(requests) == 0
    readiness.close()
