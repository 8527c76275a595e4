"""The key share that a client's server will take, predicted from the last time (RFC 8446 section 4.2.8).

A client that knows nothing of its server sends key shares for several groups, of which one is used: the others were
computed and sent for nothing.  The rules:

* Only the group that we like best is ever sent alone, and all groups are offered as ever, so that no handshake is
  weaker for a prediction.
* A server that has changed its mind asks for another group (HelloRetryRequest): that costs a round trip, once.
* A handshake that failed teaches nothing, and takes back what was known: the next one is tried without.
"""

from __future__ import annotations

from collections import OrderedDict

_OPENSSL_NAMES = {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1"}

Server = tuple[int | None, str | None, str | None]
"""A consumer's user, the peer's name, and its address without the port, as far as they are known.  The user, since the
size of a ClientHello would tell one whom another has met."""


class Predictions:
    """The servers that took the group ``best`` in their last handshake, of the :data:`MOST` that were met last.

    ``best`` None: there is nothing to predict, since there is one key share, or the best group has none.
    """

    MOST = 1024

    def __init__(self, best: str | None) -> None:
        self._best = None if best is None else _OPENSSL_NAMES.get(best, best).lower()
        self._known: OrderedDict[Server, None] = OrderedDict()

    def takes_best(self, server: Server | None) -> bool:
        """Return True if the server is known to take the best group.  None is no server, and never known."""
        return server in self._known

    def learn(self, server: Server | None, group: str) -> None:
        """Note the group of a handshake that has succeeded, as OpenSSL names it."""
        if server is None:
            return
        if group.lower() != self._best:
            self.forget(server)
            return
        self._known[server] = None
        self._known.move_to_end(server)
        if len(self._known) > self.MOST:
            self._known.popitem(last=False)

    def forget(self, server: Server | None) -> None:
        """Forget a server whose handshake has failed."""
        if server is not None:
            self._known.pop(server, None)
