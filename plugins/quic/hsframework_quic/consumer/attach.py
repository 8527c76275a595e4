"""The hook ``attach_session``: a connection that continues a session which was handed over."""

from __future__ import annotations

import socket
import time

from hsframework.interface import EstablishedSession
from hsframework_quic.aioquic_adapter.restore import restore
from hsframework_quic.consumer.asynchronous import AsyncQuicConnection
from hsframework_quic.consumer.blocking import QuicConnection
from hsframework_quic.consumer.connection import Connection
from hsframework_quic.consumer.recording import Recording
from hsframework_quic.session import QuicSession


def attach(
    session: EstablishedSession, sock: socket.socket, *, asynchronous: bool
) -> QuicConnection | AsyncQuicConnection:
    """Return the connection that continues ``session`` on ``sock``.

    Raises StreamError for parameters that are not those of a QUIC session, and for a socket that is not connected for
    datagrams.
    """
    state = QuicSession.of(session)
    recording = Recording(state)
    try:
        now = time.monotonic()
        connection = Connection(restore(state, now=now, quic_logger=recording.logger))
        for packet in state.packets:
            connection.receive(packet, now)
        make = AsyncQuicConnection if asynchronous else QuicConnection
        return make(connection, sock, recording.finish)
    except BaseException:
        recording.finish()
        raise
