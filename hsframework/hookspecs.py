"""Every pluggy hook, typed.  A plugin implements any of them with ``@hsframework.hookimpl``.

Hooks run in the process that the docstring names.  A hook that raises is logged with its plugin's name; where the
docstring says *fails closed*, the handshake is refused then.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from hsframework.errors import HsframeworkError
    from hsframework.interface import (
        AsyncStream,
        EstablishedSession,
        PeerIdentity,
        Protocol,
        Request,
        Result,
        Stream,
    )

PROJECT = "hsframework"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def hsframework_protocols() -> Iterable[Protocol]:  # type: ignore[empty-body]
    """The protocols that this plugin serves.  Called once, in every process, when plugins are loaded."""


@hookspec
def hsframework_settings() -> type[Any]:  # type: ignore[empty-body]
    """A frozen dataclass with defaults: what the table ``[plugins.NAME]`` may hold, NAME being the plugin's own name.

    For plugins whose other hooks have settings; those of a protocol are :attr:`Protocol.settings_type
    <hsframework.interface.Protocol.settings_type>`.  Called once, when the plugin is loaded.
    """


@hookspec
def hsframework_configure(settings: Any) -> None:
    """The settings, checked, as ``hsframework_settings`` describes them.  In the agent, once, before any request.

    The place to open files and sockets for the other hooks.  Raise
    :class:`hsframework.errors.ConfigurationError` with what to change: no agent starts then.  After anything else that
    it raises the plugin is skipped; if it must have its say, it is named in ``required-plugins``.
    """


@hookspec
def hsframework_authorize(request: Request, peer: PeerIdentity) -> None:
    """May this peer have this session, beyond what the protocol has checked?  In the agent, before success is reported.

    Return to allow; raise :class:`hsframework.errors.HandshakeError` to refuse.  Fails closed.
    """


@hookspec
def hsframework_handshake_started(request: Request) -> None:
    """A handshake begins.  In the agent."""


@hookspec
def hsframework_handshake_finished(request: Request, outcome: Result | HsframeworkError, duration: float) -> None:
    """A handshake has ended, with its result or its error, after ``duration`` seconds.  In the agent, exactly once."""


@hookspec(firstresult=True)
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    """A stream object over ``session`` and ``socket``.  In the consumer's process.

    None: not a session of this plugin.  With ``asynchronous`` an :class:`~hsframework.interface.AsyncStream`.
    """
