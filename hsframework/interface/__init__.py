"""The interface for plugins: the protocol, the request, the endpoint and the result.

A plugin package registers one or more :class:`Protocol` objects through the hook ``hsframework_protocols``
(:mod:`hsframework.hookspecs`).  The keeper calls :meth:`Protocol.prepare` once; the :class:`Handshaker` that it
returns then serves every request of the protocol's groups::

    READY → the agent pulls a request → await handshaker.handshake(request, endpoint) → Result, or HandshakeError

The rules for a handshaker:

* The coroutine runs one handshake.  Many run at once on one event loop, so it never blocks.
* It reads through the endpoint alone and takes no byte that belongs to the consumer: bytes behind the last handshake
  message stay in the socket.
* It ends by its deadline.  The agent cancels it then, and the consumer gets ``ETIMEDOUT``.
* It returns a :class:`Result` or raises :class:`hsframework.errors.HandshakeError`.  An exception that is not of
  :mod:`hsframework.errors` is logged with the plugin's name and reaches the consumer as ``EIO``.
* Key material stays inside :class:`Secret` until the moment of use.

The agent owns the fd: a handshaker never closes ``endpoint.socket`` and keeps no reference to it.
"""

from hsframework.interface.credentials import ClientUsage, CrlCheck, Identity, PresharedKey, Secret, Trust
from hsframework.interface.demands import Demand
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
from hsframework.interface.specification import Attribute, AttributeSet, Operation, Specification
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
    "Demand",
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
    "ClientUsage",
    "CrlCheck",
    "Trust",
    "Endpoint",
    "Result",
    "PeerIdentity",
    "Specification",
    "AttributeSet",
    "Attribute",
    "Operation",
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
"""The version of the interface.  It rises when a name is taken away or changes its meaning; additions leave it."""

OLDEST_INTERFACE_VERSION = 1
"""The oldest version that is served: plugins written for it, or for a later one up to ``INTERFACE_VERSION``."""
