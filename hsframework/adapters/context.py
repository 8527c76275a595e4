"""The service in the place of an ``ssl.SSLContext``, for libraries that take one.

::

    context = SessionContext(client, trust=load_trust(["ca.pem"]))
    http.client.HTTPSConnection("server.example", context=context)
    urllib3.PoolManager(ssl_context=context)
    smtplib.SMTP("mail.example").starttls(context=context)
    httpx.Client(verify=context)

What such a library sets on a context is kept for it to read again, and changes nothing in the judgement of the peer:
that is by ``trust``, or the profile's.  So ``verify=False`` makes nothing weaker.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hsframework.adapters.sockets import SessionSocket
from hsframework.adapters.template import OptionsTemplate
from hsframework.client import Client
from hsframework.errors import ConfigurationError
from hsframework.interface import Role

CERT_REQUIRED = 2  # ssl.CERT_REQUIRED


class SessionContext:
    """The part of ``ssl.SSLContext`` that libraries use, over a blocking client.

    ``fields``: those of :class:`~hsframework.client.HandshakeOptions`; the peer's name is the host that the library
    connects to.  Raises ConfigurationError.
    """

    def __init__(self, client: Client, **fields: Any) -> None:
        self.client = client
        self.verify_mode: int = CERT_REQUIRED
        self.check_hostname = True
        self.hostname_checks_common_name = False
        self.post_handshake_auth = False
        self._template = OptionsTemplate(**fields)
        self._alpn: tuple[str, ...] = ()

    def set_alpn_protocols(self, alpn_protocols: Sequence[str]) -> None:
        """Offer these application protocols, unless the fields name some."""
        self._alpn = tuple(alpn_protocols)

    def load_verify_locations(self, *_: object, **__: object) -> None:
        """Do nothing: trust is that of the fields, or the profile's."""

    def load_default_certs(self, *_: object) -> None:
        """Do nothing: trust is that of the fields, or the profile's."""

    def load_cert_chain(self, certfile: str | Path, *_: object, **__: object) -> None:
        """Raise ConfigurationError: a certificate that the library was given would not be shown."""
        raise ConfigurationError(f"{certfile}: give the identity in ``identities``, or in a profile of the service")

    def wrap_socket(
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = False,
        server_hostname: str | bytes | None = None,
        session: Any = None,
    ) -> SessionSocket:
        """Run the handshake on a connected socket and return the session as a socket, which owns it.

        Raises ConfigurationError for a side that is not the fields', ClientError, OSError.
        """
        if server_side is not (self._template.role is Role.SERVER):
            raise ConfigurationError(
                f"the fields are a {self._template.role.name.lower()}'s, and the library asks for the other side"
            )
        name = server_hostname.decode("ascii") if isinstance(server_hostname, bytes) else server_hostname
        return SessionSocket.wrap(self.client, sock, self._template.for_peer(name, self._alpn))
