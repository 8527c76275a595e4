"""aioquic's TLS 1.3 with our verification, both roles.  Sans-IO.

aioquic has the key schedule, the messages and the state machine.  Ours are, with the reasons:

* **The peer's certificate.**  aioquic judges a server's by its dates, name and path alone (no EKU, no CRL, no key
  sizes), and a client's not at all.  Here :attr:`.tls_options.TlsOptions.verify` judges either, and a client
  never goes on without.
* **Signatures** (:mod:`hsframework.tls.signatures`).  aioquic takes any curve for an ECDSA scheme, offers SHA-1, and
  does not know P-521, rsa_pss_pss and ML-DSA.
* **Strict messages** (:mod:`hsframework.tls.messages`).  aioquic accepts extensions that are there twice, that were
  not offered, or that belong elsewhere, and lengths that disagree.
* **The encryption level of a message.**  aioquic's engine is not told, and would take EncryptedExtensions out of an
  Initial packet.  Whoever feeds it sets :attr:`VerifiedContext.level` before (RFC 9001 section 4.1.3), and no
  data may wait when the level changes.
* **Bounds.**  A message is refused by its header if it has no business in this state or is larger than it can be;
  aioquic would collect up to 16 MiB.
* **HelloRetryRequest.**  aioquic knows none.  A server here asks for another key share where client and server have a
  group in common and the client has sent no share of it; a client sends a share of every group that it offers.
* **0-RTT** is neither sent nor accepted: a client that offers it gets a full handshake.
* **Tickets.**  A resumed session's certificates are judged again.  Tickets and Finished are compared in constant time.
* **Errors.**  ``handle_message`` raises :class:`Refused` (an aioquic alert, whose text tells the peer nothing but the
  kind of failure) or aioquic's QuicConnectionError; ``failure`` then has what the consumer is told.  A context that
  has failed stays failed.
"""

from __future__ import annotations

from hsframework_quic.aioquic_adapter.tls_client import MAX_TICKETS, ClientSide
from hsframework_quic.aioquic_adapter.tls_engine import Agreed
from hsframework_quic.aioquic_adapter.tls_errors import Refused
from hsframework_quic.aioquic_adapter.tls_server import ServerSide

__all__ = ["MAX_TICKETS", "Agreed", "Refused", "VerifiedContext"]


class VerifiedContext(ClientSide, ServerSide):
    """A TLS handshake, in the role of its options: aioquic has both roles in one class.

    Set ``level``, then ``handle_message``.  ``failure``: why it failed; ``agreed``: how it ended.
    """
