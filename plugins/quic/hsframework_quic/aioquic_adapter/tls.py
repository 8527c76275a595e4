"""aioquic's TLS 1.3 with our verification, both roles.  Sans-IO.

aioquic has the key schedule, the messages and the state machine.  What is ours, and why:

* **The peer's certificate.**  aioquic judges a server's by its dates, name and path alone (no EKU, no CRL, no key
  sizes), and a client's not at all.  Here :attr:`TlsOptions.verify` judges either, and a client never goes on without.
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

import hmac
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

from aioquic import tls
from aioquic.buffer import Buffer, BufferReadError, BufferWriteError
from aioquic.quic.connection import QuicConnectionError
from aioquic.quic.packet import QuicErrorCode, QuicFrameType
from aioquic.tls import Direction, Epoch, HandshakeType, State
from cryptography.hazmat.primitives import hashes

from hsframework.credentials.failures import Failure, HandshakeFailed
from hsframework.credentials.names import parse_ip_literal
from hsframework.credentials.selection import scheme_for, select_identity
from hsframework.errors import HandshakeError
from hsframework.interface import CertificateDemand, Identity, PeerIdentity, Role, Secret
from hsframework.tls import client_hello as extension, messages, signatures
from hsframework.tls.client_hello import ClientHello, parse_client_hello
from hsframework.tls.wire import PRE_SHARED_KEY
from hsframework_quic.aioquic_adapter.tls_options import (
    AES_128_CCM_SHA256,
    CIPHER_SUITES,
    GROUPS,
    Resumable,
    TlsOptions,
    keep_none,
)

TLS_1_3 = 0x0304
PADDING = 21
SIGNATURE_SCHEMES = (*signatures.SCHEMES, *signatures.CERTIFICATE_ONLY)
MAX_TICKET_LIFETIME = 7 * 24 * 3600
"""Seconds for which a server's ticket is kept at most (RFC 8446 section 4.6.1)."""
MAX_TICKETS = 8
"""Of one server, on one connection, that are kept."""

_NOTHING: frozenset[int] = frozenset()
_EXPECTED: dict[State, tuple[Epoch, frozenset[int]]] = {
    State.CLIENT_EXPECT_SERVER_HELLO: (Epoch.INITIAL, frozenset({HandshakeType.SERVER_HELLO})),
    State.CLIENT_EXPECT_ENCRYPTED_EXTENSIONS: (Epoch.HANDSHAKE, frozenset({HandshakeType.ENCRYPTED_EXTENSIONS})),
    State.CLIENT_EXPECT_CERTIFICATE_REQUEST_OR_CERTIFICATE: (
        Epoch.HANDSHAKE,
        frozenset({HandshakeType.CERTIFICATE_REQUEST, HandshakeType.CERTIFICATE}),
    ),
    State.CLIENT_EXPECT_CERTIFICATE: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE})),
    State.CLIENT_EXPECT_CERTIFICATE_VERIFY: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE_VERIFY})),
    State.CLIENT_EXPECT_FINISHED: (Epoch.HANDSHAKE, frozenset({HandshakeType.FINISHED})),
    State.CLIENT_POST_HANDSHAKE: (Epoch.ONE_RTT, frozenset({HandshakeType.NEW_SESSION_TICKET})),
    State.SERVER_EXPECT_CLIENT_HELLO: (Epoch.INITIAL, frozenset({HandshakeType.CLIENT_HELLO})),
    State.SERVER_EXPECT_CERTIFICATE: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE})),
    State.SERVER_EXPECT_CERTIFICATE_VERIFY: (Epoch.HANDSHAKE, frozenset({HandshakeType.CERTIFICATE_VERIFY})),
    State.SERVER_EXPECT_FINISHED: (Epoch.HANDSHAKE, frozenset({HandshakeType.FINISHED})),
    State.SERVER_POST_HANDSHAKE: (Epoch.ONE_RTT, _NOTHING),
}
"""What may come in each state, and at which encryption level; a state that is not here takes nothing."""

