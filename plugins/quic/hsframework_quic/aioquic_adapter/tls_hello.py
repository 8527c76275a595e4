"""The demands of our server on a ClientHello, beyond its structure (RFC 8446 sections 4.1.2, 4.2, 9.2)."""

from __future__ import annotations

import hmac
from dataclasses import dataclass, replace

from aioquic import tls

from hsframework.failures import Failure, HandshakeFailed
from hsframework.tls import client_hello as extension, messages
from hsframework.tls.client_hello import ClientHello, parse_client_hello
from hsframework_quic.aioquic_adapter.tls_errors import Violation

TLS_1_3 = 0x0304
PADDING = 21


@dataclass(frozen=True, slots=True)
class Retry:
    """A HelloRetryRequest that was sent.  ``transcript``: the bytes that stand for both messages so far."""

    first: ClientHello
    group: int
    transcript: bytes


def check_client_hello(body: bytes) -> ClientHello:
    hello = parse_client_hello(body)
    if TLS_1_3 not in hello.supported_versions:
        raise HandshakeFailed(Failure.VERSION, "the client does not offer TLS 1.3")
    if hello.session_id:
        raise Violation("a ClientHello with a session id")  # RFC 9001 section 8.4
    if hello.compression_methods != b"\0":
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "the ClientHello offers compression")
    for number, name in (
        (extension.SIGNATURE_ALGORITHMS, "signature_algorithms"),
        (extension.SUPPORTED_GROUPS, "supported_groups"),
        (extension.KEY_SHARE, "key_share"),
        (messages.QUIC_TRANSPORT_PARAMETERS, "quic_transport_parameters"),
    ):
        if number not in hello.extensions:
            raise HandshakeFailed(Failure.MISSING_EXTENSION, f"the ClientHello has no {name}")
    if hello.psk_identities and extension.PSK_KEY_EXCHANGE_MODES not in hello.extensions:
        raise HandshakeFailed(Failure.MISSING_EXTENSION, "pre_shared_key without psk_key_exchange_modes")
    shares = hello.key_share_groups
    if len(set(shares)) != len(shares) or not set(shares) <= set(hello.supported_groups):
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "key shares that are not one for each of supported_groups")
    return hello


def check_second_hello(hello: ClientHello, retry: Retry) -> None:
    """Refuse a second ClientHello that differs in more than the key share that was asked for (section 4.1.2)."""
    dropped = frozenset({extension.EARLY_DATA, extension.PRE_SHARED_KEY, PADDING})
    same = replace(hello, key_share_groups=(), psk_identities=(), extensions=hello.extensions - dropped) == replace(
        retry.first, key_share_groups=(), psk_identities=(), extensions=retry.first.extensions - dropped
    )
    if hello.key_share_groups != (retry.group,) or not same or extension.EARLY_DATA in hello.extensions:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "the second ClientHello is not what was asked for")


def check_binder(ticket: tls.SessionTicket, message: bytes) -> None:
    """Check the binder of a ClientHello that has one (RFC 8446 section 4.2.11.2).

    Later aioquic checks it as well, not in constant time.
    """
    schedule = tls.KeySchedule(ticket.cipher_suite)
    schedule.extract(ticket.resumption_secret)
    key = schedule.derive_secret(b"res binder")
    size = schedule.algorithm.digest_size
    schedule.update_hash(message[: -size - 3])
    if not hmac.compare_digest(message[-size:], schedule.finished_verify_data(key)):
        raise HandshakeFailed(Failure.BAD_BINDER)
