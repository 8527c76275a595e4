"""The second judge of a path: OpenSSL's own path validation, in its strict form.

The first judge (:mod:`~hsframework.credentials.chain`) finds a path; OpenSSL is then asked about exactly this path and
anchor, and makes every check of a signature.  Neither admits a peer alone.

* OpenSSL has no callback here, so it is given a revocation list only where the first judge has found one that belongs;
  and only short ones, because it verifies a list's signature each time.
* ``X509_STRICT`` demands forms of RFC 5280 that many private authorities do not keep (:data:`FORMS`).  A path that is
  refused for one of these is judged again without ``X509_STRICT``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from OpenSSL import crypto
from OpenSSL._util import lib as _lib

from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.revocation import RevocationList
from hsframework.credentials.rules import Usage

FORMS = {
    79: "an authority of X.509 version 1, which is judged as one without X509_STRICT too",
    85: "no authority key identifier",
    86: "no subject key identifier in an authority",
    88: "an empty subject, and alternative names that are not critical",
    89: "basic constraints of an authority that are not critical",
    92: "no key usage in an authority",
}
"""Refusals of ``X509_STRICT`` that concern the form alone, by OpenSSL's number: they say nothing about identity.

``openssl req -x509`` of every distribution makes authorities without key usage.
"""
MAX_LIST_BYTES = 1 << 15
"""Size of the revocation lists that are shown to OpenSSL."""

_BAD_SIGNATURES = frozenset({
    _lib.X509_V_ERR_CERT_SIGNATURE_FAILURE,
    _lib.X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE,
    _lib.X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY,
})  # fmt: skip
_OTHER = _lib.X509_V_ERR_APPLICATION_VERIFICATION
_EXTENDED_CRL_SUPPORT = 0x1000
_PURPOSES = {
    ExtendedKeyUsageOID.SERVER_AUTH: _lib.X509_PURPOSE_SSL_SERVER,
    ExtendedKeyUsageOID.CLIENT_AUTH: _lib.X509_PURPOSE_SSL_CLIENT,
}
"""Purposes that OpenSSL knows; it is asked about no other usage, and verifies all else."""


class Refusal(NamedTuple):
    """OpenSSL's refusal of a path."""

    detail: str
    bad_signature_of: int | None
    """Position in the path of the certificate whose signature is wrong, or None."""


def ask(
    path: Sequence[ParsedCertificate],
    *,
    usage: Usage,
    now: datetime,
    lists: Sequence[Sequence[RevocationList]] = (),
) -> Refusal | None:
    """Return None if OpenSSL accepts exactly ``path`` (leaf first, anchor last) ``now``, else its refusal.

    ``usage``: the extended key usage.  ``lists``: for each certificate below the anchor, the lists that clear it.
    """
    try:
        certificates = [certificate.for_openssl for certificate in path]
    except crypto.Error:
        return Refusal("OpenSSL cannot read a certificate", None)
    shown = [entry.crl for level in lists for entry in level if _is_shown(entry)]
    flags = crypto.X509StoreFlags.PARTIAL_CHAIN | _flags_of_lists(path, lists)

    def answer(further: int = 0) -> tuple[int, int, str] | None:
        return _ask(path, certificates, shown, usage, now, flags | further)

    refused = answer(crypto.X509StoreFlags.X509_STRICT)
    if refused is not None and refused[0] in FORMS:
        refused = answer()
    if refused is None:
        return None
    number, position, words = refused
    return Refusal(f"OpenSSL: {words}", position if number in _BAD_SIGNATURES else None)


def _flags_of_lists(path: Sequence[ParsedCertificate], lists: Sequence[Sequence[RevocationList]]) -> int:
    """Return the flags by which OpenSSL checks the lists: all levels or the leaf alone, as far as there are lists."""
    shown = [any(map(_is_shown, level)) for level in lists]
    if not shown or not shown[0]:
        return 0
    flags = crypto.X509StoreFlags.CRL_CHECK | _EXTENDED_CRL_SUPPORT
    # Without this flag it asks for the leaf's list alone.
    return flags | (crypto.X509StoreFlags.CRL_CHECK_ALL if all(shown) and path[-1].self_issued else 0)


def _is_shown(entry: RevocationList) -> bool:
    """Return True for a short list that covers all certificates of its authority."""
    return entry.point is None and len(entry.der) <= MAX_LIST_BYTES


def _ask(
    path: Sequence[ParsedCertificate],
    certificates: Sequence[crypto.X509],
    lists: Sequence[x509.CertificateRevocationList],
    usage: Usage,
    now: datetime,
    flags: int,
) -> tuple[int, int, str] | None:
    """Return None if OpenSSL accepts the path, else its number, the position in the path, and its words.

    ``certificates``: the path as OpenSSL has read it.
    """
    store = crypto.X509Store()
    store.add_cert(certificates[-1])
    for crl in lists:
        store.add_crl(crl)
    store.set_flags(flags)
    store.set_time(now)
    if usage in _PURPOSES:
        _lib.X509_STORE_set_purpose(store._store, _PURPOSES[usage])  # the binding has no method for it
    context = crypto.X509StoreContext(store, certificates[0], certificates[1:-1])
    try:
        accepted = context.get_verified_chain()
    except crypto.X509StoreContextError as error:
        number, position, words = error.errors
        return number, position, words
    if [crypto.dump_certificate(crypto.FILETYPE_ASN1, each) for each in accepted] != [each.der for each in path]:
        return _OTHER, 0, "OpenSSL would take another path"
    return None