_MAX_SIZES: dict[int, int] = {
    HandshakeType.CLIENT_HELLO: 1 << 16,
    HandshakeType.SERVER_HELLO: 1 << 13,
    HandshakeType.ENCRYPTED_EXTENSIONS: 1 << 14,
    HandshakeType.CERTIFICATE_REQUEST: 1 << 16,
    HandshakeType.CERTIFICATE: 3 << 15,
    HandshakeType.CERTIFICATE_VERIFY: 1 << 14,
    HandshakeType.FINISHED: 64,
    HandshakeType.NEW_SESSION_TICKET: 1 << 17,
}
"""Bytes of a message's body: several times what any implementation sends."""

_FAILURES = {
    failure.alert: failure
    for failure in (
        Failure.UNEXPECTED_MESSAGE,
        Failure.NO_COMMON_PARAMETERS,
        Failure.BAD_CERTIFICATE,
        Failure.WRONG_USAGE,
        Failure.EXPIRED,
        Failure.ILLEGAL_PARAMETER,
        Failure.GARBAGE,
        Failure.BAD_SIGNATURE,
        Failure.VERSION,
        Failure.MISSING_EXTENSION,
        Failure.NO_COMMON_ALPN,
    )
}
"""Rows of the table by the alerts that aioquic's own code raises."""

_KEY_LOG_LABELS = {
    (Role.CLIENT, Epoch.HANDSHAKE): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    (Role.SERVER, Epoch.HANDSHAKE): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    (Role.CLIENT, Epoch.ONE_RTT): "CLIENT_TRAFFIC_SECRET_0",
    (Role.SERVER, Epoch.ONE_RTT): "SERVER_TRAFFIC_SECRET_0",
}
_SUITE_NAMES = {code: name for name, code in CIPHER_SUITES.items()} | {AES_128_CCM_SHA256: "TLS_AES_128_CCM_SHA256"}
_GROUP_NAMES = {code: name for name, code in GROUPS.items()}

for _code in signatures.SCHEMES:
    # aioquic looks a scheme's parameters up before it calls ``sign``.  Ours ignores them, so any will do.
    tls.SIGNATURE_ALGORITHMS.setdefault(_code, (None, hashes.SHA256))
tls.CIPHER_SUITES.setdefault(AES_128_CCM_SHA256, hashes.SHA256)

TrafficKeyHandler = Callable[[Direction, Epoch, tls.CipherSuite, bytes], None]


