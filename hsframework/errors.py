"""The tree of exceptions that leave public functions.  Each carries the errno that a consumer is given.

::

    HsframeworkError               errno
    ├── ConfigurationError         EINVAL      a file, a flag or a setting is wrong; says what to change
    ├── PluginError                ENOPKG      a plugin that cannot be loaded, or that broke a rule of the interface
    │   └── RequiredPluginError    ENOPKG      a plugin is missing, and the configuration serves nothing without it
    ├── MessageError               EBADMSG     a message that its specification does not allow
    ├── NetlinkError               (any)       the kernel refused a netlink request (netlink/socket.py)
    │   └── NoPsp                  (any)       the kernel has no PSP (psp)
    ├── RequestRefused             (any)       the service did not take a request: nobody listens, busy, not allowed
    │   └── ClientRequestRefused   (any) *     the same, as the client raises it
    ├── ClientError                (any) *     the client cannot do its part; base of all that it raises
    ├── LifecycleError             EIO         a fault of the dispatcher (dispatcher/sources/kernel/states.py)
    ├── ServiceLost                (any)       the kernel no longer offers it (dispatcher/sources/kernel/sockets.py)
    ├── Lost                       (any)       the link to the dispatcher broke while an answer was awaited (agent)
    ├── Unsettled                  EIO         files changed while they were read (dispatcher/terms.py)
    ├── DemoError                  EIO         the demonstration could not be run (cli/demo/processes.py)
    ├── HandshakeError             (any)       a handshake that was begun did not succeed
    │   ├── ClientHandshakeError   (any) *     the same, as the client raises it
    │   │   └── ClientTimeout      ETIMEDOUT * it did not end in time; a TimeoutError too
    │   └── HandshakeFailed        (table)     one of the documented ways to fail (failures.py)
    │       ├── DeviceRefused      EOPNOTSUPP  no PSP device takes the connection (psp)
    │       └── Violation          EPROTO      the peer broke a rule of QUIC and none of TLS (quic)
    └── StreamError                (any) *     an established session broke, or was used in a way that it does not allow
        ├── SessionBroken          (table)     a session of TLS 1.3 or PSP cannot go on (tls13)
        │   └── SessionTruncated   ECONNRESET  it ended without close_notify (tls13)
        ├── PacketRefused          EIO         a PSP packet is malformed or does not authenticate (psp)
        ├── ConnectionEnded        (any)       a QUIC connection is over (quic)
        ├── Undelivered            (any)       a QUIC connection was closed with data under way (quic)
        └── StreamAborted          (any)       the peer gave up one stream of a QUIC connection (quic)

``*``: an OSError too, as everything below it: programs and libraries that use sockets expect no other errors of them.
What the service and its plugins raise among themselves is none, so that a handler of OSError never takes a verdict on a
peer for a lost connection.

``(any)``: chosen where it is raised; ``(table)``: the failure's, see :class:`hsframework.failures.Failure`, whose
``blame`` tells a fault of the peer's from one of ours, of the configuration and of the network.

Outside the tree are those that end a test: LoopBlocked, ConformanceFailure and CheckBroke of hsframework.testing.
An exception's text never contains a secret: key material travels in :class:`hsframework.interface.Secret`.
"""

from __future__ import annotations

import errno as _errno
import os
from typing import Any


class HsframeworkError(Exception):
    """The root of the tree."""

    default_errno: int = _errno.EIO
    """The errno of the class, for errors that are raised without one."""

    errno: int
    """A positive errno from 1 to 4095, the range that the kernel's DONE takes."""
    strerror: str
    """The text, as of an OSError."""

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        number = self.default_errno if errno is None else errno
        if not 1 <= number <= 4095:
            raise ValueError(f"errno {number} is outside 1 to 4095")
        self.errno = number
        self.strerror = message

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.args, self.errno, self.strerror, vars(self))

    @property
    def errno_name(self) -> str:
        """Return the symbolic name of the errno, for example ``ETIMEDOUT``."""
        return errno_name(self.errno)


