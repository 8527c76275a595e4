"""TLS engines joined in memory: ours, and aioquic's own as a peer that can be made to misbehave."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest
from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.connection import QuicConnectionError
from aioquic.tls import Epoch
from cryptography import x509

from hsframework.credentials.chain import Purpose, verify_chain
from hsframework.credentials.judgement import Verify
from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Role, Trust
from hsframework.testing.certificates import Authority, Credential, to_pem
from hsframework_quic.aioquic_adapter.tls import VerifiedContext
from hsframework_quic.aioquic_adapter.tls_options import TlsOptions

CLIENT_HELLO, SERVER_HELLO, NEW_SESSION_TICKET, ENCRYPTED_EXTENSIONS = 1, 2, 4, 8
CERTIFICATE, CERTIFICATE_REQUEST, CERTIFICATE_VERIFY, FINISHED, KEY_UPDATE = 11, 13, 15, 20, 24
"""Handshake messages (RFC 8446 appendix B.3)."""

ROOT = Authority("TLS Test Root")
SERVER = ROOT.issue(["server.example"])
CLIENT = ROOT.issue(["client.example"])
PARAMETERS = (0x39, b"\x01\x02\x03")
LEVELS = (Epoch.INITIAL, Epoch.HANDSHAKE, Epoch.ONE_RTT)

Flight = dict[Epoch, bytes]
Extensions = list[tuple[int, bytes]]
Engine = TypeVar("Engine", bound=tls.Context)


def judge(purpose: Purpose, name: str | None = None, trust: Trust | None = None) -> Verify:
    believed = trust or ROOT.trust()
    return lambda chain: verify_chain(chain, believed, purpose=purpose, peer_name=name, now=datetime.now(UTC))


def client(**options: Any) -> VerifiedContext:
    fields = {
        "server_name": "server.example",
        "alpn": ("h3",),
        "verify": judge(Purpose.SERVER_AUTH, "server.example"),
        **options,
    }
    return _with_parameters(VerifiedContext(TlsOptions(role=Role.CLIENT, **fields)))


def server(**options: Any) -> VerifiedContext:
    fields = {
        "identities": (SERVER.identity,),
        "alpn": ("h3",),
        "verify": judge(Purpose.CLIENT_AUTH),
        **options,
    }
    return _with_parameters(VerifiedContext(TlsOptions(role=Role.SERVER, **fields)))


def bare_server(credential: Credential = SERVER, kind: type[tls.Context] = tls.Context) -> tls.Context:
    """Make a server of aioquic's own."""
    context = kind(is_client=False, alpn_protocols=["h3"])
    context.certificate, *chain = (x509.load_der_x509_certificate(der) for der in credential.chain)
    context.certificate_chain = chain
    context.certificate_private_key = credential.key  # type: ignore[assignment]
    return _with_parameters(context)


def bare_client(credential: Credential | None = None, kind: type[tls.Context] = tls.Context) -> tls.Context:
    """Make a client of aioquic's own; it checks our CertificateVerify, and trusts no authority but ours."""
    context = kind(is_client=True, alpn_protocols=["h3"], server_name="server.example", cadata=to_pem(ROOT.anchor))
    if credential is not None:
        context.certificate = x509.load_der_x509_certificate(credential.certificate)
        context.certificate_private_key = credential.key  # type: ignore[assignment]
    return _with_parameters(context)


def _with_parameters(context: Engine) -> Engine:
    context.handshake_extensions = [PARAMETERS]
    return context


def feed(context: tls.Context, flight: Flight) -> Flight:
    """Feed a flight, and return the answer.  Raises the errors of the context."""
    buffers = {level: Buffer(capacity=1 << 17) for level in LEVELS}
    for level in LEVELS:
        if flight.get(level):
            if isinstance(context, VerifiedContext):
                context.level = level
            context.handle_message(flight[level], buffers)
    return {level: buffer.data for level, buffer in buffers.items() if buffer.data}


def start(context: tls.Context) -> Flight:
    """Return a client's first flight."""
    buffers = {level: Buffer(capacity=1 << 17) for level in LEVELS}
    context.handle_message(b"", buffers)
    return {Epoch.INITIAL: buffers[Epoch.INITIAL].data}


def exchange(one: tls.Context, other: tls.Context) -> None:
    """Run both to the end.  Raises the errors of either."""
    flight, receiver = start(one), other
    while flight:
        flight, receiver = feed(receiver, flight), (one if receiver is other else other)


def failed(context: VerifiedContext, flight: Flight) -> HandshakeError:
    """Return the error that ``flight`` ends in; the connection is given the table's alert."""
    with pytest.raises((tls.Alert, QuicConnectionError)) as caught:
        feed(context, flight)
    failure = context.failure
    assert failure is not None
    assert not context.finished
    if isinstance(caught.value, tls.Alert) and isinstance(failure, HandshakeFailed):
        assert int(caught.value.description) == failure.failure.alert
        assert str(caught.value) == failure.failure.meaning
    return failure


def failure_of(context: VerifiedContext, flight: Flight) -> Failure:
    error = failed(context, flight)
    assert isinstance(error, HandshakeFailed)
    return error.failure


def messages(data: bytes) -> Iterator[bytes]:
    while data:
        size = 4 + int.from_bytes(data[1:4], "big")
        yield data[:size]
        data = data[size:]


def of_type(data: bytes, kind: int) -> bytes:
    return next(message for message in messages(data) if message[0] == kind)


def replaced(flight: Flight, kind: int, change: Callable[[bytes], bytes]) -> Flight:
    """Return the flight with each message of one type changed."""
    return {
        level: b"".join(change(message) if message[0] == kind else message for message in messages(data))
        for level, data in flight.items()
    }


def message(kind: int, body: bytes) -> bytes:
    return bytes((kind,)) + len(body).to_bytes(3, "big") + body


def with_extensions(change: Callable[[Extensions], Extensions]) -> Callable[[bytes], bytes]:
    """Change the extensions of a ClientHello, ServerHello or EncryptedExtensions."""

    def changed(whole: bytes) -> bytes:
        at = _extensions_at(whole)
        rest, found = whole[at + 2 :], []
        while rest:
            size = int.from_bytes(rest[2:4], "big")
            found.append((int.from_bytes(rest[:2], "big"), rest[4 : 4 + size]))
            rest = rest[4 + size :]
        data = b"".join(
            number.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value for number, value in change(found)
        )
        return message(whole[0], whole[4:at] + len(data).to_bytes(2, "big") + data)

    return changed


def _extensions_at(whole: bytes) -> int:
    if whole[0] in (8,):
        return 4
    if whole[0] == 13:
        return 5
    at = 4 + 2 + 32
    at += 1 + whole[at]
    if whole[0] == 2:
        return at + 3
    at += 2 + int.from_bytes(whole[at : at + 2], "big")
    return at + 1 + whole[at]


def without(number: int) -> Callable[[bytes], bytes]:
    return with_extensions(lambda found: [item for item in found if item[0] != number])


def also(number: int, value: bytes) -> Callable[[bytes], bytes]:
    return with_extensions(lambda found: [(number, value), *found])


def instead(number: int, value: bytes) -> Callable[[bytes], bytes]:
    return with_extensions(lambda found: [(n, value if n == number else v) for n, v in found])
