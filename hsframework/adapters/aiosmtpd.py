"""STARTTLS in aiosmtpd (``pip install hsframework[aiosmtpd]``).

::

    class Mail(aiosmtpd.controller.Controller):
        def factory(self):
            return SessionSMTP(self.handler, client=client, options=server_options)

The client belongs to the loop that the server runs on.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aiosmtpd.smtp import SMTP, TLSSetupException, syntax

from hsframework.adapters.aio import over_socket, take_socket
from hsframework.client import AsyncClient, HandshakeOptions


class SessionSMTP(SMTP):
    """aiosmtpd's protocol with a STARTTLS of ours.

    ``required``: refuse mail in plain text.  ``session.ssl`` of its handlers has what a transport's ``get_extra_info``
    tells: ``ssl_object``, ``peercert``.
    """

    def __init__(
        self, handler: Any, *, client: AsyncClient, options: HandshakeOptions, required: bool = False, **others: Any
    ) -> None:
        super().__init__(handler, **others)
        self._client = client
        self._options = options
        self.tls_context: Any = SimpleNamespace()  # present: STARTTLS is offered
        self.require_starttls: Any = required

    @syntax("STARTTLS", when="tls_context")
    async def smtp_STARTTLS(self, arg: str) -> None:
        """Run the handshake on the connection, and begin anew."""
        if arg:
            await self.push("501 Syntax: STARTTLS")
            return
        await self.push("220 Ready to start TLS")
        plain = self.transport
        assert plain is not None
        try:
            sock = await take_socket(plain)
            self._original_transport = plain
            self._tls_protocol: Any = SimpleNamespace(_extra={})
            transport, _ = await over_socket(self._client, lambda: self, sock, self._options)
        except OSError as error:
            raise TLSSetupException from error
        self._tls_protocol._extra.update(
            {name: transport.get_extra_info(name) for name in ("ssl_object", "peercert", "cipher")}
        )
