"""The protocol that a plugin registers, and the handshaker that serves its requests."""

from __future__ import annotations

import socket as _socket
from abc import ABC, abstractmethod
from typing import Any

from hsframework.interface.demands import Demand
from hsframework.interface.endpoint import Endpoint
from hsframework.interface.gate import AddressValidation, Gate
from hsframework.interface.request import AuthMode, Request
from hsframework.interface.result import Result
from hsframework.interface.specification import Specification


class Handshaker(ABC):
    """The service of one protocol's requests in one worker; :meth:`Protocol.prepare` returns it."""

    @abstractmethod
    async def handshake(self, request: Request, endpoint: Endpoint) -> Result:
        """Run one handshake.  Raises :class:`hsframework.errors.HandshakeError`."""

    def close(self) -> None:  # noqa: B027  (a handshaker without resources has nothing to close)
        """Release all resources; called once, when the agent ends."""


class Protocol(ABC):
    """A security handshake that a plugin serves.  One instance is registered by ``hsframework_protocols``."""

    name: str
    """Lower-case letters, digits and dashes, unique in an installation; shown by the command line and the logs."""
    groups: tuple[str, ...]
    """The multicast groups in which requests for it are announced."""
    socket_protocols: frozenset[int] = frozenset({_socket.IPPROTO_TCP})
    """``SO_PROTOCOL`` of the sockets that it serves, so that several protocols can share a group."""
    settings_type: type[Any] | None = None
    """A frozen dataclass with defaults, for the table ``[plugins.NAME]`` in the configuration.  None: no settings."""
    auth_modes: frozenset[AuthMode] = frozenset({AuthMode.OWN, AuthMode.UNAUTHENTICATED})
    """The proofs of identity that it supports.  A request for another is refused with EOPNOTSUPP before an agent gets
    it: private keys go to protocols that have X509 here, pre-shared keys to those that have PSK."""
    understands: frozenset[Demand] = frozenset()
    """The demands of requests to which its handshaker keeps, or fails.  A request with any other is refused with
    EOPNOTSUPP before an agent gets it, since nobody would see to it."""
    tls_policies: bool = False
    """True: the same as :attr:`Demand.TLS_POLICIES` in :attr:`understands`."""
    writes_qlogs: bool = False
    """True if ``attach_session`` writes a qlog into the folder that the environment variable ``QLOGDIR`` names."""
    interface_version: int = 1
    """The ``INTERFACE_VERSION`` for which it was written, as a number."""

    def gate(self, validation: AddressValidation) -> Gate | None:
        """Return the gate for a listener of a datagram protocol.

        None: the protocol needs none, or its clients connect as streams do.
        """
        return None

    @property
    def specification(self) -> Specification | None:
        """Return the protocol's own netlink spec, with attribute sets ``request`` and ``session``; None: no spec."""
        return None

    @abstractmethod
    def prepare(self, settings: Any) -> Handshaker:
        """Load what all handshakes need, and fail early.

        ``settings`` is an instance of ``settings_type`` (or None).  Raises
        :class:`hsframework.errors.ConfigurationError` with a message that says what to change.
        After it has returned, no handshake opens a file.
        """
