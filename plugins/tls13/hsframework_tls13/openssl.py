"""The parts of OpenSSL that pyOpenSSL does not wrap, or not lightly: callbacks, connections, errors with numbers.

The binding under pyOpenSSL (``OpenSSL._util``) is used here and in no other module.  The rules:

* The C callbacks are made once, when this module is imported, and serve all contexts.  OpenSSL calls them from within
  :meth:`Connection.step` alone, so the handshake that they are about is the one whose step runs on their thread.
* No exception leaves a callback: it goes to the handshake's ``callback_failed``, and OpenSSL is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

from OpenSSL import SSL, crypto
from OpenSSL._util import ffi as _ffi, lib as _lib

from hsframework.failures import Failure
from hsframework.interface import Identity, PresharedKey
from hsframework_tls13.callbacks import CERTIFICATE, CERTIFICATE_REQUEST, Callbacks
from hsframework_tls13.encodings import fragment_limit, split_names
from hsframework_tls13.records import HANDSHAKE

MODE_NO_AUTO_CHAIN = 0x8
MODE_RELEASE_BUFFERS = SSL.MODE_RELEASE_BUFFERS
_ALERT_REASONS = 1000
"""OpenSSL's reason for an alert of the peer is its number plus this (SSL_AD_REASON_OFFSET)."""

_VERIFY_ERRORS = {
    Failure.UNTRUSTED: _lib.X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
    Failure.BAD_CERTIFICATE: _lib.X509_V_ERR_CERT_REJECTED,
    Failure.WRONG_NAME: _lib.X509_V_ERR_HOSTNAME_MISMATCH,
    Failure.WRONG_USAGE: _lib.X509_V_ERR_INVALID_PURPOSE,
    Failure.WRONG_KEY: _lib.X509_V_ERR_SUBJECT_ISSUER_MISMATCH,
    Failure.REVOKED: _lib.X509_V_ERR_CERT_REVOKED,
    Failure.EXPIRED: _lib.X509_V_ERR_CERT_HAS_EXPIRED,
    Failure.BAD_SIGNATURE: _lib.X509_V_ERR_CERT_SIGNATURE_FAILURE,
    Failure.NO_COMMON_PARAMETERS: _lib.X509_V_ERR_APPLICATION_VERIFICATION,
    Failure.INTERNAL: _lib.X509_V_ERR_OUT_OF_MEM,
}
"""The verification error from which OpenSSL makes the alert of each failure."""

HANDSHAKE_HEADER_SIZE = 4
"""Bytes of the header of a handshake message (RFC 8446 section 4)."""

_ACKNOWLEDGE = int(_lib.SSL_TLSEXT_ERR_OK)

_running: ContextVar[Callbacks | None] = ContextVar("the handshake whose step runs here", default=None)
_STORE_INDEX = _lib.SSL_get_ex_data_X509_STORE_CTX_idx()
_memory = _ffi.new_allocator(should_clear_after_alloc=False)
T = TypeVar("T")
_INTERNAL: Failure | None = Failure.INTERNAL


def _guarded(on_error: T, call: Callable[[Callbacks], T]) -> T:
    handshake = _running.get()
    if handshake is None:
        return on_error
    try:
        return call(handshake)
    except Exception as error:
        handshake.callback_failed(error)
        return on_error


@_ffi.callback("void(*)(SSL *, char *)")  # type: ignore[untyped-decorator]
def _keylog_callback(_ssl: Any, line: Any) -> None:
    handshake = _running.get()
    if handshake is not None:
        handshake.key_log.append(_ffi.string(line))


@_ffi.callback("void(*)(int, int, int, const void *, size_t, SSL *, void *)")  # type: ignore[untyped-decorator]
def _message_callback(
    written: int, _version: int, content_type: int, data: Any, size: int, _ssl: Any, _argument: Any
) -> None:
    if written or content_type != HANDSHAKE or size < HANDSHAKE_HEADER_SIZE:
        return
    kind = _ffi.cast("const unsigned char *", data)[0]
    if kind in (CERTIFICATE, CERTIFICATE_REQUEST):
        body = _ffi.buffer(data, size)[HANDSHAKE_HEADER_SIZE:]
        _guarded(None, lambda handshake: handshake.on_message(kind, body))


@_ffi.callback("int(*)(int, X509_STORE_CTX *)")  # type: ignore[untyped-decorator]
def _verify_callback(_ok: int, store: Any) -> int:
    # OpenSSL's own opinion, about a path to no anchor, is not asked.
    failure = _guarded(_INTERNAL, lambda handshake: handshake.on_certificate(lambda: _peer_chain(store)))
    if failure is None:
        return 1
    _lib.X509_STORE_CTX_set_error(store, _VERIFY_ERRORS.get(failure, _lib.X509_V_ERR_APPLICATION_VERIFICATION))
    return 0


@_ffi.callback("int(*)(SSL *, unsigned char **, unsigned char *, unsigned char *, unsigned int, void *)")  # type: ignore[untyped-decorator]
def _alpn_callback(_ssl: Any, out: Any, out_size: Any, offered: Any, size: int, _argument: Any) -> int:
    names = split_names(_ffi.buffer(offered, size)[:])

    def choose(handshake: Callbacks) -> int:
        if not handshake.wants_alpn:
            return int(_lib.SSL_TLSEXT_ERR_NOACK)
        chosen = handshake.on_alpn(tuple(names))
        if chosen is None:
            return int(_lib.SSL_TLSEXT_ERR_ALERT_FATAL)
        out[0] = offered + names[chosen]  # OpenSSL keeps the pointer: it must be into its own memory
        out_size[0] = len(chosen)
        return int(_lib.SSL_TLSEXT_ERR_OK)

    return _guarded(int(_lib.SSL_TLSEXT_ERR_ALERT_FATAL), choose)


