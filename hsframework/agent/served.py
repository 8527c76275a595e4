"""Protocols that this process serves, prepared, with the codecs of their own attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from hsframework.configuration.toml import settings_from_table
from hsframework.errors import ConfigurationError, PluginError
from hsframework.interface import Handshaker, Protocol
from hsframework.netlink.attributes import AttributeCodec, attribute_codec
from hsframework.netlink.spec import Specification
from hsframework.registry.plugins import PluginRegistry

_log = structlog.get_logger("hsframework.agent")


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A prepared protocol.  ``plugin``: the name of its plugin, for the log.

    A codec is None where the protocol describes no such attributes.
    """

    protocol: Protocol
    handshaker: Handshaker
    plugin: str
    request_codec: AttributeCodec | None = None
    session_codec: AttributeCodec | None = None

    @property
    def name(self) -> str:
        """Return the protocol's name."""
        return self.protocol.name


def prepare(
    registry: PluginRegistry, name: str, table: Mapping[str, Any] | None = None, *, base: Path | None = None
) -> Served:
    """Look a protocol up and prepare it with its settings.  ``base``: the folder of relative paths in the table.

    Raises ConfigurationError for wrong settings, PluginError for a protocol that is unknown or cannot be prepared.
    """
    registered = registry.protocols.get(name)
    if registered is None:
        raise _not_there(registry, name)
    protocol, plugin = registered.protocol, registered.record.name
    settings = _settings(protocol, table or {}, base)
    try:
        specification = protocol.specification
        handshaker: object = protocol.prepare(settings)
    except (ConfigurationError, KeyboardInterrupt):
        raise
    except BaseException as error:
        _log.exception("a plugin failed to prepare", plugin=plugin, protocol=name)
        problem = f"the plugin {plugin!r} failed to prepare {name}: {type(error).__name__}; see the log"
        raise PluginError(problem) from error
    if not isinstance(handshaker, Handshaker):
        kind = type(handshaker).__name__
        raise PluginError(f"the plugin {plugin!r}: prepare() of {name} gave a {kind}, not a Handshaker")
    return Served(protocol, handshaker, plugin, _codec(specification, "request"), _codec(specification, "session"))


def check_no_overlap(served: tuple[Served, ...]) -> None:
    """Raise ConfigurationError if two protocols would serve the same requests."""
    for index, one in enumerate(served):
        for other in served[:index]:
            shared = set(one.protocol.groups) & set(other.protocol.groups)
            if shared and one.protocol.socket_protocols & other.protocol.socket_protocols:
                group = min(shared)
                raise ConfigurationError(
                    f"{one.name} and {other.name} both serve the group {group!r} on the same kind of "
                    "socket; run one of them"
                )


def by_request(served: tuple[Served, ...]) -> dict[tuple[str, int], Served]:
    """Return the protocols by the group and the SO_PROTOCOL of the requests that they serve."""
    return {
        (group, socket_protocol): item
        for item in served
        for group in item.protocol.groups
        for socket_protocol in item.protocol.socket_protocols
    }


def _settings(protocol: Protocol, table: Mapping[str, Any], base: Path | None) -> Any:
    where = f"plugins.{protocol.name}"
    if protocol.settings_type is not None:
        return settings_from_table(protocol.settings_type, table, where, base=base)
    if table:
        raise ConfigurationError(f"{where}: this plugin has no settings; remove the table")
    return None


def _codec(specification: Specification | None, name: str) -> AttributeCodec | None:
    if specification is None or name not in specification.sets:
        return None
    return attribute_codec(specification, name)


def _not_there(registry: PluginRegistry, name: str) -> PluginError:
    for record in registry.errors:
        if record.name == name:
            return PluginError(f"the plugin {name!r} cannot be used: {record.error}")
    known = ", ".join(sorted(registry.protocols)) or "none"
    return PluginError(f"no installed plugin serves {name!r} (they serve: {known}); install hsframework-{name}")
