"""The places at which a session meets aioquic's private state and the socket: single values, at their bounds."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hsframework.errors import StreamError
from hsframework_quic.aioquic_adapter import export, restore
from hsframework_quic.consumer.datagrams import DatagramSocket
from hsframework_quic.session import CRYPTO, HANDSHAKE_DONE, PING, Frame, RoundTripTime
from tests.unit.quic.joined import sockets


def test_round_trip_times_are_microseconds_that_fit() -> None:
    """Rounded; what does not fit into 32 bits is the largest that does; without an estimate there is none."""
    loss = SimpleNamespace(
        _rtt_initialized=True, _rtt_latest=0.0123456, _rtt_min=1e-7, _rtt_smoothed=1e9, _rtt_variance=4294.967295
    )
    assert export._round_trip_time(loss) == RoundTripTime(12_346, 0, 0xFFFFFFFF, 0xFFFFFFFF)
    loss._rtt_initialized = False
    assert export._round_trip_time(loss) is None


@pytest.mark.parametrize(
    ("kind", "pending"), [(HANDSHAKE_DONE, (True, False)), (PING, (False, True)), (CRYPTO, (False, False))]
)
def test_frames_that_are_still_to_be_sent(kind: int, pending: tuple[bool, bool]) -> None:
    """HANDSHAKE_DONE and PING are flags of the connection's; what CRYPTO has is in its stream."""
    connection: Any = SimpleNamespace(_handshake_done_pending=False, _probe_pending=False)
    restore._Restored._make_pending(cast(restore._Restored, connection), Frame(kind))
    assert (connection._handshake_done_pending, connection._probe_pending) == pending


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_copy_of_a_socket(host: str) -> None:
    """It has the socket's own family and type, is another fd of the same socket, and waits by itself."""
    one, other = sockets(host)
    with one, other:
        one.settimeout(5)
        copy = DatagramSocket(one)
        try:
            assert copy._socket.family == one.family
            assert copy._socket.type == one.type == socket.SOCK_DGRAM
            assert copy._socket.getsockname() == one.getsockname()
            assert copy.fileno() != one.fileno()
            assert not copy.send([b"through the copy"])
            assert other.recv(100) == b"through the copy"
        finally:
            copy.close()
        assert one.fileno() >= 0


def test_a_socket_that_is_no_copy_to_have() -> None:
    """A stream, and a datagram socket without a peer: the error says why."""
    one, two = socket.socketpair()
    with one, two, pytest.raises(StreamError, match="not a datagram socket"):
        DatagramSocket(one)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made, pytest.raises(StreamError, match="not connected"):
        DatagramSocket(made)
