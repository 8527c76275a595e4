"""The client's side of TLS.  The rules: :mod:`.tls`."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from aioquic import tls
from aioquic.buffer import Buffer

from hsframework.failures import Failure, HandshakeFailed
from hsframework_quic.aioquic_adapter.tls_engine import Engine
from hsframework_quic.aioquic_adapter.tls_errors import Violation
from hsframework_quic.aioquic_adapter.tls_options import Resumable, keep_none
from hsframework_quic.aioquic_adapter.tls_own import chosen

MAX_TICKET_LIFETIME = 7 * 24 * 3600
"""Seconds for which a server's ticket is kept at most (RFC 8446 section 4.6.1)."""
MAX_TICKETS = 8
"""Of one server, on one connection, that are kept."""


class ClientSide(Engine):
    """The client's departures from aioquic's engine."""

    def _offer_resumption(self) -> None:
        session = self.options.resume
        if session is None or session.ticket.cipher_suite not in self._cipher_suites:
            return
        try:
            believed = self.options.verify(session.chain)
        except HandshakeFailed:
            return  # no longer trusted: a full handshake says why
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
            self._present(chosen(self.options.identities, schemes, None), schemes)
        super()._client_handle_finished(input_buf, output_buf)

    def _keep(self, ticket: tls.SessionTicket) -> None:
        self._tickets += 1
        if ticket.max_early_data_size not in (None, 0xFFFFFFFF):
            raise Violation("max_early_data_size of a ticket is not 0xffffffff")  # RFC 9001 section 4.6.1
        seconds = (ticket.not_valid_after - ticket.not_valid_before).total_seconds()
        if not 0 < seconds <= MAX_TICKET_LIFETIME or self._tickets > MAX_TICKETS:
            return
        self.options.keep(Resumable(replace(ticket, max_early_data_size=None), self._chain))
