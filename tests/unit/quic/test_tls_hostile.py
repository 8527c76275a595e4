"""Handshake messages that no honest peer sends, at the TLS engine: each is refused with the alert that goes with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.tls import Epoch

from hsframework.failures import Failure
from hsframework.interface import CertificateDemand
from hsframework.tls.messages import HELLO_RETRY_REQUEST
from hsframework_quic.aioquic_adapter.tls import VerifiedContext
from tests.unit.quic.tls_support import (
    CERTIFICATE_VERIFY,
    CLIENT,
    CLIENT_HELLO,
    ENCRYPTED_EXTENSIONS,
    SERVER_HELLO,
    also,
    bare_server,
    client,
    failure_of,
    feed,
    instead,
    message,
    messages,
    of_type,
    replaced,
    server,
    start,
    with_extensions,
    without,
)

GROUPS_X25519_TWICE = b"\0\x48" + (b"\0\x1d\0\x20" + b"\x09" * 32) * 2
CLIENT_HELLOS: dict[str, tuple[Failure, Callable[[bytes], bytes]]] = {
    "no TLS 1.3": (Failure.VERSION, instead(43, b"\x02\x03\x03")),
    "no supported_versions": (Failure.VERSION, without(43)),
    "no signature_algorithms": (Failure.MISSING_EXTENSION, without(13)),
    "no supported_groups": (Failure.MISSING_EXTENSION, without(10)),
    "no key_share": (Failure.MISSING_EXTENSION, without(51)),
    "no transport parameters": (Failure.MISSING_EXTENSION, without(0x39)),
    "no ALPN": (Failure.NO_COMMON_ALPN, without(16)),
    "another ALPN": (Failure.NO_COMMON_ALPN, instead(16, b"\0\x04\x03foo")),
    "empty ALPN": (Failure.GARBAGE, instead(16, b"\0\0")),
    "transport parameters twice": (Failure.ILLEGAL_PARAMETER, also(0x39, b"")),
    "unknown extension twice": (Failure.ILLEGAL_PARAMETER, lambda whole: also(0xFAFA, b"")(also(0xFAFA, b"")(whole))),
    "pre_shared_key first": (
        Failure.ILLEGAL_PARAMETER,
        also(41, b"\0\x07\0\x01x\0\0\0\0" + b"\0\x21\x20" + b"b" * 32),
    ),
    "pre_shared_key without modes": (
        Failure.MISSING_EXTENSION,
        with_extensions(lambda found: [*found, (41, b"\0\x07\0\x01x\0\0\0\0" + b"\0\x21\x20" + b"b" * 32)]),
    ),
    "identities without binders": (
        Failure.ILLEGAL_PARAMETER,
        with_extensions(lambda found: [*found, (41, b"\0\x0e" + b"\0\x01x\0\0\0\0" * 2 + b"\0\x21\x20" + b"b" * 32)]),
    ),
    "a key share twice": (Failure.ILLEGAL_PARAMETER, instead(51, GROUPS_X25519_TWICE)),
    "a key share of no group": (Failure.ILLEGAL_PARAMETER, instead(51, b"\0\x05\x12\x34\0\x01x")),
    "a key share of the wrong size": (Failure.ILLEGAL_PARAMETER, instead(51, b"\0\x05\0\x1d\0\x01x")),
    "a key share of low order": (Failure.ILLEGAL_PARAMETER, instead(51, b"\0\x24\0\x1d\0\x20" + bytes(32))),
    "no group in common": (
        Failure.NO_COMMON_PARAMETERS,
        lambda whole: instead(10, b"\0\x02\x12\x34")(instead(51, b"\0\x05\x12\x34\0\x01x")(whole)),
    ),
    "an extension too long": (Failure.GARBAGE, instead(43, b"\x02\x03\x04\x00")),
    "a session id": (
        Failure.ILLEGAL_PARAMETER,
        lambda whole: message(1, whole[4:38] + b"\x20" + b"s" * 32 + whole[39:]),
    ),
    "trailing bytes": (Failure.GARBAGE, lambda whole: message(1, whole[4:] + b"x")),
    "cut short": (Failure.GARBAGE, lambda whole: message(1, whole[4:-1])),
    "compression": (
        Failure.ILLEGAL_PARAMETER,
        lambda whole: message(1, whole[4:].replace(b"\x13\x03\x01\x00", b"\x13\x03\x02\x00\x01", 1)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CLIENT_HELLOS)
def test_client_hellos(case: str) -> None:
    """Malformed ClientHellos are refused; nothing is answered."""
    failure, change = CLIENT_HELLOS[case]
    assert failure_of(server(), replaced(start(client()), CLIENT_HELLO, change)) is failure


def _asked_again() -> VerifiedContext:
    """Make a server that has asked for another ClientHello."""
    ours = server()
    p521 = with_extensions(lambda found: [(n, b"\0\x06\0\x19\0\x02xx" if n == 51 else v) for n, v in found])
    wide = instead(10, b"\0\x04\0\x19\0\x1d")
    answer = feed(ours, replaced(replaced(start(client()), CLIENT_HELLO, wide), CLIENT_HELLO, p521))
    assert list(answer) == [Epoch.INITIAL]
    assert answer[Epoch.INITIAL][6:38] == HELLO_RETRY_REQUEST
    assert answer[Epoch.INITIAL].endswith(b"\0\x33\0\x02\0\x1d")
    return ours


def test_a_server_asks_for_another_key_share() -> None:
    """Once, and for a group that the client has; who then sends something else is refused."""
    wide = instead(10, b"\0\x04\0\x19\0\x1d")
    hello = replaced(start(client(groups=(0x1D,))), CLIENT_HELLO, wide)
    answer = feed(_asked_again(), hello)
    assert [whole[0] for whole in messages(answer[Epoch.HANDSHAKE])] == [8, 11, 15, 20]
    for change in (
        instead(51, b"\0\x06\0\x19\0\x02xx"),
        instead(51, b"\0\0"),
        instead(16, b"\0\x05\x04h3x3"),
        also(42, b""),
        also(0xFAFA, b""),
        without(0),
        lambda whole: message(1, whole[4:].replace(b"\x13\x01", b"\x13\x05", 1)),
    ):
        assert failure_of(_asked_again(), replaced(hello, CLIENT_HELLO, change)) is Failure.ILLEGAL_PARAMETER


def _hrr(whole: bytes) -> bytes:
    return with_extensions(lambda found: [(43, b"\x03\x04"), (51, b"\0\x18")])(
        message(2, whole[4:6] + HELLO_RETRY_REQUEST + whole[38:])
    )


SERVER_HELLOS: dict[str, tuple[Failure, Callable[[bytes], bytes]]] = {
    "TLS 1.2": (Failure.VERSION, without(43)),
    "another version": (Failure.ILLEGAL_PARAMETER, instead(43, b"\x03\x03")),
    "no key share": (Failure.MISSING_EXTENSION, without(51)),
    "a group that was not offered": (Failure.ILLEGAL_PARAMETER, instead(51, b"\0\x1e\0\x38" + b"k" * 56)),
    "a session id": (Failure.ILLEGAL_PARAMETER, lambda whole: message(2, whole[4:38] + b"\x01s" + whole[39:])),
    "compression": (Failure.ILLEGAL_PARAMETER, lambda whole: message(2, whole[4:41] + b"\x01" + whole[42:])),
    "a cipher that was not offered": (
        Failure.NO_COMMON_PARAMETERS,
        lambda whole: message(2, whole[4:39] + b"\x13\x05" + whole[41:]),
    ),
    "a PSK that was not offered": (Failure.UNSUPPORTED_EXTENSION, also(41, b"\0\0")),
    "an extension that was not offered": (Failure.UNSUPPORTED_EXTENSION, also(0xFAFA, b"")),
    "an extension that belongs elsewhere": (Failure.ILLEGAL_PARAMETER, also(16, b"\0\x03\x02h3")),
    "an extension twice": (Failure.ILLEGAL_PARAMETER, also(43, b"\x03\x04")),
    "HelloRetryRequest": (Failure.ILLEGAL_PARAMETER, _hrr),
    "trailing bytes": (Failure.GARBAGE, lambda whole: message(2, whole[4:] + b"x")),
}


@pytest.mark.parametrize("case", SERVER_HELLOS)
def test_server_hellos(case: str) -> None:
    """Malformed ServerHellos are refused."""
    failure, change = SERVER_HELLOS[case]
    ours = client()
    assert failure_of(ours, replaced(feed(server(), start(ours)), SERVER_HELLO, change)) is failure


ENCRYPTED: dict[str, tuple[Failure, Callable[[bytes], bytes]]] = {
    "no ALPN": (Failure.NO_COMMON_ALPN, without(16)),
    "another ALPN": (Failure.NO_COMMON_ALPN, instead(16, b"\0\x04\x03foo")),
    "two application protocols": (Failure.GARBAGE, instead(16, b"\0\x06\x02h3\x02h2")),
    "no transport parameters": (Failure.MISSING_EXTENSION, without(0x39)),
    "early data that was not offered": (Failure.UNSUPPORTED_EXTENSION, also(42, b"")),
    "an extension that was not offered": (Failure.UNSUPPORTED_EXTENSION, also(0xFAFA, b"")),
    "an extension that belongs elsewhere": (Failure.ILLEGAL_PARAMETER, also(51, b"")),
    "an extension twice": (Failure.ILLEGAL_PARAMETER, also(0x39, b"")),
    "a server name": (Failure.GARBAGE, also(0, b"x")),
    "trailing bytes": (Failure.GARBAGE, lambda whole: message(8, whole[4:] + b"x")),
}


@pytest.mark.parametrize("case", ENCRYPTED)
def test_encrypted_extensions(case: str) -> None:
    """Malformed EncryptedExtensions are refused."""
    failure, change = ENCRYPTED[case]
    ours = client()
    assert failure_of(ours, replaced(feed(server(), start(ours)), ENCRYPTED_EXTENSIONS, change)) is failure


OTHERS: dict[str, tuple[Failure, int, Callable[[bytes], bytes]]] = {
    "Certificate: a context": (Failure.ILLEGAL_PARAMETER, 11, lambda whole: message(11, b"\x01x" + whole[5:])),
    "Certificate: an extension that was not offered": (
        Failure.UNSUPPORTED_EXTENSION,
        11,
        lambda whole: message(11, b"\0\0\0\x0a\0\0\x01x" + b"\0\x04\0\x05\0\0"),
    ),
    "Certificate: empty": (Failure.GARBAGE, 11, lambda whole: message(11, bytes(4))),
    "Certificate: an empty entry": (Failure.GARBAGE, 11, lambda whole: message(11, b"\0\0\0\x05" + bytes(5))),
    "CertificateVerify: trailing bytes": (Failure.GARBAGE, 15, lambda whole: message(15, whole[4:] + b"x")),
    "CertificateVerify: empty": (Failure.BAD_SIGNATURE, 15, lambda whole: message(15, whole[4:6] + b"\0\0")),
    "Finished: one bit": (Failure.BAD_SIGNATURE, 20, lambda whole: whole[:-1] + bytes([whole[-1] ^ 1])),
    "Finished: short": (Failure.BAD_SIGNATURE, 20, lambda whole: message(20, whole[4:-1])),
    "Finished: empty": (Failure.BAD_SIGNATURE, 20, lambda whole: message(20, b"")),
    "CertificateRequest: a context": (
        Failure.ILLEGAL_PARAMETER, 13, lambda whole: message(13, b"\x01x" + whole[5:])
    ),
    "CertificateRequest: no schemes": (Failure.MISSING_EXTENSION, 13, without(13)),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHERS)
def test_the_rest_of_a_servers_flight(case: str) -> None:
    """Malformed other messages are refused."""
    failure, kind, change = OTHERS[case]
    ours = client()
    flight = feed(server(client_certificate=CertificateDemand.REQUEST), start(ours))
    assert failure_of(ours, replaced(flight, kind, change)) is failure


@pytest.mark.parametrize("left_out", [8, 11, 15, (11, 15), (8, 11, 15)])
def test_a_server_that_leaves_something_out(left_out: int | tuple[int, ...]) -> None:
    """Above all its certificate: a message out of turn, whatever follows."""
    kinds = (left_out,) if isinstance(left_out, int) else left_out
    ours = client()
    flight = feed(server(), start(ours))
    for kind in kinds:
        flight = replaced(flight, kind, lambda whole: b"")
    assert failure_of(ours, flight) is Failure.UNEXPECTED_MESSAGE


def test_a_server_that_does_not_prove_its_key() -> None:
    """Certificate without CertificateVerify, with a Finished over that very transcript."""

    class NoVerify(tls.Context):
        """A server that signs nothing: its CertificateVerify is swallowed, its own transcript without it."""

        def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
            original = tls.push_certificate_verify
            tls.push_certificate_verify = lambda buf, verify: None
            try:
                super()._server_handle_hello(input_buf, initial_buf, handshake_buf)
            finally:
                tls.push_certificate_verify = original

    ours = client()
    flight = feed(bare_server(kind=NoVerify), start(ours))
    assert [whole[0] for whole in messages(flight[Epoch.HANDSHAKE])] == [8, 11, 20]
    assert failure_of(ours, flight) is Failure.UNEXPECTED_MESSAGE


@pytest.mark.parametrize("left_out", [(11, 15), (15,)])
def test_a_client_that_leaves_its_certificate_out(left_out: tuple[int, ...]) -> None:
    """Asked for a certificate, it sends none of the messages that say so, or proves nothing."""
    theirs, ours = client(identities=(CLIENT.identity,)), server(client_certificate=CertificateDemand.REQUEST)
    flight = feed(theirs, feed(ours, start(theirs)))
    for kind in left_out:
        flight = replaced(flight, kind, lambda whole: b"")
    assert failure_of(ours, flight) is Failure.UNEXPECTED_MESSAGE


def test_a_certificate_that_was_not_asked_for() -> None:
    """A client's certificate comes when it is asked for, and not else."""
    theirs, ours = client(identities=(CLIENT.identity,)), server(client_certificate=CertificateDemand.REQUEST)
    shown = feed(theirs, feed(ours, start(theirs)))
    other = server()
    feed(other, start(client()))
    assert failure_of(other, shown) is Failure.UNEXPECTED_MESSAGE


def test_a_signature_of_another_handshake() -> None:
    """CertificateVerify is bound to the transcript: one from another handshake of the same peer is worth nothing."""
    ours, again = client(), client()
    recorded = of_type(feed(server(), start(again))[Epoch.HANDSHAKE], CERTIFICATE_VERIFY)
    flight = replaced(feed(server(), start(ours)), CERTIFICATE_VERIFY, lambda whole: recorded)
    assert failure_of(ours, flight) is Failure.BAD_SIGNATURE
