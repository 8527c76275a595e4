"""Session tickets of in-kernel QUIC sockets, kept in the socket's option SESSION_TICKET alone.

* A server's socket has a key there, the same for connections that may resume each other.  The client's ticket is the
  session itself, sealed under that key (AES-256-GCM) and bound to the
  :data:`~hsframework_quic.resumption.Policy`.
* A client's socket has what an earlier handshake put there, and gets the new one after this handshake.
* A ticket that cannot be read, was made under another policy, or does not fit into 4096 bytes is no error: the
  handshake is a full one.  Certificates are judged again when a session is resumed
  (:mod:`hsframework_quic.aioquic_adapter.tls`).
"""

from __future__ import annotations

import os
import struct
from datetime import UTC, datetime

from aioquic.tls import CipherSuite, SessionTicket
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hsframework.failures import HandshakeFailed
from hsframework.interface import Secret
from hsframework.tls.wire import Cursor
from hsframework_quic.aioquic_adapter.tls_options import Resumable
from hsframework_quic.kernel.structs import MAX_TICKET, MIN_TICKET
from hsframework_quic.resumption import Policy

_MAGIC = b"hsfquic1"
_HEAD = struct.Struct("!HIQQ")
_NONCE_SIZE = 12


def pack(session: Resumable, policy: Policy) -> bytes:
    """Return the content of a client's option."""
    ticket = session.ticket
    begin, end = (int(moment.timestamp()) for moment in (ticket.not_valid_before, ticket.not_valid_after))
    parts = [_MAGIC, policy, _HEAD.pack(ticket.cipher_suite, ticket.age_add, begin, end)]
    parts += [_vector(ticket.resumption_secret, 1), _vector(ticket.ticket, 2)]
    return b"".join([*parts, *(_vector(der, 3) for der in session.chain)])


def unpack(data: bytes, policy: Policy, server_name: str | None = None) -> Resumable | None:
    """Return the session in ``data``; None: there is none, or it is of another policy."""
    if not data.startswith(_MAGIC + policy):
        return None
    cursor = Cursor(data[len(_MAGIC) + len(policy) :], "ticket")
    try:
        suite, age_add, begin, end = _HEAD.unpack(cursor.take(_HEAD.size))
        secret, name = cursor.vector(1, least=32), cursor.vector(2)
        chain: list[bytes] = []
        while cursor.left:
            chain.append(cursor.vector(3, least=1))
        ticket = SessionTicket(
            age_add=age_add,
            cipher_suite=CipherSuite(suite),
            not_valid_before=datetime.fromtimestamp(begin, UTC),
            not_valid_after=datetime.fromtimestamp(end, UTC),
            resumption_secret=secret,
            server_name=server_name or "",
            ticket=name,
        )
    except (HandshakeFailed, ValueError, OverflowError, OSError):
        return None
    return Resumable(ticket, tuple(chain))


def fits(data: bytes) -> bool:
    """Return True if the kernel takes it as a ticket."""
    return MIN_TICKET <= len(data) <= MAX_TICKET


class SealedTickets:
    """A server's tickets: ``issue`` and ``find`` for TlsOptions, under the key in its socket."""

    def __init__(self, key: Secret, policy: Policy) -> None:
        derive = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=b"hsframework quic session ticket")
        self._aead = AESGCM(derive.derive(key.reveal()))
        self._policy = policy

    def issue(self, session: Resumable) -> bytes | None:
        """Return the ticket for a session; None: it is too large for a client in the kernel."""
        nonce = os.urandom(_NONCE_SIZE)
        sealed = nonce + self._aead.encrypt(nonce, pack(session, self._policy), self._policy)
        return sealed if len(sealed) <= MAX_TICKET else None

    def find(self, ticket: bytes) -> Resumable | None:
        """Return the session of a ticket; None: it is not one of this key and policy."""
        try:
            data = self._aead.decrypt(ticket[:_NONCE_SIZE], ticket[_NONCE_SIZE:], self._policy)
        except (InvalidTag, ValueError):
            return None
        return unpack(data, self._policy)


def _vector(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data
