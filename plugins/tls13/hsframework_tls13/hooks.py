"""The hooks that this distribution registers (entry point group ``hsframework``)."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hsframework.hookspecs import hookimpl
from hsframework.interface import AsyncStream, EstablishedSession, Protocol, Stream
from hsframework_tls13.protocol import Tls13Protocol


@hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return (Tls13Protocol(),)


@hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    if session.protocol != "tls13":
        return None
    from hsframework_tls13.session import channel_for
    from hsframework_tls13.streams import AsyncTlsStream, TlsStream

    channel = channel_for(session, socket)
    return AsyncTlsStream(channel) if asynchronous else TlsStream(channel)
