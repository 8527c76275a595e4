"""The protocol that a plugin registers, and the handshaker that serves its requests."""

from __future__ import annotations

import socket as _socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from hsframework.interface.endpoint import Endpoint
from hsframework.interface.gate import AddressValidation, Gate
from hsframework.interface.request import AuthMode, Request
from hsframework.interface.result import Result

if TYPE_CHECKING:
    from hsframework.netlink.spec import Specification


class Handshaker(ABC):
    """Serves the requests of one protocol in one agent process; what :meth:`Protocol.prepare` returns."""

    @abstractmethod
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        """Run one handshake.  Raises :class:`hsframework.errors.HandshakeError`."""

    def close(self) -> None:  # noqa: B027  (a handshaker without resources has nothing to close)
        """Called once when the agent ends."""


class Protocol(ABC):
    """A security handshake that a plugin serves.  One instance is registered by ``hsframework_protocols``."""

    name: str
    """Lower-case letters, digits and dashes; unique in an installation; what the command line and the logs say."""
    groups: tuple[str, ...]
    """The multicast groups in which requests for it are announced."""
    socket_protocols: frozenset[int] = frozenset({_socket.IPPROTO_TCP})
    """``SO_PROTOCOL`` of the sockets that it serves, so that several protocols can share a group."""
    settings_type: type[Any] | None = None
    """A frozen dataclass with defaults, for the table ``[plugins.NAME]`` in the configuration.  None: no settings."""
    auth_modes: frozenset[AuthMode] = frozenset(AuthMode)
    """What it can do; asked by the command line, which refuses the others before anything is sent."""
    writes_qlogs: bool = False
    """Does ``attach_session`` write a qlog where the environment variable ``QLOGDIR`` names a folder?"""
    interface_version: int = 1
    """The ``INTERFACE_VERSION`` that it was written for, as a number; what says nothing was written for 1."""

    def gate(self, validation: AddressValidation) -> Gate | None:
        """For a listener of a datagram protocol.

        None: the protocol needs none, or its clients connect as streams do.
        """
        return None

    @property
    def specification(self) -> Specification | None:
        """The mechanism's own netlink spec, with attribute sets ``request`` and ``session``; None: it has neither."""
        return None

    @abstractmethod
    def prepare(self, settings: Any) -> Handshaker:
        """Load what all handshakes need, and fail early.

        ``settings`` is an instance of ``settings_type`` (or None).  Raises
        :class:`hsframework.errors.ConfigurationError` with a message that says what to change.
        After it has returned, no handshake opens a file.
        """
