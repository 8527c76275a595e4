"""Callbacks of OpenSSL in C: what it asks a handshake while its step runs.

The rules:

* They are made once, when this module is imported, and serve all contexts.  OpenSSL calls them from within a step alone
  (:meth:`hsframework_tls13.openssl.Connection.step`), so the handshake that they are about is the one whose step runs
  on their thread: :data:`running`.
* No exception leaves a callback: it goes to the handshake's ``callback_failed``, and OpenSSL is told to stop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar

from OpenSSL import SSL
from OpenSSL._util import ffi as _ffi, lib as _lib

from hsframework.failures import Failure
from hsframework.interface import PresharedKey
from hsframework_tls13.callbacks import Callbacks
from hsframework_tls13.encodings import split_names
from hsframework_tls13.records import HANDSHAKE

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

CERTIFICATE_REQUEST = 13
"""Type of a handshake message (RFC 8446 section 4)."""

_ACKNOWLEDGE = int(_lib.SSL_TLSEXT_ERR_OK)

running: ContextVar[Callbacks | None] = ContextVar("the handshake whose step runs here", default=None)
_STORE_INDEX = _lib.SSL_get_ex_data_X509_STORE_CTX_idx()
T = TypeVar("T")
_INTERNAL: Failure | None = Failure.INTERNAL


def _guarded(on_error: T, call: Callable[[Callbacks], T]) -> T:
    handshake = running.get()
    if handshake is None:
        return on_error
    try:
        return call(handshake)
    except Exception as error:
        handshake.callback_failed(error)
        return on_error


@_ffi.callback("void(*)(SSL *, char *)")  # type: ignore[untyped-decorator]
def _keylog_callback(_ssl: Any, line: Any) -> None:
    handshake = running.get()
    if handshake is not None:
        handshake.key_log.append(_ffi.string(line))


@_ffi.callback("void(*)(int, int, int, const void *, size_t, SSL *, void *)")  # type: ignore[untyped-decorator]
def _message_callback(
    written: int, _version: int, content_type: int, data: Any, size: int, _ssl: Any, _argument: Any
) -> None:
    if written or content_type != HANDSHAKE or size < HANDSHAKE_HEADER_SIZE:
        return
    kind = _ffi.cast("const unsigned char *", data)[0]
    if kind == CERTIFICATE_REQUEST:
        body = _ffi.buffer(data, size)[HANDSHAKE_HEADER_SIZE:]
        _guarded(None, lambda handshake: handshake.on_certificate_request(body))


@_ffi.callback("int(*)(int, X509_STORE_CTX *)")  # type: ignore[untyped-decorator]
def _verify_callback(_ok: int, store: Any) -> int:
    # OpenSSL's own opinion, about a path to no anchor, is not asked.
    failure = _guarded(_INTERNAL, lambda handshake: handshake.on_certificate(lambda: _shown(store)))
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


def _shown(store: Any) -> tuple[bytes, ...]:
    """Return the server's certificates as it sent them; in a server, whose OpenSSL has no others yet, the leaf."""
    ssl = _ffi.cast("SSL *", _lib.X509_STORE_CTX_get_ex_data(store, _STORE_INDEX))
    return chain_of(ssl) or (certificate_to_der(_lib.X509_STORE_CTX_get0_cert(store)),)


def chain_of(ssl: Any) -> tuple[bytes, ...]:
    """Return the certificates that OpenSSL keeps as the peer's; a server's without the leaf."""
    stack = _lib.SSL_get_peer_cert_chain(ssl)
    if stack == _ffi.NULL:
        return ()
    return tuple(certificate_to_der(_lib.sk_X509_value(stack, index)) for index in range(_lib.sk_X509_num(stack)))


def certificate_to_der(certificate: Any) -> bytes:
    """Return the encoding of an X509.  Raises ValueError."""
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

    ``messages``: call ``on_certificate_request`` too.  OpenSSL then calls back for every record and message, some 50
    microseconds in all.
    """
    pointer = context._context
    _lib.SSL_CTX_set_keylog_callback(pointer, _keylog_callback)
    _lib.SSL_CTX_set_alpn_select_cb(pointer, _alpn_callback, _ffi.NULL)
    if verify_mode != SSL.VERIFY_NONE:
        _lib.SSL_CTX_set_verify(pointer, verify_mode, _verify_callback)
        # No issuer for the leaf: it would verify signatures that our judge has not chosen.  -1 stands for the default.
        _lib.SSL_CTX_set_verify_depth(pointer, -2)
    if messages:
        _lib.SSL_CTX_set_msg_callback(pointer, _message_callback)
    if server:
        _lib.SSL_CTX_set_tlsext_servername_callback(pointer, _server_name_callback)
    if psk:
        _lib.SSL_CTX_set_psk_use_session_callback(pointer, _use_psk_callback)
        _lib.SSL_CTX_set_psk_find_session_callback(pointer, _find_psk_callback)