class Refused(tls.Alert):
    """We refuse: what aioquic turns into CONNECTION_CLOSE with 0x100 + ``description`` (RFC 9001 section 4.8)."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.meaning)
        self.description = tls.AlertDescription(failure.alert or tls.AlertDescription.internal_error)


class _Violation(HandshakeFailed):
    """Against QUIC and not TLS: told as PROTOCOL_VIOLATION."""

    def __init__(self, detail: str) -> None:
        super().__init__(Failure.ILLEGAL_PARAMETER, detail)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """What a finished handshake agreed on."""

    peer: PeerIdentity
    alpn: str | None
    cipher: str
    group: str
    resumed: bool
    exporter_secret: Secret
    """exporter_master_secret (RFC 8446 section 7.5)."""


@dataclass(frozen=True, slots=True)
class _Retry:
    """A server has asked for a second ClientHello.  ``transcript``: what stands for both messages so far."""

    first: ClientHello
    group: int
    transcript: bytes


class VerifiedContext(tls.Context):
    """One handshake.  Set ``level``, then ``handle_message``.  ``failure``: why it failed; ``agreed``: how it ended."""

    def __init__(self, options: TlsOptions) -> None:
        self._key_handler: TrafficKeyHandler = lambda direction, epoch, suite, secret: None
        self._retry: _Retry | None = None
        super().__init__(
            is_client=options.role is Role.CLIENT,
            alpn_protocols=list(options.alpn) or None,
            cipher_suites=[_suite(code) for code in options.cipher_suites],
            server_name=_server_name(options.server_name),
            verify_mode=ssl.CERT_NONE,  # aioquic's own opinion is not asked for
        )
        self.options = options
        self.level: Epoch | None = None
        """Of the data that ``handle_message`` is given next."""
        self.failure: HandshakeError | None = None
        self._raised: Exception | None = None
        self._supported_groups = [tls.Group(code) for code in options.groups]
        self._signature_algorithms = list(SIGNATURE_SCHEMES)
        self._request_client_certificate = options.client_certificate is not CertificateDemand.NONE
        self._waiting = bytearray()
        self._message = b""
        self._offered: frozenset[int] = frozenset()
        self._hello: ClientHello | None = None
        self._group: int | None = None
        self._chain: tuple[bytes, ...] = ()
        self._believed: tuple[bytes, ...] | None = None
        self._resumable: tuple[Resumable, tuple[bytes, ...]] | None = None
        self._tickets = 0
        self._exporter_secret = Secret(b"")

    def take_place_of(self, other: tls.Context) -> None:
        """Take over what a QuicConnection has set on the context that it made itself."""
        self.handshake_extensions = other.handshake_extensions
        self.alpn_cb = other.alpn_cb
        self.update_traffic_key_cb = other.update_traffic_key_cb

    @property
    def finished(self) -> bool:
        """The handshake is complete (RFC 9001 section 4.1.1)."""
        return self.failure is None and self.state in (State.CLIENT_POST_HANDSHAKE, State.SERVER_POST_HANDSHAKE)

    @property
    def agreed(self) -> Agreed:
        """Only once ``finished``."""
        if not self.finished or self.key_schedule is None:
            raise RuntimeError("the handshake has not finished")
        return Agreed(
            peer=self._peer,
            alpn=self.alpn_negotiated,
            cipher=_SUITE_NAMES[self.key_schedule.cipher_suite],
            group=_GROUP_NAMES.get(self._group or 0, ""),
            resumed=self.session_resumed,
            exporter_secret=self._exporter_secret,
        )

    # What aioquic's connection calls and sets, and its engine.

    @property
    def key_schedule(self) -> tls.KeySchedule | None:
        """A server's begins with the first two messages where it has asked for a second ClientHello."""
        return self._key_schedule

    @key_schedule.setter
    def key_schedule(self, schedule: tls.KeySchedule | None) -> None:
        if schedule is not None and self._retry is not None:
            schedule.update_hash(self._retry.transcript)
        self._key_schedule = schedule

    @property
    def update_traffic_key_cb(self) -> TrafficKeyHandler:
        """Called with each secret, which is written to the key log before."""
        return self._on_traffic_key

    @update_traffic_key_cb.setter
    def update_traffic_key_cb(self, handler: TrafficKeyHandler) -> None:
        self._key_handler = handler

    def handle_message(self, input_data: bytes, output_buf: dict[Epoch, Buffer]) -> None:
        if self._raised is not None:
            raise self._raised
        try:
            if self.state == State.CLIENT_HANDSHAKE_START:
                self._start(output_buf[Epoch.INITIAL])
            else:
                self._take(input_data, output_buf)
        except Exception as error:
            self._waiting.clear()
            self.failure, self._raised = _told(error)
            raise self._raised from None

    # Messages, whole and in their turn.

    def _start(self, output: Buffer) -> None:
        self._offer_resumption()
        self._client_send_hello(output)
        self._offered = parse_client_hello(output.data[4:]).extensions

    def _take(self, data: bytes, output: dict[Epoch, Buffer]) -> None:
        self._waiting += data
        while self._waiting:
            level, kinds = _EXPECTED.get(self.state, (None, _NOTHING))
            if level is None or self.level is not level:
                raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"handshake data at level {self.level}")
            size = self._size_of_next(kinds)
            if size is None:
                return
            message = self._message = bytes(self._waiting[:size])
            del self._waiting[:size]
            self._check(message[0], message[4:])
            self._handle_reassembled_message(message[0], Buffer(data=message), output)
            if self._waiting and _EXPECTED[self.state][0] is not level:
                raise _Violation("handshake data goes on at a level that has ended")

    def _size_of_next(self, kinds: frozenset[int]) -> int | None:
        """Bytes of the message that waits; None: it is not whole yet."""
        kind = self._waiting[0]
        if kind not in kinds:
            if self.state == State.CLIENT_POST_HANDSHAKE and kind == HandshakeType.CERTIFICATE_REQUEST:
                raise _Violation("a CertificateRequest after the handshake")  # RFC 9001 section 4.4
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"handshake message {kind} in state {self.state.name}")
        if len(self._waiting) < 4:
            return None
        size = int.from_bytes(self._waiting[1:4], "big")
        if size > _MAX_SIZES[kind]:
            raise HandshakeFailed(Failure.GARBAGE, f"handshake message {kind} of {size} bytes")
        return 4 + size if len(self._waiting) >= 4 + size else None

    def _check(self, kind: int, body: bytes) -> None:
        """What aioquic does not look at."""
        if kind == HandshakeType.CLIENT_HELLO:
            self._hello = _check_client_hello(body)
        elif kind == HandshakeType.SERVER_HELLO:
            self._check_server_hello(body)
        elif kind == HandshakeType.ENCRYPTED_EXTENSIONS:
            messages.check_encrypted_extensions(body, self._offered)
        elif kind == HandshakeType.CERTIFICATE_REQUEST:
            messages.check_certificate_request(body)
        elif kind == HandshakeType.CERTIFICATE:
            self._chain = messages.check_certificate(body)
        elif kind == HandshakeType.CERTIFICATE_VERIFY:
            messages.check_certificate_verify(body)
        elif kind == HandshakeType.NEW_SESSION_TICKET:
            messages.check_new_session_ticket(body)

    def _check_server_hello(self, body: bytes) -> None:
        hello = messages.check_server_hello(body, self._offered, b"")
        if hello.random == messages.HELLO_RETRY_REQUEST:
            # Every group that we offer comes with its key share: there is nothing to ask for (section 4.1.4).
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "the server wants another ClientHello (HelloRetryRequest)")
        self._group = hello.group

    # Either role.

    @property
    def _peer(self) -> PeerIdentity:
        return PeerIdentity(certificates=self._believed or ())

    def _on_traffic_key(self, direction: Direction, epoch: Epoch, suite: tls.CipherSuite, secret: bytes) -> None:
        if self.options.key_log is not None:
            ours = direction is Direction.ENCRYPT
            writer = self.options.role if ours else Role(3 - self.options.role)
            label, random = _KEY_LOG_LABELS[writer, epoch], self.client_random
            self.options.key_log(f"{label} {random.hex()} {secret.hex()}\n")
        if epoch is Epoch.ONE_RTT and not self._exporter_secret:
            # The master secret is there, and the transcript ends with the server's Finished.
            self._exporter_secret = Secret(self._schedule.derive_secret(b"exp master"))
        self._key_handler(direction, epoch, suite, secret)

    def _set_peer_certificate(self, certificate: tls.Certificate) -> None:
        """Nothing: ``_check`` has read the chain, and the signature is checked with its leaf."""

    def _check_certificate_verify_signature(self, verify: tls.CertificateVerify) -> None:
        if verify.algorithm not in SIGNATURE_SCHEMES:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"signature scheme {verify.algorithm:#06x} not offered")
        context = signatures.SERVER_CONTEXT if self._is_client else signatures.CLIENT_CONTEXT
        content = self._schedule.certificate_verify_data(context)
        signatures.verify(self._chain[0], verify.algorithm, verify.signature, content)
        self._believed = self.options.verify(self._chain)

    def _signature_algorithms_for_private_key(self) -> list[Any]:
        signer = self.certificate_private_key
        return [signer.scheme] if isinstance(signer, _Signer) else []

    def _present(self, identity: Identity | None, offered: tuple[int, ...]) -> None:
        """Show ``identity`` when the time comes; None: an empty Certificate."""
        scheme = None if identity is None else scheme_for(identity, offered)
        if identity is None or scheme is None:
            self.certificate, self.certificate_private_key = None, None
            return
        leaf, *rest = (_Der(der) for der in identity.chain)
        self.certificate = cast(Any, leaf)
        self.certificate_chain = cast(Any, rest)
        self.certificate_private_key = cast(Any, _Signer(identity, scheme))

    def _check_finished(self, expected: bytes) -> None:
        if not hmac.compare_digest(self._message[4:], expected):
            raise HandshakeFailed(Failure.BAD_SIGNATURE, "Finished does not verify")
        self.options.authorize(self._peer)

    @property
    def _schedule(self) -> tls.KeySchedule:
        if self.key_schedule is None:
            raise RuntimeError("no cipher suite has been agreed on")
        return self.key_schedule

    # A client.

    def _offer_resumption(self) -> None:
        session = self.options.resume
        if session is None or session.ticket.cipher_suite not in self._cipher_suites:
            return
        try:
            believed = self.options.verify(session.chain)
        except HandshakeFailed:
            return  # not believed any more: a full handshake says why
        self._resumable = session, believed
        self.session_ticket = replace(session.ticket, max_early_data_size=None)

    def _client_send_hello(self, output_buf: Buffer) -> None:
        if self.options.keep is not keep_none:
            self.new_session_ticket_cb = self._keep
        super()._client_send_hello(output_buf)

    def _client_handle_hello(self, input_buf: Buffer, output_buf: Buffer) -> None:
        super()._client_handle_hello(input_buf, output_buf)
        self._take_over_resumed()

    def _client_handle_finished(self, input_buf: Buffer, output_buf: Buffer) -> None:
        if not self._believed:
            raise HandshakeFailed(Failure.INTERNAL, "the server's certificate was not judged")
        self._check_finished(self._schedule.finished_verify_data(cast(bytes, self._dec_key)))
        request = self._certificate_request
        if request is not None:
            schemes = tuple(request.signature_algorithms or ())
            self._present(_chosen(self.options.identities, schemes, None), schemes)
        super()._client_handle_finished(input_buf, output_buf)

    def _keep(self, ticket: tls.SessionTicket) -> None:
        self._tickets += 1
        if ticket.max_early_data_size not in (None, 0xFFFFFFFF):
            raise _Violation("max_early_data_size of a ticket is not 0xffffffff")  # RFC 9001 section 4.6.1
        seconds = (ticket.not_valid_after - ticket.not_valid_before).total_seconds()
        if not 0 < seconds <= MAX_TICKET_LIFETIME or self._tickets > MAX_TICKETS:
            return
        self.options.keep(Resumable(replace(ticket, max_early_data_size=None), self._chain))

    # A server.

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        hello = self._hello
        assert hello is not None
        identity = _chosen(self.options.identities, hello.signature_algorithms, hello.server_name)
        if identity is None:
            raise HandshakeFailed(Failure.NO_COMMON_PARAMETERS, "the client takes no signature that our keys can make")
        if self._asks_again(hello, initial_buf):
            input_buf.seek(input_buf.capacity)  # aioquic wants it read
            return
        self._present(identity, hello.signature_algorithms)
        if extension.EARLY_DATA not in hello.extensions and self._retry is None:
            self.get_session_ticket_cb = lambda ticket: self._find(ticket, hello)
        start = initial_buf.tell()
        super()._server_handle_hello(input_buf, initial_buf, handshake_buf)
        answer = initial_buf.data_slice(start + 4, initial_buf.tell())
        self._group = messages.check_server_hello(answer, hello.extensions, hello.session_id).group
        self._take_over_resumed()

    def _asks_again(self, hello: ClientHello, output: Buffer) -> bool:
        """HelloRetryRequest (RFC 8446 section 4.1.4); False: the ClientHello will do, or nothing will."""
        if self._retry is not None:
            _check_second_hello(hello, self._retry)
            return False
        if set(hello.key_share_groups) & set(self._supported_groups):
            return False
        group = next((group for group in self._supported_groups if group in hello.supported_groups), None)
        suite = next((suite for suite in self._cipher_suites if suite in hello.cipher_suites), None)
        if group is None or suite is None:
            return False
        request = tls.ServerHello(
            random=messages.HELLO_RETRY_REQUEST,
            legacy_session_id=b"",
            cipher_suite=suite,
            compression_method=0,
            supported_version=TLS_1_3,
            other_extensions=[(extension.KEY_SHARE, group.to_bytes(2, "big"))],
        )
        start = output.tell()
        tls.push_server_hello(output, request)
        digest = hashes.Hash(tls.cipher_suite_hash(suite))
        digest.update(self._message)
        first = digest.finalize()
        stands_for_it = bytes((HandshakeType.MESSAGE_HASH, 0, 0, len(first))) + first  # section 4.4.1
        self._retry = _Retry(hello, group, stands_for_it + output.data_slice(start, output.tell()))
        return True

    def _find(self, ticket: bytes, hello: ClientHello) -> tls.SessionTicket | None:
        """The session to resume; None: a full handshake.  aioquic resumes what this returns."""
        session = self.options.find(ticket)
        suite = next((suite for suite in self._cipher_suites if suite in hello.cipher_suites), None)
        if session is None or not session.ticket.is_valid or session.ticket.cipher_suite != suite:
            return None
        if bool(session.chain) is not self._request_client_certificate:
            return None
        try:
            believed = self.options.verify(session.chain) if session.chain else ()
        except HandshakeFailed:
            return None
        _check_binder(session.ticket, self._message)
        self._resumable = session, believed
        self._request_client_certificate = False  # aioquic would not ask for it, and would wait for it
        return session.ticket

    def _take_over_resumed(self) -> None:
        if self.session_resumed and self._resumable is not None:
            session, self._believed = self._resumable
            self._chain = session.chain

    def _server_handle_certificate(self, input_buf: Buffer) -> None:
        if not self._chain and self.options.client_certificate is CertificateDemand.REQUIRE:
            raise HandshakeFailed(Failure.NO_PEER_CERTIFICATE)
        super()._server_handle_certificate(input_buf)

    def _server_handle_finished(self, input_buf: Buffer, output_buf: Buffer) -> None:
        if self.options.client_certificate is CertificateDemand.REQUIRE and not self._believed:
            raise HandshakeFailed(Failure.INTERNAL, "the client's certificate was not judged")
        self._check_finished(self._expected_verify_data)
        super()._server_handle_finished(input_buf, output_buf)
        if self._psk_key_exchange_mode is not None:
            self._issue(output_buf)

    def _issue(self, output: Buffer) -> None:
        offer = tls.NewSessionTicket(
            ticket_lifetime=self.options.ticket_lifetime,
            ticket_age_add=int.from_bytes(os.urandom(4), "big"),
            ticket_nonce=os.urandom(8),
        )
        ticket = self.options.issue(Resumable(self._build_session_ticket(offer, []), self._chain))
        if ticket:
            offer.ticket = ticket
            tls.push_new_session_ticket(output, offer)


