"""The client's side of a handshake.  The rules: :mod:`.engine`."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence

from hsframework.credentials.judgement import Verify, no_trust
from hsframework.credentials.selection import select_identity
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import Identity, PresharedKey, Role
from hsframework.tls.messages import check_certificate_request, extensions_of_server_hello
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine_core import Engine, fresh, suites_for
from hsframework_tls13.openssl import Connection, is_known_extension
from hsframework_tls13.policy import Choices
from hsframework_tls13.records import HANDSHAKE, HEADER_SIZE, body_size

_SERVER_HELLO = b"\2"


class ClientEngine(Engine):
    """A client's handshake.  It has its ClientHello to send from the start.

    ``psk``: offered alone, and a server that answers with a certificate is refused.  Only one: OpenSSL offers one
    external PSK.  ``server_name``: a DNS name for SNI; IP literals are not sent (RFC 6066 section 3).
    ``choices``: None: the settings'.  ``best_group_alone``: send one key share (:mod:`.prediction`).
    """

    role = Role.CLIENT

    def __init__(
        self,
        contexts: Contexts,
        *,
        server_name: str | None = None,
        alpn: Sequence[str] = (),
        identities: Sequence[Identity] = (),
        psk: PresharedKey | None = None,
        verify: Verify = no_trust,
        suites: Sequence[CipherSuite] = (),
        choices: Choices | None = None,
        best_group_alone: bool = False,
    ) -> None:
        super().__init__(contexts, alpn=alpn, verify=verify, suites=suites, choices=choices)
        choices = self._choices
        self._psk = psk
        self._identities = tuple(identities)
        self._heard = False
        if psk is None:
            context = contexts.client(identities, self._suites, choices=choices, best_group_alone=best_group_alone)
        else:
            fitting = suites_for(self._suites, psk)
            context = contexts.client((), fitting, psk=True, choices=choices, best_group_alone=best_group_alone)
        connection = self._connection = Connection(context, client=True)
        connection.ask_for(None if server_name is None else sni(server_name), self._alpn)
        self._step(connection)

    def _feed(self, records: bytes) -> int:
        if not self._heard and records[0] == HANDSHAKE:
            self._heard = True
            self._refuse_unknown(records)
        return self._take(records)

    def _refuse_unknown(self, records: bytes) -> None:
        """Refuse an extension of the ServerHello that nobody offers; OpenSSL passes it over (RFC 8446 section 4.2)."""
        size = HEADER_SIZE + body_size(records[:HEADER_SIZE])
        message = records[HEADER_SIZE:size]
        if message[:1] != _SERVER_HELLO or int.from_bytes(message[1:4], "big") != len(message) - 4:
            return  # split over records, or something else: OpenSSL's business
        for number in extensions_of_server_hello(message[4:]):
            if not is_known_extension(number):
                detail = f"extension {number} in the ServerHello was not offered"
                raise HandshakeFailed(Failure.UNSUPPORTED_EXTENSION, detail)

    def on_certificate_request(self, body: bytes) -> None:
        if len(self._identities) > 1:
            self._choose(check_certificate_request(body))

    def on_certificate(self, chain: Callable[[], tuple[bytes, ...]]) -> None:
        """Judge the server's certificates.

        After a refusal OpenSSL goes on up to the keys under which the alert has to go; its flight is dropped.
        """
        if self._believed is None and self._refusal is None:
            try:
                self._believed = self._judge(chain())
            except HandshakeFailed as refusal:
                self._refusal = fresh(refusal)

    def _judge(self, chain: tuple[bytes, ...]) -> tuple[bytes, ...]:
        if self._psk is not None:
            raise HandshakeFailed(
                Failure.NO_COMMON_PARAMETERS, "the server does not take the pre-shared key and shows a certificate"
            )
        return self._verify(chain)

    def _choose(self, theirs: tuple[int, ...]) -> None:
        """Show the first identity that the server takes; OpenSSL's context has one alone of each type of key."""
        own = self._choices.signatures
        try:
            fitting = tuple(code for code in theirs if code in own) if own else theirs
            chosen = select_identity(self._identities, fitting, None)
            if chosen is not None and self._connection is not None:
                self._connection.show(chosen)
        except (ValueError, IndexError) as error:
            raise HandshakeFailed(Failure.NO_KEY, f"our own certificate cannot be used: {error}") from None

    def _check(self, connection: Connection) -> None:
        if self._psk is None and not self._believed:
            raise HandshakeFailed(Failure.INTERNAL, "the server's certificate was not judged")
        if self._psk is not None and not connection.resumed:
            raise HandshakeFailed(Failure.NO_COMMON_PARAMETERS, "the server did not take the pre-shared key")


def sni(name: str) -> bytes | None:
    """Return the server_name for a peer's name: an ASCII DNS name without its trailing dot, or None."""
    bare = name.removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        host = name.removesuffix(".")
        usable = host.isascii() and "\0" not in host and 0 < len(host) <= 253
        return host.encode("ascii") if usable else None
    return None
