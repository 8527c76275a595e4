"""The hooks that this distribution registers (entry point group ``hsframework``)."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hsframework.hookspecs import hookimpl
from hsframework.interface import AsyncStream, EstablishedSession, Protocol, Stream
from hsframework_quic.protocol import KernelQuicProtocol, QuicProtocol


@hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return (QuicProtocol(), KernelQuicProtocol())


@hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    if session.protocol != "quic":
        return None
    from hsframework_quic.consumer.attach import attach

    return attach(session, socket, asynchronous=asynchronous)
