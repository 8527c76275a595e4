"""The functions that a request carries, for its handshaker to call.

``psk_lookup`` and ``open_netlink`` are requests to the dispatcher; ``authorize`` calls the plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hsframework.agent.requests import decode_psk
from hsframework.credentials.admission import check_admitted
from hsframework.errors import HsframeworkError
from hsframework.failures import Failure, HandshakeFailed

if TYPE_CHECKING:
    import socket

    from hsframework.agent.conversation import Conversation
    from hsframework.interface import PeerIdentity, PresharedKey, Request
    from hsframework.registry.plugins import PluginRegistry


class Callbacks:
    """The functions of one request.

    ``request`` is set once the request is decoded, and None again when it has ended: the two refer to each other, and
    keys that a request holds are freed at its end, not when the garbage collector next runs.

    ``allowed``: the peer that the plugins have allowed to have its session; None: none yet.
    """

    __slots__ = ("_conversation", "_registry", "_request_id", "allowed", "request")

    def __init__(self, request_id: int, conversation: Conversation, registry: PluginRegistry) -> None:
        self.request: Request | None = None
        self._request_id = request_id
        self._conversation = conversation
        self._registry = registry
        self.allowed: PeerIdentity | None = None

    async def psk_lookup(self, identity: bytes) -> PresharedKey | None:
        """Return a server's key for an identity, None if there is none.  Raises HandshakeFailed (EIO)."""
        try:
            values = {"request-id": self._request_id, "identity": identity}
            psk = (await self._conversation.request("psk-lookup", values)).values.get("psk")
            return None if psk is None else decode_psk({"identity": identity, **psk})
        except (HsframeworkError, KeyError) as error:
            raise HandshakeFailed(Failure.INTERNAL, f"the look-up of a pre-shared key failed: {error}") from None

    async def open_netlink(self, family: int) -> socket.socket:
        """Return a netlink socket in the network namespace of the request's socket.  Raises HandshakeFailed (EIO)."""
        try:
            values = {"request-id": self._request_id, "family": family}
            handed: socket.socket = (await self._conversation.request("netlink", values)).values["socket"]
        except (HsframeworkError, KeyError) as error:
            raise HandshakeFailed(Failure.INTERNAL, f"no netlink socket beside the request's: {error}") from None
        return handed

    def authorize(self, peer: PeerIdentity) -> None:
        """Check that the request admits the peer, and ask the plugins; once for each peer.  Raises HandshakeError.

        The judge has checked the certificate that it was shown.  This holds for pre-shared keys, for a peer that has
        shown nothing, and for a protocol with a judge of its own.
        """
        if self.allowed is not None and self.allowed == peer:
            return
        if self.request is None:
            raise HandshakeFailed(Failure.CANCELLED, "the request has ended")
        trust = self.request.trust
        if trust is not None and trust.admit is not None:
            check_admitted(trust.admit, peer)
        self._registry.authorize(self.request, peer)
        self.allowed = peer
