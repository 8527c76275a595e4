"""The TLS engine that both roles share.  The rules: :mod:`.tls`."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.tls import Direction, Epoch, HandshakeType, State
from cryptography.hazmat.primitives import hashes

from hsframework.credentials.names import parse_ip_literal
from hsframework.credentials.selection import scheme_for
from hsframework.errors import HandshakeError
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, PeerIdentity, Role, Secret
from hsframework.tls import messages, signatures
from hsframework.tls.client_hello import ClientHello, extensions_of
from hsframework_quic.aioquic_adapter.tls_errors import Violation, told
from hsframework_quic.aioquic_adapter.tls_hello import Retry, check_client_hello
from hsframework_quic.aioquic_adapter.tls_options import Resumable, TlsOptions
from hsframework_quic.aioquic_adapter.tls_own import Der, Signer
from hsframework_quic.aioquic_adapter.tls_turns import EXPECTED, MAX_SIZES, NOTHING
from hsframework_quic.algorithms import AES_128_CCM_SHA256, CIPHER_SUITES, GROUPS

_KEY_LOG_LABELS = {
    (Role.CLIENT, Epoch.HANDSHAKE): "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
    (Role.SERVER, Epoch.HANDSHAKE): "SERVER_HANDSHAKE_TRAFFIC_SECRET",
    (Role.CLIENT, Epoch.ONE_RTT): "CLIENT_TRAFFIC_SECRET_0",
    (Role.SERVER, Epoch.ONE_RTT): "SERVER_TRAFFIC_SECRET_0",
}
_SUITE_NAMES = {code: name for name, code in CIPHER_SUITES.items()} | {AES_128_CCM_SHA256: "TLS_AES_128_CCM_SHA256"}
_GROUP_NAMES = {code: name for name, code in GROUPS.items()}

tls.CIPHER_SUITES.setdefault(AES_128_CCM_SHA256, hashes.SHA256)

_CERT_NONE = 0
"""As ``ssl`` has it, which does I/O."""

TrafficKeyHandler = Callable[[Direction, Epoch, tls.CipherSuite, bytes], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreed:
    """The outcome of a finished handshake."""

    peer: PeerIdentity
    alpn: str | None
    cipher: str
    group: str
    resumed: bool
    exporter_secret: Secret
    """exporter_master_secret (RFC 8446 section 7.5)."""


class Engine(tls.Context):
    """A TLS handshake.  Set ``level``, then ``handle_message``.  ``failure``: its error; ``agreed``: its outcome."""

    def __init__(self, options: TlsOptions) -> None:
        self._key_handler: TrafficKeyHandler = lambda direction, epoch, suite, secret: None
        self._retry: Retry | None = None
        super().__init__(
            is_client=options.role is Role.CLIENT,
            alpn_protocols=list(options.alpn) or None,
            cipher_suites=[_suite(code) for code in options.cipher_suites],
            server_name=_server_name(options.server_name),
            verify_mode=_CERT_NONE,  # aioquic's own opinion is not asked for
        )
        self.options = options
        self.level: Epoch | None = None
        """Of the data that ``handle_message`` is given next."""
        self.failure: HandshakeError | None = None
        self._raised: Exception | None = None
        self._supported_groups = [tls.Group(code) for code in options.groups]
        self._signature_algorithms = list(options.signatures)
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
        """Take over the settings that a QuicConnection has made on its own context."""
        self.handshake_extensions = other.handshake_extensions
        self.alpn_cb = other.alpn_cb
        self.update_traffic_key_cb = other.update_traffic_key_cb

    @property
    def finished(self) -> bool:
        """True if the handshake is complete (RFC 9001 section 4.1.1)."""
        return self.failure is None and self.state in (State.CLIENT_POST_HANDSHAKE, State.SERVER_POST_HANDSHAKE)

    @property
    def agreed(self) -> Agreed:
        """The outcome, once ``finished``."""
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

    # Called and set by aioquic's connection and its engine.

    @property
    def key_schedule(self) -> tls.KeySchedule | None:
        """The key schedule; after a HelloRetryRequest of ours it begins with the first two messages."""
        return self._key_schedule

    @key_schedule.setter
    def key_schedule(self, schedule: tls.KeySchedule | None) -> None:
        if schedule is not None and self._retry is not None:
            schedule.update_hash(self._retry.transcript)
        self._key_schedule = schedule

    @property
    def update_traffic_key_cb(self) -> TrafficKeyHandler:
        """The function that gets each secret, after the key log."""
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
            self.failure, self._raised = told(error)
            raise self._raised from None

    # Messages, whole and in their turn.

    def _start(self, output: Buffer) -> None:
        self._offer_resumption()
        self._client_send_hello(output)
        self._offered = extensions_of(output.data[4:])

    def _offer_resumption(self) -> None:
        """Offer a session for resumption; a client does so before its ClientHello."""

    def _take(self, data: bytes, output: dict[Epoch, Buffer]) -> None:
        self._waiting += data
        while self._waiting:
            level, kinds = EXPECTED.get(self.state, (None, NOTHING))
            if level is None or self.level is not level:
                raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"handshake data at level {self.level}")
            size = self._size_of_next(kinds)
            if size is None:
                return
            message = self._message = bytes(self._waiting[:size])
            del self._waiting[:size]
            self._check(message[0], message[4:])
            self._handle_reassembled_message(message[0], Buffer(data=message), output)
            if self._waiting and EXPECTED[self.state][0] is not level:
                raise Violation("handshake data goes on at a level that has ended")

    def _size_of_next(self, kinds: frozenset[int]) -> int | None:
        """Return the bytes of the next message; None: it is not whole yet."""
        kind = self._waiting[0]
        if kind not in kinds:
            if self.state == State.CLIENT_POST_HANDSHAKE and kind == HandshakeType.CERTIFICATE_REQUEST:
                raise Violation("a CertificateRequest after the handshake")  # RFC 9001 section 4.4
            raise HandshakeFailed(Failure.UNEXPECTED_MESSAGE, f"handshake message {kind} in state {self.state.name}")
        if len(self._waiting) < 4:
            return None
        size = int.from_bytes(self._waiting[1:4], "big")
        if size > MAX_SIZES[kind]:
            raise HandshakeFailed(Failure.GARBAGE, f"handshake message {kind} of {size} bytes")
        return 4 + size if len(self._waiting) >= 4 + size else None

    def _check(self, kind: int, body: bytes) -> None:
        """Check a message as aioquic does not."""
        if kind == HandshakeType.CLIENT_HELLO:
            self._hello = check_client_hello(body)
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
        """Do nothing: ``_check`` has read the chain, and the signature is checked with its leaf."""

    def _check_certificate_verify_signature(self, verify: tls.CertificateVerify) -> None:
        if verify.algorithm not in self.options.signatures:
            raise HandshakeFailed(Failure.ILLEGAL_PARAMETER, f"signature scheme {verify.algorithm:#06x} not offered")
        context = signatures.SERVER_CONTEXT if self._is_client else signatures.CLIENT_CONTEXT
        content = self._schedule.certificate_verify_data(context)
        signatures.verify(self._chain[0], verify.algorithm, verify.signature, content)
        self._believed = self.options.verify(self._chain)

    def _signature_algorithms_for_private_key(self) -> list[Any]:
        signer = self.certificate_private_key
        return [signer.scheme] if isinstance(signer, Signer) else []

    def _present(self, identity: Identity | None, offered: tuple[int, ...]) -> None:
        """Show ``identity`` when the time comes; None: an empty Certificate."""
        scheme = None if identity is None else scheme_for(identity, self._common(offered))
        if identity is None or scheme is None:
            self.certificate, self.certificate_private_key = None, None
            return
        leaf, *rest = (Der(der) for der in identity.chain)
        self.certificate = cast(Any, leaf)
        self.certificate_chain = cast(Any, rest)
        self.certificate_private_key = cast(Any, Signer(identity, scheme))

    def _common(self, offered: tuple[int, ...]) -> tuple[int, ...]:
        """Return the signature schemes of the peer's offer that may be used here."""
        return tuple(code for code in offered if code in self.options.signatures)

    def _check_finished(self, expected: bytes) -> None:
        if not hmac.compare_digest(self._message[4:], expected):
            raise HandshakeFailed(Failure.BAD_SIGNATURE, "Finished does not verify")
        self.options.authorize(self._peer)

    def _take_over_resumed(self) -> None:
        if self.session_resumed and self._resumable is not None:
            session, self._believed = self._resumable
            self._chain = session.chain

    @property
    def _schedule(self) -> tls.KeySchedule:
        if self.key_schedule is None:
            raise RuntimeError("no cipher suite has been agreed on")
        return self.key_schedule


def _suite(code: int) -> tls.CipherSuite:
    """Return aioquic's name for a cipher suite, or the bare number of AES-CCM, which has no name there."""
    return cast(tls.CipherSuite, code) if code == AES_128_CCM_SHA256 else tls.CipherSuite(code)


def _server_name(name: str | None) -> str | None:
    """Return the name for SNI (RFC 6066 section 3): no IP literal, no trailing dot, and only a DNS name."""
    if name is None or parse_ip_literal(name) is not None or not name.isascii():
        return None
    return name.removesuffix(".") or None
