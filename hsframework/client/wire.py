"""Messages and errors that both clients share: the dispatcher's socket, the ``submit`` and the ``result``."""

from __future__ import annotations

import errno
import getpass
import os
import socket
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsframework.client.request import HandshakeOptions
from hsframework.errors import (
    ConfigurationError,
    HandshakeError,
    HsframeworkError,
    MessageError,
    PluginError,
    RequestRefused,
    describe_errno,
)
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.packets import MAX_PACKET
from hsframework.local.places import PATH_LIMIT
from hsframework.netlink.attributes import attribute_codec
from hsframework.netlink.messages import Message, MessageCodec
from hsframework.netlink.spec import builtin_specification

if TYPE_CHECKING:
    from hsframework.registry.plugins import Registry

_SEQUENCE = struct.Struct("=I")
_SEQUENCE_OFFSET = 8

_HINTS: Mapping[int, str] = {
    errno.ESRCH: "no agent serves the group {group!r}; start one, for example with 'hsframework run'",
    errno.EAGAIN: "too many requests are pending; try again later",
    errno.EBUSY: "a handshake is under way on this socket",
    errno.EACCES: "the service's policy does not allow it; ask its administrator for an [[allow]] rule",
    errno.EINVAL: "the service cannot make sense of the request",
}


@cache
def codec() -> MessageCodec:
    """Return the codec of the local family, for a consumer's side."""
    return MessageCodec(builtin_specification("local"), message_type=LOCAL_MESSAGE_TYPE, receives=("reply", "event"))


def open_socket(path: Path) -> socket.socket:
    """Return an unconnected socket for ``path``.  Raises ConfigurationError for a path too long for a unix socket."""
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise ConfigurationError(
            f"{path}: too long for a unix socket ({PATH_LIMIT} bytes); use a shorter runtime directory"
        )
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def connect_error(path: Path, error: OSError) -> HsframeworkError:
    """Return the error for a consumer that could not connect to the dispatcher."""
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
        return HsframeworkError(
            f"no dispatcher listens at {path}: start one with 'hsframework run', or name the runtime directory of one "
            "that runs",
            errno=errno.ECONNREFUSED,
        )
    if isinstance(error, PermissionError):
        return HsframeworkError(
            f"{path}: user {_user()} may not use this dispatcher: ask its administrator for an [[allow]] rule that "
            "names the user",
            errno=errno.EACCES,
        )
    return HsframeworkError(
        f"{path}: cannot connect to the dispatcher: {error.strerror or error}", errno=error.errno or errno.EIO
    )


def link_lost(error: Exception | None) -> HsframeworkError:
    """Return the error for pending requests when the dispatcher closed the link or sent an invalid message."""
    if isinstance(error, MessageError):
        return HsframeworkError(f"the dispatcher broke the protocol: {error}", errno=errno.EPROTO)
    return HsframeworkError(
        "the dispatcher closed the connection; the outcome of the handshake is not known", errno=errno.ECONNRESET
    )


def encode_submit(options: HandshakeOptions, registry: Registry | None) -> bytes:
    """Encode a ``submit`` message without its sequence number; :func:`numbered` fills it in.

    Raises RequestRefused (EMSGSIZE) if it does not fit into one packet, ConfigurationError for attributes that the
    protocol's specification does not allow, PluginError if no installed plugin has that specification.
    """
    attributes = options.attributes
    if not isinstance(attributes, bytes):
        attributes = _encode_attributes(options.group, attributes, registry) if attributes else b""
    try:
        data = codec().encode("submit", options.submit_values(attributes))
    except MessageError as error:
        raise RequestRefused(f"the request cannot be sent: {error}", errno=errno.EMSGSIZE) from None
    if len(data) > MAX_PACKET:
        raise RequestRefused(
            f"the request has {len(data)} bytes and {MAX_PACKET} fit into one: bring fewer trust anchors and "
            "certificates, or name a profile that has them",
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

    def encode(self, options: HandshakeOptions) -> bytes:
        """Return what :func:`encode_submit` returns.  Raises the same errors."""
        known = self._encoded.get(id(options))
        if known is not None:
            return known[1]
        data = encode_submit(options, self._registry)
        if not (options.identities or options.psks or options.attributes):
            if len(self._encoded) >= self.MOST:
                del self._encoded[next(iter(self._encoded))]
            self._encoded[id(options)] = options, data
        return data


def socket_fd(sock: socket.socket) -> int:
    """Return the fd of the socket to submit.  Raises RequestRefused (EBADF) for a socket that its owner has closed."""
    fd = sock.fileno()
    if fd < 0:
        raise RequestRefused("the socket is closed; hand over one that is connected", errno=errno.EBADF)
    return fd


def numbered(data: bytes, sequence: int) -> bytes:
    """Return ``data`` with its sequence number replaced."""
    end = _SEQUENCE_OFFSET + _SEQUENCE.size
    return data[:_SEQUENCE_OFFSET] + _SEQUENCE.pack(sequence) + data[end:]


def encode_cancel(sequence: int, reason: int = errno.ECANCELED) -> bytes:
    """Encode a ``cancel`` message for the request that was submitted under ``sequence``."""
    return codec().encode("cancel", {"request-id": sequence, "reason": reason})


def outcome(message: Message, group: str) -> Mapping[str, Any]:
    """Return the values of a ``result`` with status 0.  Raises RequestRefused or HandshakeError for all others."""
    if message.error is not None:
        text = message.values.get("message") or _hint(message.error, group)
        raise RequestRefused(text, errno=_errno(message.error))
    values = message.values
    status = values.get("status")
    if status is None:
        raise HandshakeError("the dispatcher sent a result without a status", errno=errno.EPROTO)
    if status:
        number = _errno(status)
        raise HandshakeError(values.get("message") or f"the handshake failed: {describe_errno(number)}", errno=number)
    return values


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


def _hint(number: int, group: str) -> str:
    hint = _HINTS.get(number)
    return hint.format(group=group) if hint else f"the service refused the request: {describe_errno(number)}"


def _errno(number: int) -> int:
    return number if 1 <= number <= 4095 else errno.EIO


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return str(os.geteuid())
