"""The link to the dispatcher, as both clients have it: its path, its errors, the ``result`` and the ``cancel``."""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hsframework.configuration.runtime_dir import configured_runtime_dir
from hsframework.errors import (
    ClientError,
    ClientHandshakeError,
    ClientRequestRefused,
    ClientTimeout,
    ConfigurationError,
    HsframeworkError,
    MessageError,
    describe_errno,
)
from hsframework.local.channel import LOCAL_MESSAGE_TYPE
from hsframework.local.places import PATH_LIMIT, consumer_socket, environment_runtime_dir
from hsframework.local.trusted import check_listener, check_path, trusted_users
from hsframework.netlink.messages import Message, MessageCodec
from hsframework.netlink.spec import builtin_specification

User = str | int | None
"""Name or number of a dispatcher's user that is neither root nor the own one; None: what the environment names."""

_TIMEVAL = struct.Struct("@ll")
_LEAST_WAIT = 0.001
"""Seconds; none at all would be a wait without end to SO_SNDTIMEO."""

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

    Raises ConfigurationError for a path too long for a unix socket, ClientError (EPERM) for one that another user
    than root, the own one and the dispatcher's may have made.
    """
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise ConfigurationError(
            f"{path}: too long for a unix socket ({PATH_LIMIT} bytes); use a shorter runtime directory"
        )
    with _distrust():
        check_path(path, trusted_users(dispatcher_user))
    return socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def connect(sock: socket.socket, path: Path, timeout: float, dispatcher_user: User = None) -> None:
    """Connect to the dispatcher, and give the socket this timeout in seconds.

    Raises ClientError; EPERM where another user listens, ETIMEDOUT where the queue of connections stays full.
    """
    end = time.monotonic() + timeout
    # No timeout of Python's: with one connect(2) fails at once while the queue is full, and without it waits its turn.
    sock.settimeout(None)
    try:
        while True:
            remaining = max(end - time.monotonic(), _LEAST_WAIT)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(*divmod(int(remaining * 1e6), 10**6)))
            sock.connect(str(path))
            if _is_connected(sock):
                break
    except BlockingIOError:
        raise no_connection(path) from None
    except OSError as error:
        raise connect_error(path, error) from None
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(0, 0))
    sock.settimeout(timeout)
    check_dispatcher(sock, path, dispatcher_user)


def _is_connected(sock: socket.socket) -> bool:
    """Return False after a wait that a signal has ended, which Python takes for a connection."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def no_connection(path: Path) -> ClientError:
    """Return the error for a dispatcher whose queue of connections has stayed full."""
    return ClientError(f"{path}: the dispatcher takes no connections; is it hung?", errno=errno.ETIMEDOUT)


def check_dispatcher(sock: socket.socket, path: Path, dispatcher_user: User) -> None:
    """Check who listens, on a connected socket.  Raises ClientError (EPERM) for another user."""
    with _distrust():
        check_listener(sock, path, trusted_users(dispatcher_user))


@contextlib.contextmanager
def _distrust() -> Iterator[None]:
    """Raise what a check of trust raises as ClientError; a wrong configuration stays one."""
    try:
        yield
    except ConfigurationError:
        raise
    except HsframeworkError as error:
        raise ClientError(str(error), errno=error.errno) from None


def connect_error(path: Path, error: OSError) -> ClientError:
    """Return the error for a consumer that could not connect to the dispatcher."""
    if isinstance(error, (FileNotFoundError, ConnectionRefusedError, NotADirectoryError)):
        return ClientError(
            f"no dispatcher listens at {path}: start one with 'hsframework run', or name the runtime directory of one "
            "that runs",
            errno=errno.ECONNREFUSED,
        )
    if isinstance(error, PermissionError):
        return ClientError(
            f"{path}: user {_user()} may not use this dispatcher: ask its administrator for an [[allow]] rule that "
            "names the user",
            errno=errno.EACCES,
        )
    return ClientError(
        f"{path}: cannot connect to the dispatcher: {error.strerror or error}", errno=error.errno or errno.EIO
    )


def link_lost(error: Exception | None) -> ClientError:
    """Return the error for pending requests when the dispatcher closed the link or sent an invalid message."""
    if isinstance(error, MessageError):
        return ClientError(f"the dispatcher broke the protocol: {error}", errno=errno.EPROTO)
    return ClientError(
        "the dispatcher closed the connection; the outcome of the handshake is not known", errno=errno.ECONNRESET
    )


def client_closed() -> ClientError:
    """Return the error for pending requests when the consumer itself closed the client."""
    return ClientError("the client was closed; the outcome of the handshake is not known", errno=errno.ECONNRESET)


def not_taken(seconds: float) -> ClientRequestRefused:
    """Return the error for a request that the dispatcher has not taken, for ``seconds``."""
    return ClientRequestRefused(
        f"the dispatcher has taken no request for {seconds:.1f} s: too many links are open; run fewer handshakes at "
        "once, close clients that are idle, or raise limits.connections-per-user",
        errno=errno.EAGAIN,
    )


def socket_closed() -> ClientRequestRefused:
    """Return the error for a socket that its owner has closed."""
    return ClientRequestRefused("the socket is closed; hand over one that is connected", errno=errno.EBADF)


def cannot_send(error: OSError) -> ClientError:
    """Return the error for a request whose socket cannot be attached to a message."""
    return ClientError(
        f"the request cannot be sent: {error.strerror}; close some files or raise their limit (ulimit -n)",
        errno=error.errno or errno.EIO,
    )


def encode_cancel(sequence: int, reason: int = errno.ECANCELED) -> bytes:
    """Encode a ``cancel`` message for the request that was submitted under ``sequence``."""
    return codec().encode("cancel", {"request-id": sequence, "reason": reason})


def outcome(message: Message, group: str) -> Mapping[str, Any]:
    """Return the values of a ``result`` with status 0.

    Raises RequestRefused, or HandshakeError (ClientTimeout for ETIMEDOUT), for all others.
    """
    if message.error is not None:
        text = message.values.get("message") or _hint(message.error, group)
        raise ClientRequestRefused(text, errno=_errno(message.error))
    values = message.values
    status = values.get("status")
    if status is None:
        raise ClientHandshakeError("the dispatcher sent a result without a status", errno=errno.EPROTO)
    if status:
        number = _errno(status)
        kind = ClientTimeout if number == errno.ETIMEDOUT else ClientHandshakeError
        raise kind(values.get("message") or f"the handshake failed: {describe_errno(number)}", errno=number)
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
