"""The hooks that this distribution registers (entry point group ``hsframework``)."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hsframework.hookspecs import hookimpl
from hsframework.interface import AsyncStream, EstablishedSession, Protocol, Stream
from hsframework_psp.protocol import PspProtocol


@hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return (PspProtocol(),)


@hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    if session.protocol != "psp":
        return None
    from hsframework_psp.session import attach

    return attach(session, socket, asynchronous=asynchronous)
