"""Labels of certificates, for events and tables: one line for people, by which nothing is decided."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from cryptography import x509

from hsframework.credentials.certificate import printable
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate

LONGEST = 8192
"""Bytes of a certificate that is read for its label; a longer one has its fingerprint."""

REMEMBERED = 4096
"""Labels that are remembered, by the certificates' fingerprints."""

_SHOWN = (x509.UniformResourceIdentifier, x509.DNSName, x509.RFC822Name)
_labels: OrderedDict[bytes, str] = OrderedDict()


def label_of(der: bytes) -> str:
    """Return the subject of a certificate; without one a name of its subjectAltName, else its SHA-256.

    Raises nothing: whoever sends the certificate chooses its bytes.
    """
    digest = hashlib.sha256(der).digest()
    found = _labels.get(digest)
    if found is None:
        found = _labels[digest] = _read(der) or f"sha256:{digest.hex()}"
        if len(_labels) > REMEMBERED:
            _labels.popitem(last=False)
    return found


def _read(der: bytes) -> str:
    """Return the label, or an empty text."""
    if len(der) > LONGEST:
        return ""
    try:
        certificate = load_certificate(der)
        return printable(certificate.subject.rfc4514_string() or _alternative(certificate))
    except PARSE_ERRORS:
        return ""


def _alternative(certificate: x509.Certificate) -> str:
    """Return the first name that can be shown of a certificate without subject; empty without one."""
    for extension in certificate.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            return next((str(name.value) for name in extension.value if isinstance(name, _SHOWN)), "")
    return ""
