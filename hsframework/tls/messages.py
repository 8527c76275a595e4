"""Strict checks of the handshake messages that follow the ClientHello (RFC 8446 section 4).

Each function takes a message's body, without its four-byte header, and raises HandshakeFailed: ``GARBAGE`` for a
structure that is wrong, ``UNSUPPORTED_EXTENSION`` for an answer to what was not offered, ``ILLEGAL_PARAMETER`` for an
extension that belongs elsewhere and other values that are not allowed (section 4.2).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls import client_hello as extension
from hsframework.tls.wire import PRE_SHARED_KEY, Cursor, read_extension, read_extensions

HELLO_RETRY_REQUEST = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")
"""The ``random`` that makes a ServerHello a HelloRetryRequest (section 4.1.3)."""
QUIC_TRANSPORT_PARAMETERS = 0x39

_IN_SERVER_HELLO = frozenset({extension.SUPPORTED_VERSIONS, extension.KEY_SHARE, PRE_SHARED_KEY})
_IN_ENCRYPTED_EXTENSIONS = frozenset(
    {extension.SERVER_NAME, extension.SUPPORTED_GROUPS, extension.ALPN, extension.EARLY_DATA, QUIC_TRANSPORT_PARAMETERS}
)


@dataclass(frozen=True, slots=True)
class ServerHello:
    """``group`` None: no key share."""

    random: bytes
    cipher_suite: int
    group: int | None
    extensions: frozenset[int]


def check_server_hello(body: bytes, offered: Collection[int], session_id: bytes) -> ServerHello:
    """``session_id``: what the ClientHello had, and the answer must repeat."""
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


def check_encrypted_extensions(body: bytes, offered: Collection[int]) -> None:
    """Nothing but answers to what was offered."""
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
    """The signature schemes that the server takes."""
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
    """The certificates, DER, the leaf first.  No extension was asked for, so none may be there (section 4.4.2)."""
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
    """Structure alone."""
    cursor = Cursor(body, "CertificateVerify")
    cursor.take(2)
    cursor.vector(2)
    cursor.end()


def check_new_session_ticket(body: bytes) -> None:
    """Structure alone; unknown extensions are to be ignored (section 4.6.1)."""
    cursor = Cursor(body, "NewSessionTicket")
    cursor.take(8)
    cursor.vector(1)
    cursor.vector(2, least=1)
    extensions = read_extensions(cursor)
    cursor.end()
    read_extension(extensions, extension.EARLY_DATA, cursor.what, lambda inner: inner.number(4), None)


def check_extensions(what: str, found: Collection[int], offered: Collection[int], allowed: Collection[int]) -> None:
    """Every extension answers one that was offered, in the message where it belongs."""
    for number in found:
        if number not in offered:
            raise HandshakeFailed(Failure.UNSUPPORTED_EXTENSION, f"extension {number} in the {what} was not offered")
        if number not in allowed:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"extension {number} does not belong in the {what}")


def _key_share(cursor: Cursor) -> int:
    group = cursor.number(2)
    cursor.vector(2, least=1)
    return group
