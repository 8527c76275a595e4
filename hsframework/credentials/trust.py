"""Trust anchors and revocation lists from files, directories and the system's bundle.

A file is a PEM bundle (comments and private keys are ignored, any other block is refused) or one item in DER.  Every
file of a directory is read, once; links for OpenSSL's look-up by hash lead to files that are read already.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence, Set
from pathlib import Path
from typing import NamedTuple

from hsframework.credentials.certificate import ParsedCertificate
from hsframework.credentials.files import KEY_LABELS, pem_blocks, read_public
from hsframework.credentials.revocation import read_list
from hsframework.errors import ConfigurationError
from hsframework.interface import ClientUsage, CrlCheck, Trust
from hsframework.tls.parsing import PARSE_ERRORS, load_certificate, no_warnings

StrPath = str | os.PathLike[str]

SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch, Gentoo, Alpine
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/pki/tls/certs/ca-bundle.crt",  # older RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/var/lib/ca-certificates/ca-bundle.pem",  # SUSE, without the link in /etc
    "/etc/ssl/cert.pem",  # Alpine
)
"""Bundles of the system's trust anchors, by distribution."""

KnownFiles = dict[tuple[str, Path], tuple[bytes, ...]]
"""Certificates or lists of files, by kind and path: a bundle that many trusts name is read and parsed once."""

_CERTIFICATE_LABELS = frozenset({"CERTIFICATE", "X509 CERTIFICATE"})
_CRL_LABELS = frozenset({"X509 CRL"})
_CONVERSIONS = {
    "TRUSTED CERTIFICATE": "convert it with 'openssl x509 -in FILE -out NEW'",
    "PKCS7": "convert it with 'openssl pkcs7 -in FILE -print_certs -out NEW'",
    "X509 CRL": "name the file of the revocation list as such, and leave the list out of the others",
    "CERTIFICATE": "leave the certificates out of the file of the revocation lists",
}
"""Advice for blocks that are refused, by label."""
_IGNORED_LABELS = KEY_LABELS | {"EC PARAMETERS", "DH PARAMETERS"}
_PKCS7_TYPE = bytes.fromhex("06092a864886f70d0107")
_PKCS12_VERSION = bytes.fromhex("020103")


def load_trust(
    paths: Iterable[StrPath],
    crl_paths: Iterable[StrPath] = (),
    *,
    crl_check: CrlCheck = CrlCheck.IF_PRESENT,
    client_usage: ClientUsage = ClientUsage.CLIENT_AUTH,
    known: KnownFiles | None = None,
) -> Trust:
    """Load all certificates in ``paths`` (files or directories) as anchors, and the revocation lists in ``crl_paths``.

    ``known``: contents of files that were read for other trusts, which is added to.
    Raises ``ConfigurationError`` for a file that cannot be read, contains none, or contains a damaged one.
    """
    for given in (paths, crl_paths):
        if isinstance(given, str | os.PathLike):  # its letters would be taken for paths
            raise ConfigurationError(f"one path was given, {str(given)!r}: give a list of them")
    known = {} if known is None else known
    return Trust(_load(paths, certificates_in, known), _load(crl_paths, crls_in, known), crl_check, client_usage)


def system_trust(candidates: Sequence[StrPath] = SYSTEM_BUNDLES) -> Trust:
    """Load the system's trust anchors from the first of ``candidates`` that exists.

    Certificates in it that cannot be read are left out, because the user cannot mend them.  Raises
    ``ConfigurationError`` if there is no bundle, or none with a certificate.
    """
    for path in candidates:
        if os.path.isfile(path):
            anchors = tuple(dict.fromkeys(certificates_in(read_public(path), str(path), tolerant=True)))
            if not anchors:
                raise ConfigurationError(f"{path} holds no certificate: reinstall the system's CA certificates")
            return Trust(anchors)
    raise ConfigurationError(
        "the system's bundle of CA certificates was not found: install the package ca-certificates, or name a CA file"
    )


