"""The parts of OpenSSL that pyOpenSSL does not wrap, or not lightly: connections, keys, errors with numbers.

The binding under pyOpenSSL (``OpenSSL._util``) is used here and in :mod:`.openssl_callbacks`, and in no other module.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi, lib as _lib

from hsframework.interface import Identity
from hsframework_tls13.callbacks import Callbacks
from hsframework_tls13.encodings import fragment_limit
from hsframework_tls13.openssl_callbacks import certificate_to_der, chain_of, running

MODE_NO_AUTO_CHAIN = 0x8
MODE_RELEASE_BUFFERS = SSL.MODE_RELEASE_BUFFERS
_memory = _ffi.new_allocator(should_clear_after_alloc=False)
_ALERT_REASONS = 1000
"""OpenSSL's reason for an alert of the peer is its number plus this (SSL_AD_REASON_OFFSET)."""


def set_groups(context: SSL.Context, groups: str) -> bool:
    """Set key exchange groups in OpenSSL's list format; return False if OpenSSL does not take the list."""
    taken = bool(_lib.SSL_CTX_set1_curves_list(context._context, groups.encode("ascii")) == 1)
    _lib.ERR_clear_error()
    return taken


def set_signatures(context: SSL.Context, signatures: str) -> bool:
    """Set signature schemes in OpenSSL's list format, both to make and to take.

    Return False if OpenSSL does not take the list.
    """
    taken = bool(_lib.SSL_CTX_set1_sigalgs_list(context._context, signatures.encode("ascii")) == 1)
    _lib.ERR_clear_error()
    return taken


def use_private_key(context: SSL.Context, der: bytes) -> None:
    """Load a PKCS#8 key of any type that OpenSSL knows.  Raises ValueError.

    pyOpenSSL's own way leaves out ML-DSA.
    """
    _check_taken(_lib.SSL_CTX_use_PrivateKey(context._context, _key(der)._pkey))


def _key(der: bytes) -> crypto.PKey:
    try:
        return crypto.load_privatekey(crypto.FILETYPE_ASN1, der)
    except crypto.Error:
        raise ValueError("the private key cannot be read") from None


def _check_taken(result: int) -> None:
    if result != 1:
        raise ValueError("the identity is not taken: " + "; ".join(entry.reason for entry in drain_errors()))


