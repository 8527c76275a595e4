"""The scenario of the conformance suite: a plugin, handshakes that succeed and that fail, and wrong settings."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.client.request import HandshakeOptions
from hsframework.interface import Role, Secret
from hsframework.registry.plugins import PluginRegistry
from hsframework.testing.dispatcher import registry_of

Pair = tuple[HandshakeOptions, HandshakeOptions]
"""A client's options and a server's, for the two ends of one connection."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A plugin, and handshakes between two ends that it serves.  ``client`` and ``server`` succeed with each other."""

    plugin: str | object
    """Name of the entry point of an installed plugin; or the module or object with its hooks."""
    client: HandshakeOptions
    server: HandshakeOptions
    refused: Mapping[str, Pair]
    """Pairs of which at least one end refuses, by a word for the reason: a peer that is not trusted, a wrong key."""
    wrong_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Tables that ``prepare`` refuses, by the key that its message names.  Empty: the protocol has no settings."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The table ``[plugins.NAME]`` for all other checks."""
    sans_io: tuple[str, ...] = ()
    """Names of the modules of the protocol, for example ``("hsframework_noise.exchange",)``.  They, and modules of the
    same package that they import, must not import a socket, event loop, clock, thread or file system.  Empty: the
    plugin has no protocol code, because a library does the protocol."""
    streams: bool = True
    """True if the plugin has a stream over its session for consumers (``hsframework_attach_session``)."""
    protected: bool = True
    """True if the data of its sessions is encrypted and authenticated; False: it is plain text, which a protocol that
    is not for tests has to say to its users.  Sessions in the kernel and on datagrams are not examined."""
    refused_by: Mapping[str, tuple[Role, int]] = field(default_factory=dict)
    """The end that refuses by itself, and the errno that its consumer gets, by the words of ``refused``.  An end that
    is not named here may do what it likes, so name each: a server that checks no proof is not seen otherwise."""
    secrets: tuple[bytes, ...] = ()
    """Secrets beyond the private keys, the pre-shared keys and every ``Secret`` in the options' attributes and in the
    sessions."""

    @property
    def group(self) -> str:
        """Group of the requests."""
        return self.client.group

    def registry(self) -> PluginRegistry:
        """Return a registry with this plugin only.  Raises PluginError."""
        return registry_of(self.plugin)

    def protocol_name(self, registry: PluginRegistry) -> str:
        """Return the name of the protocol that serves the group.  Raises LookupError."""
        for name, (protocol, _) in registry.protocols.items():
            if self.group in protocol.groups:
                return name
        raise LookupError(f"no protocol of the plugin serves the group {self.group!r} that the options name")

    def kind(self, registry: PluginRegistry) -> socket.SocketKind:
        """Return SOCK_STREAM for a protocol on TCP, SOCK_DGRAM for one on UDP.  Raises LookupError for any other."""
        served = registry.protocols[self.protocol_name(registry)].protocol.socket_protocols
        if socket.IPPROTO_TCP in served:
            return socket.SOCK_STREAM
        if socket.IPPROTO_UDP in served:
            return socket.SOCK_DGRAM
        raise LookupError(f"the protocol serves neither TCP nor UDP sockets, but SO_PROTOCOL {sorted(served)}")

    def known_secrets(self) -> set[bytes]:
        """Return the secrets in all options, and ``secrets``."""
        found = set(self.secrets)
        for options in (self.client, self.server, *(end for pair in self.refused.values() for end in pair)):
            found.update(identity.private_key.reveal() for identity in options.identities)
            found.update(key.key.reveal() for key in options.psks)
            if not isinstance(options.attributes, bytes):
                found.update(secrets_in(options.attributes))
        return found


def secrets_in(value: object) -> set[bytes]:
    """Return the bytes of every Secret in a mapping or a list, at any depth."""
    if isinstance(value, Secret):
        return {value.reveal()}
    if isinstance(value, Mapping):
        return set().union(*(secrets_in(item) for item in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(secrets_in(item) for item in value))
    return set()