def certificates_in(data: bytes, name: str, *, tolerant: bool = False) -> tuple[bytes, ...]:
    """Return the DER certificates in the contents of a PEM bundle or a DER file, in order.

    ``name``: for messages.  Private keys may be there too.  Raises ``ConfigurationError`` for a certificate that cannot
    be read and for a block of another kind; ``tolerant``: they are left out.
    """
    return _items_in(data, name, _CERTIFICATES, tolerant=tolerant)


def crls_in(data: bytes, name: str) -> tuple[bytes, ...]:
    """Return the DER revocation lists in the contents of a PEM bundle or a DER file, in order.

    ``name``: for messages.  Raises ``ConfigurationError`` for one that cannot be read.
    """
    return _items_in(data, name, _LISTS)


def _check_certificate(der: bytes, where: str) -> None:
    ParsedCertificate(der)
    load_certificate(der)


def _check_crl(der: bytes, where: str) -> None:
    read_list(der, where)


class _Kind(NamedTuple):
    """A kind of item that a file holds."""

    noun: str
    labels: Set[str]
    check: Callable[[bytes, str], None]
    """Raises one of ``PARSE_ERRORS`` or ``ConfigurationError`` for a DER item that cannot be used."""


_CERTIFICATES = _Kind("certificate", _CERTIFICATE_LABELS, _check_certificate)
_LISTS = _Kind("revocation list", _CRL_LABELS, _check_crl)


def _items_in(data: bytes, name: str, kind: _Kind, *, tolerant: bool = False) -> tuple[bytes, ...]:
    items = []
    for block in pem_blocks(data, name):
        if block.label in kind.labels:
            items.append((block.der, block.where))
        elif block.label not in _IGNORED_LABELS and not tolerant:
            advice = _CONVERSIONS.get(block.label, "leave it out")
            raise ConfigurationError(f"{block.where}: a {block.label} block, where a {kind.noun} belongs: {advice}")
    if not items and data[:1] == b"\x30" and data[1:2] > b"\x80":  # a SEQUENCE of 128 bytes or more
        items = [(data, name)]
    result = []
    for der, where in items:
        try:
            with no_warnings():
                kind.check(der, where)
        except PARSE_ERRORS:
            if not tolerant:
                raise ConfigurationError(f"{where}: {_problem_of(der, kind)}") from None
        else:
            result.append(der)
    return tuple(result)


def _problem_of(der: bytes, kind: _Kind) -> str:
    """Return what a DER item is that could not be read, and what to do."""
    head = der[:24]
    if _PKCS12_VERSION in head[2:8]:
        return "this is PKCS#12: convert it with 'openssl pkcs12 -in FILE -nodes -out NEW'"
    if _PKCS7_TYPE in head:
        return "this is PKCS#7: convert it with 'openssl pkcs7 -inform der -in FILE -print_certs -out NEW'"
    return f"the {kind.noun} is damaged: copy the file again"


def _load(
    paths: Iterable[StrPath], read: Callable[[bytes, str], tuple[bytes, ...]], known: KnownFiles
) -> tuple[bytes, ...]:
    kind = _CERTIFICATES.noun if read is certificates_in else _LISTS.noun
    items: dict[bytes, None] = {}
    for path in map(Path, paths):
        found: list[bytes] = []
        for file in _files_of(path):
            if (kind, file) not in known:
                known[kind, file] = read(read_public(file), str(file))
            found += known[kind, file]
        if not found:
            raise ConfigurationError(f"{path} holds no {kind} in PEM or DER form: name another file")
        items.update(dict.fromkeys(found))
    return tuple(items)


def _files_of(path: Path) -> list[Path]:
    """Return the file itself, or the files in the directory by name, each link target once."""
    if not path.is_dir():
        return [path]
    try:
        targets = {Path(os.path.realpath(entry)): None for entry in sorted(path.iterdir()) if entry.is_file()}
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
    return list(targets)