class _Der:
    """A certificate of ours, where aioquic wants one of ``cryptography``'s."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def public_bytes(self, encoding: object) -> bytes:
        return self._der


class _Signer:
    """A private key of ours with the scheme that it signs with."""

    def __init__(self, identity: Identity, scheme: int) -> None:
        self._identity = identity
        self.scheme = scheme

    def sign(self, content: bytes, *parameters: object) -> bytes:
        return signatures.sign(self._identity, self.scheme, content)


def _suite(code: int) -> tls.CipherSuite:
    """aioquic has no name for AES-CCM, and needs none."""
    return cast(tls.CipherSuite, code) if code == AES_128_CCM_SHA256 else tls.CipherSuite(code)


def _server_name(name: str | None) -> str | None:
    """What goes into SNI (RFC 6066 section 3): no IP literal, no trailing dot, and nothing that is no DNS name."""
    if name is None or parse_ip_literal(name) is not None or not name.isascii():
        return None
    return name.removesuffix(".") or None


def _chosen(identities: tuple[Identity, ...], schemes: tuple[int, ...], name: str | None) -> Identity | None:
    try:
        return select_identity(identities, schemes, name)
    except (ValueError, IndexError) as error:
        raise HandshakeFailed(Failure.NO_KEY, f"our own certificate cannot be read: {error}") from None


def _check_client_hello(body: bytes) -> ClientHello:
    hello = parse_client_hello(body)
    if TLS_1_3 not in hello.supported_versions:
        raise HandshakeFailed(Failure.VERSION, "the client does not offer TLS 1.3")
    if hello.session_id:
        raise _Violation("a ClientHello with a session id")  # RFC 9001 section 8.4
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


def _check_second_hello(hello: ClientHello, retry: _Retry) -> None:
    """The same again, with the key share that was asked for (section 4.1.2)."""
    dropped = frozenset({extension.EARLY_DATA, PRE_SHARED_KEY, PADDING})
    same = replace(hello, key_share_groups=(), psk_identities=(), extensions=hello.extensions - dropped) == replace(
        retry.first, key_share_groups=(), psk_identities=(), extensions=retry.first.extensions - dropped
    )
    if hello.key_share_groups != (retry.group,) or not same or extension.EARLY_DATA in hello.extensions:
        raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, "the second ClientHello is not what was asked for")


def _check_binder(ticket: tls.SessionTicket, message: bytes) -> None:
    """RFC 8446 section 4.2.11.2, for a ClientHello with one binder.  aioquic does it again, not in constant time."""
    schedule = tls.KeySchedule(ticket.cipher_suite)
    schedule.extract(ticket.resumption_secret)
    key = schedule.derive_secret(b"res binder")
    size = schedule.algorithm.digest_size
    schedule.update_hash(message[: -size - 3])
    if not hmac.compare_digest(message[-size:], schedule.finished_verify_data(key)):
        raise HandshakeFailed(Failure.BAD_BINDER)


def _told(error: Exception) -> tuple[HandshakeError, Exception]:
    """What the consumer is told of an error, and what the connection is."""
    if isinstance(error, _Violation):
        reason = QuicConnectionError(
            error_code=QuicErrorCode.PROTOCOL_VIOLATION, frame_type=QuicFrameType.CRYPTO, reason_phrase=""
        )
        return HandshakeFailed(error.failure, error.detail), reason
    if isinstance(error, QuicConnectionError):
        return HandshakeFailed(Failure.ILLEGAL_PARAMETER, error.reason_phrase), error
    if isinstance(error, HandshakeFailed):
        return HandshakeFailed(error.failure, error.detail), Refused(error.failure)
    if isinstance(error, HandshakeError):
        return error.with_traceback(None), Refused(Failure.NOT_AUTHORIZED)
    if isinstance(error, tls.Alert):
        failure = _FAILURES.get(int(error.description), Failure.INTERNAL)
        return HandshakeFailed(failure, str(error)), Refused(failure)
    if isinstance(error, BufferReadError):
        return HandshakeFailed(Failure.GARBAGE, "a handshake message ends too early"), Refused(Failure.GARBAGE)
    if isinstance(error, BufferWriteError):
        failed = HandshakeFailed(Failure.NO_KEY, "our certificate chain is too long for the handshake")
        return failed, Refused(failed.failure)
    return HandshakeFailed(Failure.INTERNAL, type(error).__name__), Refused(Failure.INTERNAL)