def _again(
    kind: type[HsframeworkError], arguments: tuple[Any, ...], number: int, text: str, values: dict[str, Any]
) -> HsframeworkError:
    """Return a copied or unpickled error, without its constructor: the classes take different arguments."""
    error = kind.__new__(kind, *arguments)
    error.args, error.errno, error.strerror = arguments, number, text
    vars(error).update(values)
    return error


class ConfigurationError(HsframeworkError):
    """A mistake in a file, a flag or a setting.  The message says where it is and what to change."""

    default_errno = _errno.EINVAL


class PluginError(HsframeworkError):
    """A plugin that cannot be loaded, or that broke a rule of the interface."""

    default_errno = _errno.ENOPKG


class RequiredPluginError(PluginError):
    """A missing plugin without which the configuration serves nothing (``required-plugins``)."""


class MessageError(HsframeworkError):
    """A message that its specification does not allow: truncated, unknown attribute, wrong length, nested too deep."""

    default_errno = _errno.EBADMSG


class ClientError(HsframeworkError, OSError):  # type: ignore[misc]  # errno is an int here
    """A client that cannot do its part, and the base of everything that the client raises.

    ``ECONNREFUSED`` no dispatcher listens; ``EACCES`` this user may not use it; ``ETIMEDOUT`` it does not answer;
    ``ECONNRESET`` it closed the link; ``EPROTO`` it broke the protocol; ``EBADF`` the client or the listener is closed;
    others for an address that cannot be used.
    """


class RequestRefused(HsframeworkError):
    """A request that the service did not take; no handshake was begun and the socket is as it was.

    ``ESRCH`` no agent listens in the group; ``EAGAIN`` too many requests are pending; ``EBUSY`` the socket is in a
    handshake already; ``EACCES`` policy does not allow it; ``EINVAL`` the request makes no sense.
    """


class ClientRequestRefused(RequestRefused, ClientError):  # type: ignore[misc]  # errno is an int here
    """A RequestRefused as the client raises it."""


class HandshakeError(HsframeworkError):
    """A handshake that was begun and did not succeed.

    Plugins raise it, or a subclass, with the errno of their choice.
    """


class ClientHandshakeError(HandshakeError, ClientError):  # type: ignore[misc]  # errno is an int here
    """A HandshakeError as the client raises it."""


class ClientTimeout(ClientHandshakeError, TimeoutError):  # type: ignore[misc]  # errno is an int here
    """A handshake that did not end in time, as the client raises it."""

    default_errno = _errno.ETIMEDOUT


class StreamError(HsframeworkError, OSError):  # type: ignore[misc]  # errno is an int here
    """A session that was established and broke afterwards, or that its consumer used in a way that it does not allow.

    It is no HandshakeError: a program that catches failed handshakes does not catch the end of a session with them.
    """


# Of two names for a number Python keeps one; these are the kernel's own.
_NAMES = {**_errno.errorcode, _errno.EOPNOTSUPP: "EOPNOTSUPP"}


def errno_name(number: int) -> str:
    """Return the symbolic name: ``110`` → ``"ETIMEDOUT"``; a number without a name gives its decimal form."""
    return _NAMES.get(number, str(number))


def describe_errno(number: int) -> str:
    """Return name and meaning: ``110`` → ``"ETIMEDOUT (Connection timed out)"``."""
    return f"{errno_name(number)} ({os.strerror(number)})"


SHORTAGES = frozenset({_errno.ENOMEM, _errno.ENOBUFS, _errno.ENFILE})
"""Errnos of a shortage: the kernel had no memory for a call, and a later attempt may succeed.

socket(2) and accept(2) report ENFILE also where memory is short.  A shortage ends what the call was for, and nothing
that others wait for: a message that must arrive is kept and sent again.
"""

SHORTAGE_PAUSE = 0.02
"""Seconds until a call that met a shortage is tried again."""


def is_shortage(error: BaseException) -> bool:
    """Return True if an OSError, or another error with an ``errno``, is a shortage."""
    return getattr(error, "errno", None) in SHORTAGES