@dataclass(frozen=True, slots=True)
class Problem:
    """An entry of OpenSSL's error queue.  ``alert``: the peer's, when the entry is about one."""

    library: str
    reason: str
    alert: int | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of one call of SSL_do_handshake.  Neither ``done`` nor an error: it wants more input."""

    done: bool = False
    closed: bool = False
    problems: tuple[Problem, ...] = ()


_WANTS_INPUT = Step()
_DONE = Step(done=True)


class Connection:
    """A handshake on memory BIOs."""

    __slots__ = ("_from_peer", "_ssl", "_to_peer")

    def __init__(self, context: SSL.Context, *, client: bool) -> None:
        ssl = _lib.SSL_new(context._context)
        if ssl == _ffi.NULL:
            raise MemoryError("OpenSSL has no memory for a connection")
        self._ssl = _ffi.gc(ssl, _lib.SSL_free)
        self._from_peer, self._to_peer = _lib.BIO_new(_lib.BIO_s_mem()), _lib.BIO_new(_lib.BIO_s_mem())
        if _ffi.NULL in (self._from_peer, self._to_peer):
            raise MemoryError("OpenSSL has no memory for a connection")
        _lib.SSL_set_bio(ssl, self._from_peer, self._to_peer)
        if client:
            _lib.SSL_set_connect_state(ssl)
        else:
            _lib.SSL_set_accept_state(ssl)

    def ask_for(self, server_name: bytes | None, alpn: Sequence[bytes]) -> None:
        """Set SNI and ALPN of a client."""
        if server_name is not None:
            _lib.SSL_set_tlsext_host_name(self._ssl, server_name)
        if alpn:
            names = b"".join(bytes((len(name),)) + name for name in alpn)
            if _lib.SSL_set_alpn_protos(self._ssl, names, len(names)) != 0:
                raise ValueError("OpenSSL does not take the names of the application protocols")

    def show(self, identity: Identity) -> None:
        """Show this identity in place of the context's with a key of its type.  Raises ValueError."""
        leaf = crypto.load_certificate(crypto.FILETYPE_ASN1, identity.chain[0])
        _check_taken(_lib.SSL_use_certificate(self._ssl, leaf._x509))
        _check_taken(_lib.SSL_use_PrivateKey(self._ssl, _key(identity.private_key.reveal())._pkey))

    def write(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if _lib.BIO_write(self._from_peer, data, len(data)) != len(data):
            raise MemoryError("OpenSSL has no memory for what the peer sent")

    def read(self) -> bytes:
        """Return all bytes for the peer."""
        size = _lib.BIO_get_mem_data(self._to_peer, _ffi.NULL)
        if size <= 0:
            return b""
        output = _memory("char[]", size)
        if _lib.BIO_read(self._to_peer, output, size) != size:
            raise MemoryError("OpenSSL does not give what it has for the peer")
        return bytes(_ffi.buffer(output, size))

    @property
    def unread(self) -> int:
        """The number of bytes that were written and that OpenSSL has not read.

        It reads a record's header and then its body, and no further (SSL_CTX_set_read_ahead is off).
        """
        return int(_lib.BIO_get_mem_data(self._from_peer, _ffi.NULL))

    def step(self, handshake: Callbacks) -> Step:
        """Advance the handshake as far as the input allows.  OpenSSL's questions go to ``handshake``."""
        token = running.set(handshake)
        try:
            _lib.ERR_clear_error()
            result = _lib.SSL_do_handshake(self._ssl)
            if result == 1:
                return _DONE
            error = _lib.SSL_get_error(self._ssl, result)
        finally:
            running.reset(token)
        if error == _lib.SSL_ERROR_WANT_READ:
            return _WANTS_INPUT
        if error == _lib.SSL_ERROR_ZERO_RETURN:
            return Step(closed=True)
        return Step(problems=drain_errors() or (Problem("", f"SSL_get_error {error}"),))

    @property
    def client_certificates(self) -> tuple[bytes, ...]:
        """The client's certificates as it sent them, once a server's handshake is over; empty: it showed none."""
        leaf = _lib.SSL_get_peer_certificate(self._ssl)
        if leaf == _ffi.NULL:
            return ()
        try:
            return (certificate_to_der(leaf), *chain_of(self._ssl))
        finally:
            _lib.X509_free(leaf)

    @property
    def cipher(self) -> str:
        """The suite's name; "" before there is one."""
        suite = _lib.SSL_get_current_cipher(self._ssl)
        return "" if suite == _ffi.NULL else _text(_lib.SSL_CIPHER_get_name(suite))

    @property
    def group(self) -> str:
        """The name of the key exchange's group; "" before there is one."""
        # OpenSSL looks into the session without looking whether there is one.
        if _lib.SSL_get_session(self._ssl) == _ffi.NULL:
            return ""
        return _text(_lib.SSL_get0_group_name(self._ssl))

    @property
    def alpn(self) -> bytes:
        """The application protocol that was agreed on; b"": none."""
        name, size = _ffi.new("unsigned char **"), _ffi.new("unsigned int *")
        _lib.SSL_get0_alpn_selected(self._ssl, name, size)
        return bytes(_ffi.buffer(name[0], size[0])) if size[0] else b""

    @property
    def max_fragment(self) -> int | None:
        """The limit of a record's content, 512 to 4096 bytes, that a client asked for and OpenSSL agreed to; or None.

        RFC 6066 section 4.  OpenSSL cannot be told not to agree, and tells only in the session's encoding (tag 17).
        """
        session = _lib.SSL_get_session(self._ssl)
        if session == _ffi.NULL:
            return None
        size = _lib.i2d_SSL_SESSION(session, _ffi.NULL)
        if size <= 0:
            return None
        encoded = _memory("unsigned char[]", size)
        _lib.i2d_SSL_SESSION(session, _ffi.new("unsigned char **", encoded))
        return fragment_limit(_ffi.buffer(encoded, size)[:])

    @property
    def resumed(self) -> bool:
        """True if the handshake rests on a PSK."""
        return bool(_lib.SSL_session_reused(self._ssl) == 1)


def is_known_extension(number: int) -> bool:
    """Return True if OpenSSL handles extensions of this number itself."""
    return bool(_lib.SSL_extension_supported(number) == 1)


def drain_errors() -> tuple[Problem, ...]:
    """Empty this thread's error queue, the oldest entry first."""
    problems: list[Problem] = []
    while (code := _lib.ERR_get_error()) != 0:
        number = _lib.ERR_GET_REASON(code)
        library = _text(_lib.ERR_lib_error_string(code))
        is_alert = library == "SSL routines" and _ALERT_REASONS <= number <= _ALERT_REASONS + 255
        reason = _text(_lib.ERR_reason_error_string(code)) or f"reason {number}"
        problems.append(Problem(library, reason, number - _ALERT_REASONS if is_alert else None))
    return tuple(problems)


def _text(pointer: Any) -> str:
    return "" if pointer == _ffi.NULL else str(_ffi.string(pointer).decode("ascii", "replace"))
