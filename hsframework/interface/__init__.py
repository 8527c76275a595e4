"""What a plugin author reads first: the protocol, the request, the endpoint and the result.

A plugin package registers one or more :class:`Protocol` objects through the hook ``hsframework_protocols``
(:mod:`hsframework.hookspecs`).  The agent process calls :meth:`Protocol.prepare` once, and from then on the
:class:`Handshaker` that it returned serves every request of the protocol's group::

    READY → the agent pulls a request → await handshaker.handshake(request, endpoint) → Result, or HandshakeError

The rules for a handshaker:

* The coroutine is one handshake.  Many run at once on one event loop, so it never blocks.
* It reads through the endpoint alone and takes no byte that belongs to the consumer: what follows the last handshake
  message on the wire stays in the socket.
* It ends by its deadline.  The host cancels it there, and tells the consumer ``ETIMEDOUT``.
* It returns a :class:`Result` or raises :class:`hsframework.errors.HandshakeError`.  Anything else that it raises is
  logged with the plugin's name and reaches the consumer as ``EIO``.
* Key material stays inside :class:`Secret` until the moment of use.

The fd stays the host's: a handshaker never closes ``endpoint.socket`` and keeps no reference to it.
"""

from hsframework.interface.credentials import Identity, PresharedKey, Secret, Trust
from hsframework.interface.endpoint import Endpoint
from hsframework.interface.gate import AddressValidation, Admission, Gate
from hsframework.interface.protocol import Handshaker, Protocol
from hsframework.interface.request import (
    AuthMode,
    Authorize,
    CertificateDemand,
    OpenNetlink,
    PskLookup,
    Request,
    Role,
    anybody,
    no_netlink,
    no_psk,
)
from hsframework.interface.result import PeerIdentity, Result
from hsframework.interface.streams import (
    AsyncConnection,
    AsyncConnectionStream,
    AsyncStream,
    Connection,
    ConnectionStream,
    EstablishedSession,
    Stream,
)

# The order of the reference.
__all__ = [  # noqa: RUF022
    "INTERFACE_VERSION",
    "OLDEST_INTERFACE_VERSION",
    "Protocol",
    "Handshaker",
    "Request",
    "Role",
    "AuthMode",
    "CertificateDemand",
    "PskLookup",
    "no_psk",
    "OpenNetlink",
    "no_netlink",
    "Authorize",
    "anybody",
    "Secret",
    "Identity",
    "PresharedKey",
    "Trust",
    "Endpoint",
    "Result",
    "PeerIdentity",
    "AddressValidation",
    "Gate",
    "Admission",
    "EstablishedSession",
    "Stream",
    "AsyncStream",
    "Connection",
    "AsyncConnection",
    "ConnectionStream",
    "AsyncConnectionStream",
]

INTERFACE_VERSION = 1
"""Raised when something of the interface is taken away or changes its meaning; what is added does not raise it."""

OLDEST_INTERFACE_VERSION = 1
"""Plugins that were written for this version, or a later one up to ``INTERFACE_VERSION``, are served."""
