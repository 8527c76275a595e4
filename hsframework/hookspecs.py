"""The hooks, typed.  A plugin implements any of them with ``@hsframework.hookimpl``.

A hook runs in the process that its docstring names.  An exception from a hook is logged with the plugin's name; where
the docstring says *fails closed*, the handshake is then refused.
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
"""The project's name for pluggy; every hook begins with it."""

hookspec = pluggy.HookspecMarker(PROJECT)
"""The decorator of the hooks below."""
hookimpl = pluggy.HookimplMarker(PROJECT)
"""The decorator of a plugin's implementations."""


@hookspec
def hsframework_protocols() -> Iterable[Protocol]:  # type: ignore[empty-body]
    """Return the protocols that this plugin serves.  Called once, in every process, when plugins are loaded."""


@hookspec
def hsframework_settings() -> type[Any]:  # type: ignore[empty-body]
    """Return a frozen dataclass with defaults, for the table ``[plugins.NAME]``, NAME being the plugin's own name.

    For plugins whose other hooks have settings; those of a protocol are :attr:`Protocol.settings_type
    <hsframework.interface.Protocol.settings_type>`.  Called once, when the plugin is loaded.
    """


@hookspec
def hsframework_configure(settings: Any) -> None:
    """Take the settings, checked, of the type from ``hsframework_settings``.  In the agent, once, before any request.

    The place to open files and sockets for the other hooks.  Raise
    :class:`hsframework.errors.ConfigurationError` with a message that says what to change: no agent starts then.  After
    any other exception the plugin is skipped, unless ``required-plugins`` names it: nothing is served without it then.
    """


@hookspec
def hsframework_authorize(request: Request, peer: PeerIdentity) -> None:
    """Allow or refuse a peer its session, beyond the protocol's own checks.  In the agent, before success is reported.

    Return to allow; raise :class:`hsframework.errors.HandshakeError` to refuse.  Fails closed.
    """


@hookspec
def hsframework_handshake_started(request: Request) -> None:
    """Note a handshake that begins.  In the agent."""


@hookspec
def hsframework_handshake_finished(request: Request, outcome: Result | HsframeworkError, duration: float) -> None:
    """Note a handshake that has ended, with its result or its error.  In the agent, exactly once.

    ``duration``: seconds from beginning to end.
    """


@hookspec(firstresult=True)
def hsframework_attach_session(
    session: EstablishedSession, socket: socket.socket, asynchronous: bool
) -> Stream | AsyncStream | None:
    """Return a stream over ``session`` and ``socket``.  In the consumer's process.

    None: not a session of this plugin.  With ``asynchronous`` an :class:`~hsframework.interface.AsyncStream`.
    """
