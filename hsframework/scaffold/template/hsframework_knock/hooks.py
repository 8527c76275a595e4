"""Hooks of this distribution, registered in the entry point group ``hsframework``."""

from __future__ import annotations

import socket
from collections.abc import Iterable

from hsframework.hookspecs import hookimpl
from hsframework.interface import AsyncStream, EstablishedSession, Protocol, Stream
from hsframework.streams import AsyncioStream, BlockingStream, UserSpaceChannel

from hsframework_knock.plugin import KnockProtocol
from hsframework_knock.session import Frames

hsframework_interface_version = 1


@hookimpl
def hsframework_protocols() -> Iterable[Protocol]:
    return (KnockProtocol(),)


@hookimpl
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    if session.protocol != "knock":
        return None
    channel = UserSpaceChannel(socket, Frames(session.parameters["version"]))
    return AsyncioStream(channel) if asynchronous else BlockingStream(channel)