@_ffi.callback("int(*)(SSL *, int *, void *)")  # type: ignore[untyped-decorator]
def _server_name_callback(_ssl: Any, _alert: Any, _argument: Any) -> int:
    unused = int(_lib.SSL_TLSEXT_ERR_NOACK)
    return _guarded(unused, lambda handshake: _ACKNOWLEDGE if handshake.used_server_name else unused)


@_ffi.callback("int(*)(SSL *, EVP_MD *, unsigned char **, size_t *, SSL_SESSION **)")  # type: ignore[untyped-decorator]
def _use_psk_callback(ssl: Any, _digest: Any, identity: Any, size: Any, session: Any) -> int:
    def offer(handshake: Callbacks) -> int:
        key = handshake.on_psk(None)
        if key is None:
            return 0
        session[0] = _psk_session(ssl, key)
        handshake.psk_identity_memory = _ffi.new("unsigned char[]", key.identity)
        identity[0], size[0] = handshake.psk_identity_memory, len(key.identity)
        return 1

    return _guarded(0, offer)


@_ffi.callback("int(*)(SSL *, unsigned char *, size_t, SSL_SESSION **)")  # type: ignore[untyped-decorator]
def _find_psk_callback(ssl: Any, identity: Any, size: int, session: Any) -> int:
    def find(handshake: Callbacks) -> int:
        key = handshake.on_psk(_ffi.buffer(identity, size)[:])
        session[0] = _ffi.NULL if key is None else _psk_session(ssl, key)
        return 1

    session[0] = _ffi.NULL
    return _guarded(0, find)


def _psk_session(ssl: Any, key: PresharedKey) -> Any:
    """Return a new SSL_SESSION that stands for an external PSK; OpenSSL takes it over."""
    suite = b"\x13\x02" if key.hash == "sha384" else b"\x13\x01"
    secret = key.key.reveal()
    session = _lib.Cryptography_SSL_SESSION_new()
    complete = (
        _lib.SSL_SESSION_set1_master_key(session, secret, len(secret)) == 1
        and _lib.SSL_SESSION_set_cipher(session, _lib.SSL_CIPHER_find(ssl, suite)) == 1
        and _lib.SSL_SESSION_set_protocol_version(session, SSL.TLS1_3_VERSION) == 1
    )
    if not complete:
        _lib.SSL_SESSION_free(session)
        raise ValueError("OpenSSL does not take the pre-shared key")
    return session


def _peer_chain(store: Any) -> tuple[bytes, ...]:
    """Return the server's certificates as it sent them.  A server's OpenSSL has them only afterwards: empty."""
    stack = _lib.SSL_get_peer_cert_chain(_ffi.cast("SSL *", _lib.X509_STORE_CTX_get_ex_data(store, _STORE_INDEX)))
    if stack == _ffi.NULL:
        return ()
    return tuple(_certificate_to_der(_lib.sk_X509_value(stack, index)) for index in range(_lib.sk_X509_num(stack)))


def _certificate_to_der(certificate: Any) -> bytes:
    bio = _lib.BIO_new(_lib.BIO_s_mem())
    try:
        if _lib.i2d_X509_bio(bio, certificate) != 1:
            raise ValueError("OpenSSL cannot encode the peer's certificate")
        data = _ffi.new("char **")
        size = _lib.BIO_get_mem_data(bio, data)
        return bytes(_ffi.buffer(data[0], size))
    finally:
        _lib.BIO_free(bio)


def install_callbacks(
    context: SSL.Context, *, verify_mode: int, psk: bool, messages: bool, server: bool = False
) -> None:
    """Connect a context to the callbacks of this module.

    ``messages``: call ``on_message`` too; OpenSSL then calls back for every record and message, some 15 microseconds.
    """
    pointer = context._context
    _lib.SSL_CTX_set_keylog_callback(pointer, _keylog_callback)
    _lib.SSL_CTX_set_alpn_select_cb(pointer, _alpn_callback, _ffi.NULL)
    if verify_mode != SSL.VERIFY_NONE:
        _lib.SSL_CTX_set_verify(pointer, verify_mode, _verify_callback)
        _lib.SSL_CTX_set_verify_depth(pointer, 0)  # it would verify signatures that our judge has not chosen
    if messages:
        _lib.SSL_CTX_set_msg_callback(pointer, _message_callback)
    if server:
        _lib.SSL_CTX_set_tlsext_servername_callback(pointer, _server_name_callback)
    if psk:
        _lib.SSL_CTX_set_psk_use_session_callback(pointer, _use_psk_callback)
        _lib.SSL_CTX_set_psk_find_session_callback(pointer, _find_psk_callback)


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
        token = _running.set(handshake)
        try:
            _lib.ERR_clear_error()
            result = _lib.SSL_do_handshake(self._ssl)
            if result == 1:
                return _DONE
            error = _lib.SSL_get_error(self._ssl, result)
        finally:
            _running.reset(token)
        if error == _lib.SSL_ERROR_WANT_READ:
            return _WANTS_INPUT
        if error == _lib.SSL_ERROR_ZERO_RETURN:
            return Step(closed=True)
        return Step(problems=drain_errors() or (Problem("", f"SSL_get_error {error}"),))

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
