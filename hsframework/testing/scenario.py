"""The scenario of the conformance suite: a plugin, handshakes that succeed and that fail, and wrong settings."""

from __future__ import annotations

import socket
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hsframework.client.request import HandshakeOptions
from hsframework.interface import Role, Secret
from hsframework.registry.plugins import PluginRegistry
from hsframework.testing.dispatcher import registry_of

Pair = tuple[HandshakeOptions, HandshakeOptions]
"""A client's options and a server's, for the two ends of one connection."""


@dataclass(frozen=True)
class Refusal:
    """A pair that is refused, and the errnos of its ends; :func:`refused` makes it."""

    pair: Pair
    errnos: Mapping[Role, frozenset[int]]
    """The errnos with which an end may fail, by its role; an end that is missing may fail with any."""
    may_succeed: Role | None = None
    """The end whose success is no fault."""


def refused(
    pair: Pair,
    *,
    client: int | Collection[int] | None = None,
    server: int | Collection[int] | None = None,
    may_succeed: Role | None = None,
) -> Refusal:
    """Return a pair that is refused.

    ``client``, ``server``: the errno with which that end fails, or several; None: any.  ``may_succeed``: the end that
    may have a session all the same, because it has its own before its peer refuses (a TLS 1.3 client); no other may.
    """
    given = {Role.CLIENT: client, Role.SERVER: server}
    errnos = {
        role: frozenset((value,) if isinstance(value, int) else value)
        for role, value in given.items()
        if value is not None
    }
    return Refusal(pair, errnos, may_succeed)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A plugin, and handshakes between two ends that it serves.  ``client`` and ``server`` succeed with each other."""

    plugin: str | object
    """Name of the entry point of an installed plugin; or the module or object with its hooks."""
    client: HandshakeOptions
    server: HandshakeOptions
    refused: Mapping[str, Refusal | Pair]
    """Pairs of which at least one end refuses, by a word for the reason: a peer that is not trusted, a wrong key.  Say
    with :func:`refused` how each end fails; of a bare pair it is only known that not both succeed."""
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
    is not for tests has to say to its users, and its messages may be replayed and reflected.  Sessions in the kernel
    and on datagrams are not examined."""
    refused_by: Mapping[str, tuple[Role, int]] = field(default_factory=dict)
    """The end that refuses by itself, and the errno that its consumer gets, by the words of ``refused``.  An end that
    is not named here may do what it likes, so name each: a server that checks no proof is not seen otherwise."""
    pairs: tuple[Pair, ...] = ()
    """Further pairs that succeed, with other peers and keys than ``client`` and ``server``.  Where both ends have the
    same pre-shared key or the same Secret in their attributes, the suite makes such pairs by itself."""
    unconfirmed: frozenset[Role] = frozenset()
    """The ends that have their session before the peer has proved that it is there now, as the responder of Noise_IK
    has: for them a replayed message is a handshake, which their peer does not have."""
    secrets: tuple[bytes, ...] = ()
    """Secrets beyond the private keys, the pre-shared keys and every ``Secret`` in the options' attributes and in the
    sessions."""

    public: tuple[str, ...] = ()
    """Attributes of the session that are no secrets although they are on no wire: a hash of the handshake, for channel
    binding."""

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

    def refused_pairs(self) -> list[Pair]:
        """Return the pairs of ``refused``."""
        return [entry.pair if isinstance(entry, Refusal) else entry for entry in self.refused.values()]

    def secrets_of(self, pair: Pair) -> set[bytes]:
        """Return the secrets in the options of a pair."""
        found: set[bytes] = set()
        for options in pair:
            found.update(identity.private_key.reveal() for identity in options.identities)
            found.update(key.key.reveal() for key in options.psks)
            if not isinstance(options.attributes, bytes):
                found.update(secrets_in(options.attributes))
        return found

    def known_secrets(self) -> set[bytes]:
        """Return the secrets in all options, and ``secrets``."""
        return set(self.secrets).union(*map(self.secrets_of, ((self.client, self.server), *self.refused_pairs())))


def secrets_in(value: object) -> set[bytes]:
    """Return the bytes of every Secret in a mapping or a list, at any depth."""
    if isinstance(value, Secret):
        return {value.reveal()}
    if isinstance(value, Mapping):
        return set().union(*(secrets_in(item) for item in value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*(secrets_in(item) for item in value))
    return set()
