"""A socket comes out of custody as it went in, on every way out: options and flags are put back, our copy is closed."""

from __future__ import annotations

import errno
import fcntl
import os
import socket

import pytest

from hsframework.configuration.settings import Configuration, Limits
from hsframework.dispatcher.custody import Custody
from tests.support.house import REQUEST, connected_pair, house
from tests.support.played_kernel import CLIENT, GROUP, PlayedWire, stage


def options(sock: socket.socket) -> tuple[int, bool, int]:
    """Return what a handshake changes."""
    return (
        fcntl.fcntl(sock, fcntl.F_GETFL),
        bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT),
    )


def own_options(sock: socket.socket) -> tuple[int, bool, int]:
    """Set options of the owner's, all of which a handshake changes, and return them."""
    sock.setblocking(True)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1000)
    return options(sock)


@pytest.mark.parametrize("reason", [errno.ESRCH, errno.EAGAIN, errno.EBUSY])
async def test_a_refused_socket_is_as_it_was(reason: int) -> None:
    """A refusal for any reason, no group or no room; a socket in a handshake is left in it."""
    with connected_pair() as (ours, _), connected_pair() as (other, _):
        before = own_options(ours)
        async with house(Configuration(limits=Limits(total=1))) as home:
            await home.agent("toy")
            consumer = await home.consumer()
            if reason != errno.ESRCH:
                consumer.send("submit", REQUEST, (ours if reason == errno.EBUSY else other).fileno())
            group = "nobody" if reason == errno.ESRCH else "toy"
            consumer.send("submit", {**REQUEST, "group": group}, ours.fileno())
            assert (await consumer.expect("error")).error == reason
            assert options(ours)[1:] == ((True, 1) if reason == errno.EBUSY else before[1:])


async def test_a_withdrawn_socket_is_as_it_was() -> None:
    """Its consumer goes away while it waits for an agent; the socket may have another owner."""
    with connected_pair() as (ours, _):
        before = own_options(ours)
        async with house() as home:
            await home.agent("toy")
            consumer = await home.consumer()
            consumer.send("submit", REQUEST, ours.fileno())
            await home.queued(1)
            consumer.close()
            await home.queued(0)
            assert options(ours) == before


async def test_a_refused_socket_of_the_kernels_is_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Options are put back before DONE, after which the kernel may use the socket."""
    with connected_pair() as (ours, _):
        before = own_options(ours)
        at_done: list[object] = []
        monkeypatch.setattr(PlayedWire, "done", lambda *_: at_done.append(options(ours)))
        async with stage() as played:
            await played.home.agent(GROUP)
            played.submit(ours, {**CLIENT, "auth-mode": 77})
            await played.until(lambda: at_done)
            assert at_done == [before]
            assert options(ours) == before


def test_options_are_put_back_once() -> None:
    """Between restore and release the owner may set them anew, and a second release does nothing."""
    with connected_pair() as (ours, _):
        own_options(ours)
        custody = Custody(os.dup(ours.fileno()), os.close, trusted=True)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        custody.restore()
        assert not ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        custody.release()
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert custody.fileno() < 0
        custody.release()
