"""Other verifiers of certificates: OpenSSL in its strict form, GnuTLS, and that of cryptography."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from datetime import UTC
from functools import cache

from cryptography import x509
from cryptography.x509 import verification
from OpenSSL import crypto
from OpenSSL._util import ffi as _ffi, lib as _lib

from hsframework.credentials.chain import ChainVerifier, Purpose
from hsframework.errors import HsframeworkError
from hsframework.tls.parsing import PARSE_ERRORS, no_warnings
from tests.support.chains import NAME, NOW, Case

_GNUTLS = "libgnutls.so.30"


def ours(case: Case) -> str:
    """Return the words of our refusal, or an empty text."""
    name = NAME if case.purpose is Purpose.SERVER_AUTH else None
    try:
        ChainVerifier(case.trust).verify(case.chain, purpose=case.purpose, peer_name=name, now=NOW)
    except HsframeworkError as error:
        return str(error)
    return ""


def openssl(case: Case) -> str:
    """Return the words of the refusal by OpenSSL with ``X509_STRICT``, or an empty text."""
    store, flags = crypto.X509Store(), crypto.X509StoreFlags
    wanted = flags.PARTIAL_CHAIN | flags.X509_STRICT
    if case.listed and case.listed[0]:
        wanted |= flags.CRL_CHECK | 0x1000 | (flags.CRL_CHECK_ALL if all(case.listed) else 0)
    server = case.purpose is Purpose.SERVER_AUTH
    try:
        with no_warnings():
            for der in case.trust.anchors:
                store.add_cert(crypto.load_certificate(crypto.FILETYPE_ASN1, der))
            for der in case.trust.crls:
                store.add_crl(x509.load_der_x509_crl(der))
            store.set_flags(wanted)
            store.set_time(NOW)
            purpose = _lib.X509_PURPOSE_SSL_SERVER if server else _lib.X509_PURPOSE_SSL_CLIENT
            _lib.X509_STORE_set_purpose(store._store, purpose)
            if server:
                parameters = _ffi.gc(_lib.X509_VERIFY_PARAM_new(), _lib.X509_VERIFY_PARAM_free)
                _lib.X509_VERIFY_PARAM_set1_host(parameters, NAME.encode(), len(NAME))
                _lib.X509_STORE_set1_param(store._store, parameters)
            leaf, *others = (crypto.load_certificate(crypto.FILETYPE_ASN1, der) for der in case.chain)
            crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        return str(error)
    except (crypto.Error, *PARSE_ERRORS) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def cryptography(case: Case) -> str:
    """Return the words of the refusal by cryptography's verifier, or an empty text.  It knows no lists."""
    with no_warnings():
        try:
            store = verification.Store([x509.load_der_x509_certificate(der) for der in case.trust.anchors])
            builder = verification.PolicyBuilder().store(store).time(NOW.astimezone(UTC).replace(tzinfo=None))
            leaf, *others = (x509.load_der_x509_certificate(der) for der in case.chain)
            if case.purpose is Purpose.SERVER_AUTH:
                builder.build_server_verifier(x509.DNSName(NAME)).verify(leaf, others)
            else:
                builder.build_client_verifier().verify(leaf, others)
        except (verification.VerificationError, *PARSE_ERRORS) as error:
            return str(error) or type(error).__name__
    return ""


class _Datum(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint))


class _Typed(ctypes.Structure):
    _fields_ = (("type", ctypes.c_int), ("data", ctypes.c_char_p), ("size", ctypes.c_uint))


_DNS_NAME, _KEY_PURPOSE = 1, 2
_VERIFY_LISTS = 1


@cache
def gnutls_library() -> ctypes.CDLL | None:
    """Return GnuTLS's library, or None if it is not installed."""
    try:
        return ctypes.CDLL(_GNUTLS)
    except OSError:
        return None


def gnutls(case: Case) -> str:
    """Return the refusal by GnuTLS, which is what tlshd asks, or an empty text."""
    library = gnutls_library()
    assert library is not None
    trusted = ctypes.c_void_p()
    library.gnutls_x509_trust_list_init(ctypes.byref(trusted), 0)
    chain = _imported(library, "crt", case.chain)
    try:
        anchors = _imported(library, "crt", case.trust.anchors)
        lists = _imported(library, "crl", case.trust.crls)
        if chain is None or anchors is None or lists is None:
            return "cannot be read"
        library.gnutls_x509_trust_list_add_cas(trusted, _array(anchors), len(anchors), 0)
        taken = library.gnutls_x509_trust_list_add_crls(trusted, _array(lists), len(lists), _VERIFY_LISTS, 0)
        if taken != len(lists):
            return f"{taken} of {len(lists)} lists were taken"
        server = case.purpose is Purpose.SERVER_AUTH
        purpose = b"1.3.6.1.5.5.7.3.1" if server else b"1.3.6.1.5.5.7.3.2"
        asked = [_Typed(_KEY_PURPOSE, purpose, 0)] + ([_Typed(_DNS_NAME, NAME.encode(), 0)] if server else [])
        status = ctypes.c_uint()
        answer = library.gnutls_x509_trust_list_verify_crt2(
            trusted, _array(chain), len(chain), (_Typed * len(asked))(*asked), len(asked), 0, ctypes.byref(status), None
        )
        return f"error {answer}" if answer < 0 else f"status {status.value:#x}" if status.value else ""
    finally:
        for certificate in chain or ():
            library.gnutls_x509_crt_deinit(certificate)
        library.gnutls_x509_trust_list_deinit(trusted, 1)


def _array(items: list[ctypes.c_void_p]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(items))(*items)


def _imported(library: ctypes.CDLL, kind: str, contents: tuple[bytes, ...]) -> list[ctypes.c_void_p] | None:
    found = []
    for der in contents:
        item = ctypes.c_void_p()
        getattr(library, f"gnutls_x509_{kind}_init")(ctypes.byref(item))
        if getattr(library, f"gnutls_x509_{kind}_import")(item, ctypes.byref(_Datum(der, len(der))), 0) < 0:
            getattr(library, f"gnutls_x509_{kind}_deinit")(item)
            return None
        found.append(item)
    return found


JUDGES: dict[str, Callable[[Case], str]] = {"openssl": openssl, "gnutls": gnutls, "cryptography": cryptography}
