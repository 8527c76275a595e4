"""The server's side of a handshake.  The rules: :mod:`.engine`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

from OpenSSL import SSL

from hsframework.credentials.judgement import Verify, check_key, no_trust
from hsframework.credentials.selection import select_identity
from hsframework.failures import Failure, HandshakeFailed
from hsframework.interface import CertificateDemand, Identity, PresharedKey, Role
from hsframework.tls.client_hello import ClientHello, offers_alpn, parse_client_hello
from hsframework_tls13.ciphers import CipherSuite
from hsframework_tls13.client_hello import TLS_1_3, ClientHelloReader, refuse_alert
from hsframework_tls13.contexts import Contexts
from hsframework_tls13.engine_core import Engine, fresh, suites_for
from hsframework_tls13.openssl import Connection
from hsframework_tls13.policy import Choices
from hsframework_tls13.records import split_records


class ServerEngine(Engine):
    """A server's handshake.  It has no OpenSSL state before the first record has come.

    ``psk``: the client must offer a pre-shared key; after each ``feed``, ``psk_identities`` may ask for it, and
    ``provide_psk`` answers.  Else ``identities`` has at least one.
    """

    role = Role.SERVER

    def __init__(
        self,
        contexts: Contexts,
        *,
        identities: Sequence[Identity] = (),
        psk: bool = False,
        alpn: Sequence[str] = (),
        client_certificate: CertificateDemand = CertificateDemand.NONE,
        verify: Verify = no_trust,
        suites: Sequence[CipherSuite] = (),
        choices: Choices | None = None,
    ) -> None:
        super().__init__(contexts, alpn=alpn, verify=verify, suites=suites, choices=choices)
        if not psk and not identities:
            raise HandshakeFailed(Failure.NO_KEY, "a server needs a certificate or a pre-shared key")
        self._identities = tuple(identities)
        self._demand = client_certificate
        self._wants_psk = psk
        # OpenSSL asks for no ALPN where the client offers none, and a client is done before its server can complain.
        self._wants_alpn = bool(self._alpn) and contexts.settings.require_alpn
        self._choosing = psk or len(self._identities) > 1
        self._reader = ClientHelloReader() if self._choosing or self._wants_alpn else None
        self._held: list[bytes] = []
        self._has_looked = False
        self._offered: Sequence[tuple[bytes, int]] = ()

    def provide_psk(self, psk: PresharedKey | None) -> None:
        """Take the key of one of ``psk_identities``; None: there is none.  Raises HandshakeFailed."""
        asked, self.psk_identities = self.psk_identities, ()
        try:
            if psk is None or psk.identity not in asked:
                shown = ", ".join(repr(identity[:128].decode("utf-8", "backslashreplace")) for identity in asked[:4])
                raise HandshakeFailed(Failure.UNKNOWN_PSK, shown)
            suites = suites_for(self._suites, psk)
            self._check_hash(psk)
            self._psk = psk
            self._begin(self._contexts.server(None, CertificateDemand.NONE, suites, psk=True, choices=self._choices))
        except HandshakeFailed as error:
            self._fail(error)
            raise

    def _feed(self, records: bytes) -> int:
        if self._connection is not None:
            return self._take(records)
        if self.psk_identities:
            raise RuntimeError("provide_psk comes first")
        taken = 0
        for record in split_records(records):
            self._begin_with(record)
            taken += len(record)
            if self.psk_identities:
                break
            if self._begun():
                return taken + (self._take(records[taken:]) if taken < len(records) else 0)
        return taken

    def _begun(self) -> bool:
        """True if OpenSSL has the ClientHello."""
        return self._connection is not None

    def _begin_with(self, record: bytes) -> None:
        if self._reader is not None:
            self._read_hello(self._reader, record)
        else:
            refuse_alert(record)
            self._held.append(record)
            self._begin(self._context(self._identities[0]))

    def _read_hello(self, reader: ClientHelloReader, record: bytes) -> None:
        body = reader.feed_raw(record)
        self._held.append(record)
        if body is None:
            return
        self._reader = None
        if not self._choosing and offers_alpn(body):
            self._begin(self._context(self._identities[0]))
            return
        hello = parse_client_hello(body)
        if TLS_1_3 not in hello.supported_versions:
            raise HandshakeFailed(Failure.VERSION, "the client does not offer TLS 1.3")
        if self._wants_alpn and not hello.alpn:
            raise HandshakeFailed(Failure.NO_COMMON_ALPN, "the client uses no ALPN")
        if self._wants_psk:
            if not hello.psk_identities:
                raise HandshakeFailed(Failure.NO_COMMON_PARAMETERS, "the client offers no pre-shared key")
            self.psk_identities = hello.psk_identities
            self._offered = tuple(zip(hello.psk_identities, hello.psk_binder_sizes, strict=True))
        else:
            self._begin(self._context(self._choose(hello)))

    def _check_hash(self, psk: PresharedKey) -> None:
        """Refuse a key whose hash the binder does not have (RFC 8446 section 4.2.11).

        OpenSSL would report garbage.
        """
        sizes = {size for identity, size in self._offered if identity == psk.identity}
        if hashlib.new(psk.hash).digest_size not in sizes:
            theirs = " and ".join(f"{8 * size} bits" for size in sorted(sizes))
            detail = f"the client uses the pre-shared key with a hash of {theirs}, here it is for {psk.hash}"
            raise HandshakeFailed(Failure.NO_COMMON_PARAMETERS, detail)

    def _context(self, identity: Identity) -> SSL.Context:
        return self._contexts.server(identity, self._demand, self._suites, choices=self._choices)

    def _choose(self, hello: ClientHello) -> Identity:
        own, theirs = self._choices.signatures, hello.signature_algorithms
        self.used_server_name = len(self._identities) > 1 and hello.server_name is not None
        try:
            signatures = tuple(code for code in theirs if code in own) if own else theirs
            chosen = select_identity(self._identities, signatures, hello.server_name)
        except (ValueError, IndexError) as error:
            raise HandshakeFailed(Failure.NO_KEY, f"our own certificate cannot be read: {error}") from None
        # OpenSSL then says that there is nothing in common.
        return self._identities[0] if chosen is None else chosen

    def _begin(self, context: SSL.Context) -> None:
        self._connection = Connection(context, client=False)
        for record in self._held:
            self._take(record)
        self._held.clear()

    def on_certificate(self, chain: Callable[[], tuple[bytes, ...]]) -> Failure | None:
        """Look at the client's key alone, before OpenSSL verifies a signature with it."""
        if not self._has_looked:
            self._has_looked = True
            try:
                check_key(chain()[0])
            except HandshakeFailed as refusal:
                self._refusal = fresh(refusal)
        return None if self._refusal is None else self._refusal.failure

    def _check(self, connection: Connection) -> None:
        """Judge the client's certificates.

        After its Finished: alerts of both moments go out under the same key, and OpenSSL has all of the chain only now.
        """
        if self._demand is not CertificateDemand.NONE:
            shown = connection.client_certificates
            try:
                self._believed = self._verify(shown) if shown else None
            except Exception as error:  # a failure of the judge itself admits nobody
                self.callback_failed(error)
            if self._refusal is not None:
                raise fresh(self._refusal)
        if self._wants_psk and not connection.resumed:
            raise HandshakeFailed(Failure.INTERNAL, "the pre-shared key was not used")
        if self._demand is CertificateDemand.REQUIRE and not self._wants_psk and not self._believed:
            raise HandshakeFailed(Failure.INTERNAL, "the client's certificate was not judged")
