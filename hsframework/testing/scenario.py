"""What a plugin author tells the conformance suite: which handshake succeeds, which ones fail, and what is wrong."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.client.request import HandshakeOptions
from hsframework.interface import Secret
from hsframework.registry.plugins import PluginRegistry
from hsframework.testing.dispatcher import registry_of

Pair = tuple[HandshakeOptions, HandshakeOptions]
"""A client's options and a server's, for the two ends of one connection."""


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A plugin and handshakes between two of its own ends.  ``client`` and ``server`` succeed with each other."""

    plugin: str | object
    """The name of its entry point, where it is installed; or the module or object with its hooks."""
    client: HandshakeOptions
    server: HandshakeOptions
    refused: Mapping[str, Pair]
    """Pairs of which at least one end refuses, by a word for what is wrong: a peer that is not trusted, a wrong key."""
    wrong_settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Tables that ``prepare`` refuses, by the key that its message names.  Empty: the protocol has no settings."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The table ``[plugins.NAME]`` for all else."""
    sans_io: tuple[str, ...] = ()
    """Names of the modules that hold the protocol, for example ``("hsframework_noise.exchange",)``.  They, and what
    they import of the same package, import no socket, event loop, clock, thread or file system.  Empty: the plugin has
    no protocol code, and all of it is in a library."""
    streams: bool = True
    """The plugin gives consumers a stream over its session (``hsframework_attach_session``)."""
    secrets: tuple[bytes, ...] = ()
    """What must not be shown, beyond the private keys, the pre-shared keys and every ``Secret`` in the options'
    attributes and in the sessions."""

    @property
    def group(self) -> str:
        """The group in which the requests are made."""
        return self.client.group

    def registry(self) -> PluginRegistry:
        """The plugin alone, registered.  Raises PluginError."""
        return registry_of(self.plugin)

    def protocol_name(self, registry: PluginRegistry) -> str:
        """The protocol that the requests are for.  Raises LookupError."""
        for name, (protocol, _) in registry.protocols.items():
            if self.group in protocol.groups:
                return name
        raise LookupError(f"no protocol of the plugin serves the group {self.group!r} that the options name")

    def kind(self, registry: PluginRegistry) -> socket.SocketKind:
        """SOCK_STREAM for a protocol on TCP, SOCK_DGRAM for one on UDP.  Raises LookupError."""
        served = registry.protocols[self.protocol_name(registry)].protocol.socket_protocols
        if socket.IPPROTO_TCP in served:
            return socket.SOCK_STREAM
        if socket.IPPROTO_UDP in served:
            return socket.SOCK_DGRAM
        raise LookupError(f"the protocol serves neither TCP nor UDP sockets, but SO_PROTOCOL {sorted(served)}")

    def known_secrets(self) -> set[bytes]:
        """Every secret in the options."""
        found = set(self.secrets)
        for options in (self.client, self.server, *(end for pair in self.refused.values() for end in pair)):
            found.update(identity.private_key.reveal() for identity in options.identities)
            found.update(key.key.reveal() for key in options.psks)
            if not isinstance(options.attributes, bytes):
                found.update(secrets_in(options.attributes))
        return found


def secrets_in(value: object) -> set[bytes]:
    """The bytes of every Secret in a mapping or a list, at any depth."""
    if isinstance(value, Secret):
        return {value.reveal()}
    if isinstance(value, Mapping):
        return set().union(*(secrets_in(item) for item in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(secrets_in(item) for item in value))
    return set()
