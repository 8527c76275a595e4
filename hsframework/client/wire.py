"""The link to the dispatcher, as both clients have it: its path, its errors, the ``result`` and the ``cancel``."""

from __future__ import annotations

import errno
import getpass
import os
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hsframework.configuration.runtime_dir import configured_runtime_dir
from hsframework.errors import (
    ConfigurationError,
    HandshakeError,
    HsframeworkError,
    MessageError,
    RequestRefused,
    describe_errno,
)
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.places import PATH_LIMIT, consumer_socket, environment_runtime_dir
from hsframework.local.trusted import check_listener, check_path, trusted_users
from hsframework.netlink.messages import Message, MessageCodec
from hsframework.netlink.spec import builtin_specification

User = str | int | None
"""Name or number of a dispatcher's user that is neither root nor the own one; None: what the environment names."""

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


def dispatcher_path(runtime_dir: Path | str | None) -> Path:
    """Return the path of the dispatcher's socket for consumers.

    ``runtime_dir``: its runtime directory, or the path of its socket; None: what the environment names, else the
    default configuration file, else the usual places.
    """
    if runtime_dir is None and environment_runtime_dir() is None:
        runtime_dir = configured_runtime_dir()
    return consumer_socket(runtime_dir)


def open_socket(path: Path, dispatcher_user: User = None) -> socket.socket:
    """Return an unconnected socket for ``path``.

    Raises ConfigurationError for a path too long for a unix socket, HsframeworkError (EPERM) for one that another user
    than root, the own one and the dispatcher's may have made.
    """
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise ConfigurationError(
            f"{path}: too long for a unix socket ({PATH_LIMIT} bytes); use a shorter runtime directory"
        )
    check_path(path, trusted_users(dispatcher_user))
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def connect(sock: socket.socket, path: Path, dispatcher_user: User = None) -> None:
    """Connect to the dispatcher.  Raises OSError, HsframeworkError (EPERM) where another user listens."""
    sock.connect(str(path))
    check_listener(sock, path, trusted_users(dispatcher_user))


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


def socket_closed() -> RequestRefused:
    """Return the error for a socket that its owner has closed."""
    return RequestRefused("the socket is closed; hand over one that is connected", errno=errno.EBADF)


def cannot_send(error: OSError) -> HsframeworkError:
    """Return the error for a request whose socket cannot be attached to a message."""
    return HsframeworkError(
        f"the request cannot be sent: {error.strerror}; close some files or raise their limit (ulimit -n)",
        errno=error.errno or errno.EIO,
    )


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
