"""The ``submit`` message: encoded from a consumer's options, and remembered for the next request with the same."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hsframework.client.request import HandshakeOptions
from hsframework.client.wire import codec
from hsframework.errors import ClientRequestRefused, ConfigurationError, MessageError, PluginError
from hsframework.local.packets import MAX_PACKET
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import with_sequence

if TYPE_CHECKING:
    from hsframework.registry.plugins import Registry


def encode_submit(options: HandshakeOptions, registry: Registry | None) -> bytes:
    """Encode a ``submit`` message, with the sequence number 0.

    Raises RequestRefused (EMSGSIZE) if it does not fit into one packet, ConfigurationError for attributes that the
    protocol's specification does not allow, PluginError if no installed plugin has that specification.
    """
    attributes = options.attributes
    if not isinstance(attributes, bytes):
        attributes = _encode_attributes(options.group, attributes, registry) if attributes else b""
    try:
        data = codec().encode("submit", options.submit_values(attributes))
    except MessageError as error:
        raise ClientRequestRefused(f"the request cannot be sent: {error}", errno=errno.EMSGSIZE) from None
    if len(data) > MAX_PACKET:
        raise ClientRequestRefused(
            f"the request has {len(data)} bytes and {MAX_PACKET} fit into one: bring fewer certificates and keys, or "
            "name a profile that has them",
            errno=errno.EMSGSIZE,
        )
    return data


class Submits:
    """A cache of encoded ``submit`` messages by their options.  Options with secrets are not cached."""

    MOST = 16
    """Messages that are kept; the oldest goes first."""

    def __init__(self, registry: Registry | None) -> None:
        self._registry = registry
        # By id() of the options, which is not reused while they are kept beside it.
        self._encoded: dict[int, tuple[HandshakeOptions, bytes]] = {}

    def encode(self, options: HandshakeOptions, sequence: int) -> bytes:
        """Return the ``submit`` with this sequence number.  Raises the errors of :func:`encode_submit`."""
        known = self._encoded.get(id(options))
        if known is not None:
            return with_sequence(known[1], sequence)
        data = encode_submit(options, self._registry)
        if not (options.identities or options.psks or options.attributes):
            if len(self._encoded) >= self.MOST:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[id(options)] = options, data
        return with_sequence(data, sequence)


def _encode_attributes(group: str, attributes: Mapping[str, Any], registry: Registry | None) -> bytes:
    from hsframework.client.session import installed_plugins

    for entry in (registry or installed_plugins()).protocols.values():
        specification = entry.protocol.specification
        if group in entry.protocol.groups and specification is not None and "request" in specification.sets:
            try:
                return attribute_codec(specification, "request").encode(attributes)
            except MessageError as error:
                raise ConfigurationError(f"attributes: {error}") from None
    raise PluginError(
        f"no plugin that is installed here describes the attributes of group {group!r}: install it, or "
        "leave attributes out"
    )
