"""The hooks that this distribution registers (entry point group ``hsframework``)."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hsframework.hookspecs import hookimpl
from hsframework.interface import AsyncStream, EstablishedSession, Protocol, Stream

hsframework_interface_version = 1


@hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    from hsframework_spake2.plugin import Spake2Protocol

    return (Spake2Protocol(),)


@hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    if session.protocol != "spake2":
        return None
    from hsframework import streams

    from hsframework_spake2.session import to_transport

    channel = streams.UserSpaceChannel(socket, to_transport(session.parameters))
    return streams.AsyncioStream(channel) if asynchronous else streams.BlockingStream(channel)
