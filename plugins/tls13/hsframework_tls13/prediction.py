"""The key share that a client's server will take, predicted from the last time (RFC 8446 section 4.2.8).

A client that knows nothing of its server sends key shares for several groups, of which one is used: the others were
computed and sent for nothing.  The rules:

* Only the group that we like best is ever sent alone, and all groups are offered as ever, so that no handshake is
  weaker for a prediction.
* A server that has changed its mind asks for another group (HelloRetryRequest): that costs a round trip, once.
* A handshake that failed teaches nothing, and takes back what was known: the next one is tried without.
* What is known is known of one list of groups: a request whose TLS policy offers others is predicted by itself.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hsframework_tls13.policy import Choices

_OPENSSL_NAMES = {"P-256": "secp256r1", "P-384": "secp384r1", "P-521": "secp521r1"}

Server = tuple[int | None, str | None, str | None]
"""A consumer's user, the peer's name, and its address without the port, as far as they are known.  The user, since the
size of a ClientHello would tell one whom another has met."""


class Predictions:
    """The servers that took the best group in their last handshake, of the :data:`MOST` that were met last.

    Where the choices have no ``best_group``, there is nothing to predict.  A server that is None is never known.
    """

    MOST = 1024

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Server, tuple[str, ...]], None] = OrderedDict()

    def takes_best(self, server: Server | None, choices: Choices) -> bool:
        """Return True if the server is known to take the best group of these choices."""
        return server is not None and (server, choices.groups) in self._known and choices.best_group is not None

    def learn(self, server: Server | None, choices: Choices, group: str) -> None:
        """Note the group of a handshake that has succeeded, as OpenSSL names it."""
        best = choices.best_group
        if server is None or best is None:
            return
        if group.lower() != _OPENSSL_NAMES.get(best, best).lower():
            self.forget(server, choices)
            return
        key = server, choices.groups
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > self.MOST:
            self._known.popitem(last=False)

    def forget(self, server: Server | None, choices: Choices) -> None:
        """Forget a server whose handshake has failed."""
        if server is not None:
            self._known.pop((server, choices.groups), None)
