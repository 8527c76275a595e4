"""Strict checks of the handshake messages that follow the ClientHello (RFC 8446 section 4).

Each function takes a message's body, without its four-byte header, and raises HandshakeFailed: ``GARBAGE`` for a wrong
structure, ``UNSUPPORTED_EXTENSION`` for an extension that was not offered, ``ILLEGAL_PARAMETER`` for an extension that
belongs in another message and for other values that are not allowed (section 4.2).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls import client_hello as extension
from hsframework.tls.wire import PRE_SHARED_KEY, Cursor, read_extension, read_extensions

HELLO_RETRY_REQUEST = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""Value of ``random`` that makes a ServerHello a HelloRetryRequest (section 4.1.3)."""
QUIC_TRANSPORT_PARAMETERS = 0x39
"""Extension quic_transport_parameters (RFC 9001 section 8.2)."""

_IN_SERVER_HELLO = frozenset({extension.SUPPORTED_VERSIONS, extension.KEY_SHARE, PRE_SHARED_KEY})
_IN_ENCRYPTED_EXTENSIONS = frozenset(
    {extension.SERVER_NAME, extension.SUPPORTED_GROUPS, extension.ALPN, extension.EARLY_DATA, QUIC_TRANSPORT_PARAMETERS}
)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """The contents of a ServerHello."""

    random: bytes
    cipher_suite: int
    group: int | None
    """Group of the key share; None: there is no key share."""
    extensions: frozenset[int]
    """Numbers of all extensions."""


def check_server_hello(body: bytes, offered: Collection[int], session_id: bytes) -> ServerHello:
    """Check a ServerHello or HelloRetryRequest (section 4.1.3) and return its contents.

    ``offered``: numbers of the ClientHello's extensions.  ``session_id``: the ClientHello's, which the server must
    repeat.  Raises also ``VERSION`` if the server does not select TLS 1.3.
    """
    cursor = Cursor(body, "ServerHello")
    cursor.take(2)
    random, echo, suite, compression = cursor.take(32), cursor.vector(1), cursor.number(2), cursor.number(1)
    extensions = read_extensions(cursor) if cursor.left else {}
    cursor.end()
    if echo != session_id:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "the ServerHello has another session id")
    if compression:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"compression method {compression}")
    if random == HELLO_RETRY_REQUEST:
        return ServerHello(random, suite, None, frozenset(extensions))
    check_extensions("ServerHello", extensions, offered, _IN_SERVER_HELLO)
    if extension.SUPPORTED_VERSIONS not in extensions:
        raise HandshakeFailed(Failure.VERSION, "the server speaks no TLS 1.3")
    group = read_extension(extensions, extension.KEY_SHARE, cursor.what, _key_share, None)
    return ServerHello(random, suite, group, frozenset(extensions))


def extensions_of_server_hello(body: bytes) -> frozenset[int]:
    """Return the numbers of a ServerHello's extensions, without checks.

    It takes a fraction of the time of :func:`check_server_hello`, and returns anything for an invalid message.
    """
    at = 2 + 32
    at += 1 + (body[at] if at < len(body) else 0) + 2 + 1 + 2
    found = []
    while at + 4 <= len(body):
        found.append(int.from_bytes(body[at : at + 2], "big"))
        at += 4 + int.from_bytes(body[at + 2 : at + 4], "big")
    return frozenset(found)


def check_encrypted_extensions(body: bytes, offered: Collection[int]) -> None:
    """Check EncryptedExtensions (section 4.3.1); ``offered``: numbers of the ClientHello's extensions.

    Raises also ``MISSING_EXTENSION`` if QUIC transport parameters were offered and the server sends none.
    """
    cursor = Cursor(body, "EncryptedExtensions")
    extensions = read_extensions(cursor)
    cursor.end()
    check_extensions(cursor.what, extensions, offered, _IN_ENCRYPTED_EXTENSIONS)
    if QUIC_TRANSPORT_PARAMETERS in offered and QUIC_TRANSPORT_PARAMETERS not in extensions:
        raise HandshakeFailed(Failure.MISSING_EXTENSION, "no QUIC transport parameters")  # RFC 9001 section 8.2
    if extensions.get(extension.SERVER_NAME):
        raise cursor.garbage("server_name is not empty")  # RFC 6066 section 3
    names = read_extension(extensions, extension.ALPN, cursor.what, extension.protocol_names, None)
    if names is not None and len(names) != 1:
        raise cursor.garbage(f"{len(names)} application protocols")  # RFC 7301 section 3.1


def check_certificate_request(body: bytes) -> tuple[int, ...]:
    """Check a CertificateRequest (section 4.3.2) and return the signature schemes that the server accepts.

    Raises also ``MISSING_EXTENSION`` if it lists none.
    """
    cursor = Cursor(body, "CertificateRequest")
    context = cursor.vector(1)
    extensions = read_extensions(cursor)
    cursor.end()
    if context:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "a request context during the handshake")
    if extension.SIGNATURE_ALGORITHMS not in extensions:
        raise HandshakeFailed(Failure.MISSING_EXTENSION, "the CertificateRequest has no signature_algorithms")
    number = extension.SIGNATURE_ALGORITHMS
    return read_extension(extensions, number, cursor.what, lambda inner: inner.numbers(2, 2, least=2), ())


def check_certificate(body: bytes) -> tuple[bytes, ...]:
    """Check a Certificate message (section 4.4.2) and return its certificates, DER, the leaf first.

    An extension of a certificate is refused, because none was offered.
    """
    cursor = Cursor(body, "Certificate")
    context = cursor.vector(1)
    entries = cursor.inner(3)
    cursor.end()
    chain: list[bytes] = []
    while entries.left:
        chain.append(entries.vector(3, least=1))
        check_extensions(cursor.what, read_extensions(entries), (), ())
    if context:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "a request context during the handshake")
    return tuple(chain)


def check_certificate_verify(body: bytes) -> None:
    """Check the structure of a CertificateVerify (section 4.4.3), but not the signature."""
    cursor = Cursor(body, "CertificateVerify")
    cursor.take(2)
    cursor.vector(2)
    cursor.end()


def check_new_session_ticket(body: bytes) -> None:
    """Check the structure of a NewSessionTicket; unknown extensions are ignored (section 4.6.1)."""
    cursor = Cursor(body, "NewSessionTicket")
    cursor.take(8)
    cursor.vector(1)
    cursor.vector(2, least=1)
    extensions = read_extensions(cursor)
    cursor.end()
    read_extension(extensions, extension.EARLY_DATA, cursor.what, lambda inner: inner.number(4), None)


def check_extensions(what: str, found: Collection[int], offered: Collection[int], allowed: Collection[int]) -> None:
    """Check that every extension was offered, and is allowed in this message (section 4.2).

    ``what``: name of the message, for errors.  ``found``, ``offered``, ``allowed``: numbers of extensions.
    """
    for number in found:
        if number not in offered:
            raise HandshakeFailed(Failure.UNSUPPORTED_EXTENSION, f"extension {number} in the {what} was not offered")
        if number not in allowed:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"extension {number} does not belong in the {what}")


def _key_share(cursor: Cursor) -> int:
    group = cursor.number(2)
    cursor.vector(2, least=1)
    return group
