"""Sessions: the consumer's view of a handshake that succeeded.

The socket stays its owner's, and no session closes it.  The secrets of a session in user space are a
:class:`~hsframework.interface.Secret`, and are decoded on first use, by the plugin's specification.
"""

from __future__ import annotations

import errno
import socket as _socket
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from hsframework.errors import PluginError, StreamError
from hsframework.interface import (
    AsyncConnection,
    AsyncStream,
    Connection,
    EstablishedSession,
    PeerIdentity,
    Role,
    Secret,
    Stream,
)
from hsframework.netlink.attributes import attribute_codec

if TYPE_CHECKING:
    from hsframework.registry.plugins import Registry


class BaseSession:
    """A session on a socket, by the values of a ``result`` message with status 0."""

    def __init__(
        self, sock: _socket.socket, role: Role, values: Mapping[str, Any], registry: Registry | None = None
    ) -> None:
        self.socket = sock
        self.role = role
        self._values = values
        self._registry = registry
        self._attached = False

    @property
    def protocol(self) -> str:
        """Name of the protocol, for example ``tls13``."""
        return str(self._values.get("protocol", ""))

    @property
    def alpn(self) -> str | None:
        """Application protocol that both sides agreed on (ALPN, RFC 7301); None: none."""
        return self._values.get("alpn")

    @property
    def in_kernel(self) -> bool:
        """True if the kernel protects what is read from and written to the socket."""
        return bool(self._values.get("in-kernel", False))

    @cached_property
    def peer(self) -> PeerIdentity:
        """Identity that the peer has proved."""
        return PeerIdentity(
            certificates=tuple(self._values.get("remote-certificate", ())),
            psk_identity=self._values.get("remote-psk-identity"),
            public_key=self._values.get("remote-public-key"),
        )

    @cached_property
    def tags(self) -> Mapping[str, str]:
        """Short facts by name, for example ``cipher`` and ``group``."""
        return {tag.get("name", ""): tag.get("value", "") for tag in self._values.get("tag", ())}

    @property
    def raw_parameters(self) -> Secret | None:
        """Session parameters as encoded by the agent, for a consumer without the plugin; None: there are none."""
        return self._values.get("session")

    @cached_property
    def parameters(self) -> Mapping[str, Any]:
        """Session parameters by name, as the attribute set ``session`` of the protocol's specification lists them.

        Raises PluginError if the protocol's plugin is not installed here, MessageError if it cannot decode them.
        """
        raw = self.raw_parameters
        if raw is None:
            return {}
        entry = self.registry.protocols.get(self.protocol)
        if entry is None:
            raise self._no_plugin("its session parameters cannot be decoded")
        specification = entry.protocol.specification
        if specification is None or "session" not in specification.sets:
            raise PluginError(f"the plugin of {self.protocol!r} describes no session; install the version that made it")
        return attribute_codec(specification, "session").decode(raw.reveal())

    @cached_property
    def established(self) -> EstablishedSession:
        """The session in the form that the hook ``hsframework_attach_session`` takes."""
        return EstablishedSession(
            protocol=self.protocol,
            role=self.role,
            peer=self.peer,
            alpn=self.alpn,
            in_kernel=self.in_kernel,
            parameters=self.parameters,
            tags=self.tags,
        )

    @property
    def registry(self) -> Registry:
        """Plugins of this process, loaded on first use."""
        if self._registry is None:
            self._registry = installed_plugins()
        return self._registry

    def _attach(self, asynchronous: bool) -> Any:
        if self.registry.protocols.get(self.protocol) is None:
            raise self._no_plugin("there is no stream for it")
        if self._attached:
            raise StreamError(
                "the session has its stream already; a second one would use its keys with the same numbers again",
                errno=errno.EALREADY,
            )
        stream = self.registry.hook.hsframework_attach_session(
            session=self.established, socket=self.socket, asynchronous=asynchronous
        )
        if stream is None:
            raise StreamError(
                f"the plugin of {self.protocol!r} offers no stream for this session; "
                + ("read and write the socket itself" if self.in_kernel else "use its parameters"),
                errno=errno.EOPNOTSUPP,
            )
        self._attached = not self.in_kernel
        return stream

    def _one_stream(self) -> StreamError:
        return StreamError(f"a session of {self.protocol!r} is one stream: use stream()", errno=errno.EOPNOTSUPP)

    def _no_plugin(self, consequence: str) -> PluginError:
        errors = [error for error in self.registry.errors if error.name == self.protocol]
        reason = f"could not be loaded ({errors[0].message})" if errors else "is not installed"
        return PluginError(
            f"the plugin of protocol {self.protocol!r} {reason} in this process, so {consequence}: "
            f"install the package hsframework-{self.protocol}"
        )

    def __repr__(self) -> str:
        where = "in the kernel" if self.in_kernel else "in user space"
        return f"<{type(self).__name__} {self.protocol} as {self.role.name.lower()}, {where}>"


class Session(BaseSession):
    """A session of the blocking :class:`hsframework.client.Client`."""

    def stream(self) -> Stream:
        """Return a blocking stream over the session, the same for sessions in the kernel and in user space.

        Raises PluginError if the protocol's plugin is not installed here, and StreamError: EALREADY on a second call
        for a session in user space, which would use its keys twice, EOPNOTSUPP if the plugin has no stream for it.
        """
        return cast(Stream, self._attach(asynchronous=False))

    def connection(self) -> Connection:
        """Return the session as a connection with several streams (QUIC).

        Raises what :meth:`stream` raises, and StreamError (EOPNOTSUPP) for a session with one stream only.
        """
        stream = self.stream()
        if not isinstance(stream, Connection):
            raise self._one_stream()
        return stream


class AsyncSession(BaseSession):
    """A session of :class:`hsframework.client.AsyncClient`."""

    def stream(self) -> AsyncStream:
        """Return a stream for asyncio over the session, and set the socket to non-blocking.

        Raises the errors of :meth:`Session.stream`.
        """
        self.socket.setblocking(False)
        return cast(AsyncStream, self._attach(asynchronous=True))

    def connection(self) -> AsyncConnection:
        """Return the session as a connection with several streams (QUIC).

        Raises what :meth:`stream` raises, and StreamError (EOPNOTSUPP) for a session with one stream only.
        """
        stream = self.stream()
        if not isinstance(stream, AsyncConnection):
            raise self._one_stream()
        return stream


def installed_plugins() -> Registry:
    """Load the plugins of this process on the first call, and return them."""
    from hsframework.registry.plugins import load_plugins

    global _installed
    if _installed is None:
        _installed = load_plugins()
    return _installed


_installed: Registry | None = None
