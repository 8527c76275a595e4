"""Every exception that hsframework raises, in one tree.  Each carries the errno that a consumer is given.

::

    HsframeworkError                     errno
    ├── ConfigurationError               EINVAL   a file, a flag or a setting is wrong; says what to change
    ├── PluginError                      ENOPKG   a plugin that cannot be loaded, or that broke a rule of the interface
    │   └── RequiredPluginError          ENOPKG   one without which the configuration lets nothing be served
    ├── MessageError                     EBADMSG  a message that its specification does not allow
    ├── RequestRefused                   (any)    the service did not take a request: nobody listens, busy, not allowed
    └── HandshakeError                   (any)    a handshake that was begun and did not succeed
        ├── HandshakeFailed              (table)  one of the documented ways to fail, see failures.py
        └── StreamError                  (any)    a session that was established and broke afterwards

What the peer broke and what we broke are told apart by the failure's ``Failure`` member, not by the class.
An exception text never contains a secret: key material travels in :class:`hsframework.interface.Secret`.
"""

from __future__ import annotations

import errno as _errno
import os


class HsframeworkError(Exception):
    """The root of the tree.

    ``errno`` is a positive errno from 1 to 4095, the range that the kernel's DONE takes.
    """

    default_errno: int = _errno.EIO

    def __init__(self, message: str, *, errno: int | None = None) -> None:
        super().__init__(message)
        number = self.default_errno if errno is None else errno
        if not 1 <= number <= 4095:
            raise ValueError(f"errno {number} is outside 1 to 4095")
        self.errno = number

    @property
    def errno_name(self) -> str:
        """The symbolic name, for example ``ETIMEDOUT``."""
        return errno_name(self.errno)


class ConfigurationError(HsframeworkError):
    """A file, a flag or a setting is wrong.  The message says where and what to change."""

    default_errno = _errno.EINVAL


class PluginError(HsframeworkError):
    """A plugin cannot be loaded, or it broke a rule of the interface."""

    default_errno = _errno.ENOPKG


class RequiredPluginError(PluginError):
    """A plugin is not in use without which the configuration lets nothing be served."""


class MessageError(HsframeworkError):
    """A message is not what its specification allows: truncated, unknown attribute, wrong length, nested too deep."""

    default_errno = _errno.EBADMSG


class RequestRefused(HsframeworkError):
    """The service did not take the request; no handshake was begun and the socket is as it was.

    ``ESRCH`` no agent listens in the group; ``EAGAIN`` too many requests are pending; ``EBUSY`` the socket is in a
    handshake already; ``EACCES`` policy does not allow it; ``EINVAL`` the request makes no sense.
    """


class HandshakeError(HsframeworkError):
    """A handshake that was begun did not succeed.  Plugins raise it (or a subclass) with the errno of their choice."""


class StreamError(HandshakeError):
    """A session that was established broke afterwards, or its consumer used it in a way that it does not allow."""


# Of two names for a number Python keeps one; these are the kernel's own.
_NAMES = {**_errno.errorcode, _errno.EOPNOTSUPP: "EOPNOTSUPP"}


def errno_name(number: int) -> str:
    """``110`` → ``"ETIMEDOUT"``; a number without a name gives its decimal form."""
    return _NAMES.get(number, str(number))


def describe_errno(number: int) -> str:
    """``110`` → ``"ETIMEDOUT (Connection timed out)"``."""
    return f"{errno_name(number)} ({os.strerror(number)})"
