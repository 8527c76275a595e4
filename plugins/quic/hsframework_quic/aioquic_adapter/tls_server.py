"""The server's side of TLS.  The rules: :mod:`.tls`."""

from __future__ import annotations

import secrets

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.tls import HandshakeType
from cryptography.hazmat.primitives import hashes

from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand
from hsframework.tls import client_hello as extension, messages
from hsframework.tls.client_hello import ClientHello
from hsframework_quic.aioquic_adapter.tls_engine import Engine
from hsframework_quic.aioquic_adapter.tls_hello import TLS_1_3, Retry, check_binder, check_second_hello
from hsframework_quic.aioquic_adapter.tls_options import Resumable
from hsframework_quic.aioquic_adapter.tls_own import chosen


class ServerSide(Engine):
    """The server's departures from aioquic's engine."""

    def _server_handle_hello(self, input_buf: Buffer, initial_buf: Buffer, handshake_buf: Buffer) -> None:
        hello = self._hello
        assert hello is not None
        identity = chosen(self.options.identities, self._common(hello.signature_algorithms), hello.server_name)
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
        """Send HelloRetryRequest if that helps (RFC 8446 section 4.1.4).

        Return False if the ClientHello will do, or nothing will.
        """
        if self._retry is not None:
            check_second_hello(hello, self._retry)
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
        self._retry = Retry(hello, group, stands_for_it + output.data_slice(start, output.tell()))
        return True

    def _find(self, ticket: bytes, hello: ClientHello) -> tls.SessionTicket | None:
        """Return the session to resume; None: a full handshake.  aioquic resumes it."""
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
        check_binder(session.ticket, self._message)
        self._resumable = session, believed
        self._request_client_certificate = False  # aioquic would not ask for it, and would wait for it
        return session.ticket

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
            ticket_age_add=int.from_bytes(secrets.token_bytes(4), "big"),
            ticket_nonce=secrets.token_bytes(8),
        )
        ticket = self.options.issue(Resumable(self._build_session_ticket(offer, []), self._chain))
        if ticket:
            offer.ticket = ticket
            tls.push_new_session_ticket(output, offer)
