"""The options of a TLS handshake (:class:`TlsOptions`), and the session that it leaves (:class:`Resumable`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from aioquic.tls import SessionTicket

from hsframework.credentials.judgement import Verify, no_trust
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Authorize, CertificateDemand, Identity, Role, anybody
from hsframework.tls import signatures
from hsframework_quic.algorithms import ALL_SUITES

SIGNATURE_SCHEMES = (*signatures.SCHEMES, *signatures.CERTIFICATE_ONLY)


@dataclass(frozen=True, slots=True)
class Resumable:
    """A session that can be resumed.

    ``chain``: what the peer had shown, DER, as it was sent; it is judged again, by the rules of then, before the
    session is resumed.  Empty: a server's client that had shown none.  ``version``: of QUIC, as on the wire; 0: whoever
    keeps the session sees to that.
    """

    ticket: SessionTicket = field(repr=False)
    chain: tuple[bytes, ...]
    version: int = 0


def issue_none(session: Resumable) -> bytes | None:
    """Return None: no ticket is issued."""
    return None


def find_none(ticket: bytes) -> Resumable | None:
    """Return None: no ticket is known."""
    return None


def keep_none(session: Resumable) -> None:
    """Drop the ticket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsOptions:
    """The options of one handshake; the engine opens no file and uses nothing else.

    ``verify`` judges the peer's certificates and ``authorize`` the peer, both before our last word: a client's
    Finished, a server's keys for reading application data.  An error of either is ``VerifiedContext.failure`` then.

    Tickets.  A server: ``issue`` gets a session and returns what stands for it in the NewSessionTicket (at most 65535
    bytes; None: no ticket), ``find`` gives the session back, or None.  A client: ``keep`` gets each session that its
    server offers, and ``resume`` is the one to try.  These decide which request may use which session.
    """

    role: Role
    identities: tuple[Identity, ...] = ()
    server_name: str | None = None
    """Asked for by a client (SNI); an IP literal is not sent.  The name in the certificate is ``verify``'s business."""
    alpn: tuple[str, ...] = ()
    """Offered, or accepted in order of preference.  Not empty: the handshake fails without agreement (RFC 9001
    section 8.1).  Empty: the extension is not used."""
    verify: Verify = no_trust
    authorize: Authorize = anybody
    client_certificate: CertificateDemand = CertificateDemand.NONE
    cipher_suites: tuple[int, ...] = ALL_SUITES
    groups: tuple[int, ...] = (0x1D, 0x17, 0x18)
    """A client sends a key share for each of them."""
    signatures: tuple[int, ...] = SIGNATURE_SCHEMES
    """Signature schemes that are taken and made, as on the wire; some only sign certificates."""
    issue: Callable[[Resumable], bytes | None] = issue_none
    find: Callable[[bytes], Resumable | None] = find_none
    ticket_lifetime: int = 86400
    """Seconds that our tickets are good for, 604800 at most."""
    keep: Callable[[Resumable], None] = keep_none
    resume: Resumable | None = None
    key_log: Callable[[str], None] | None = None
    """Gets the lines of an NSS key log, each with its newline."""

    def __post_init__(self) -> None:
        if self.role is Role.SERVER and not self.identities:
            raise HandshakeFailed(Failure.NO_KEY, "a server needs a certificate")
        for name in self.alpn:
            if not name.isascii() or not 1 <= len(name) <= 255:
                raise HandshakeFailed(Failure.INTERNAL, f"{name!r} is not the name of an application protocol")
