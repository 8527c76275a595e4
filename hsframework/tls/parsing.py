"""Parsing with ``cryptography``: the exceptions for unreadable input, and silence about odd certificates."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

PARSE_ERRORS = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""Exceptions of ``cryptography`` for certificates, lists and keys that it cannot read."""


_FIELD = re.compile(r'"([A-Za-z_:]+)"')
_MAX_WORDS = 100


def unreadable(error: Exception) -> str:
    """Return words for one of :data:`PARSE_ERRORS`: the field, where the error has it; printable, of bounded length.

    >>> unreadable(ValueError('ParseError { kind: InvalidValue, location: ["TbsCertificate::serial"] }'))
    'cannot be read: TbsCertificate::serial'
    """
    text = str(error)
    fields = ", ".join(_FIELD.findall(text))
    if "ParseError" in text and not fields:
        fields = "its structure is not that of DER"
    return f"cannot be read: {ascii(fields or text)[1:-1][:_MAX_WORDS] or type(error).__name__}"


def load_certificate(der: bytes) -> x509.Certificate:
    """Read a DER certificate without a warning.  Raises one of :data:`PARSE_ERRORS`."""
    with no_warnings():
        return x509.load_der_x509_certificate(der)


def load_crl(der: bytes) -> x509.CertificateRevocationList:
    """Read a DER revocation list without a warning.  Raises one of :data:`PARSE_ERRORS`."""
    with no_warnings():
        return x509.load_der_x509_crl(der)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Suppress the warnings of ``cryptography`` about odd certificates that it still reads (some roots are odd).

    A peer must not be able to make us print, and printing a warning opens the source file that it points to.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
