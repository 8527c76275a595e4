"""Demands of a request that a protocol has to understand: one that it does not is refused, and never passed over."""

from __future__ import annotations

import enum


class Demand(enum.StrEnum):
    """Part of a request, or of its profile, that has no effect unless the handshaker sees to it.

    :attr:`~hsframework.interface.Protocol.understands` lists those that a handshaker keeps to.  A request with
    another is refused with EOPNOTSUPP before an agent gets it.  Proofs of identity are in
    :attr:`~hsframework.interface.Protocol.auth_modes`.  Name demands one by one: ``frozenset(Demand)`` would promise
    what a later version adds.
    """

    ALPN = "alpn"
    """:attr:`~hsframework.interface.Request.alpn` is not empty: an application protocol is to be agreed on."""
    CLIENT_CERTIFICATE = "client-certificate"
    """:attr:`~hsframework.interface.Request.client_certificate`: a server is to ask its client for a certificate."""
    PEER_NAME = "peer-name"
    """:attr:`~hsframework.interface.Request.peer_name`: the peer is to prove this name, unless any will do."""
    TLS_POLICIES = "tls-policies"
    """:attr:`~hsframework.interface.Request.tls_priorities` is not empty: the handshake is to keep to TLS policies."""
    TRUST = "trust"
    """:attr:`~hsframework.interface.Request.trust` is there: what the peer proves is to be judged by it."""
