"""Options of ``connect`` and ``listen`` for keys, certificates and trust, and their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hsframework.credentials.identities import load_identity
from hsframework.credentials.psk import load_psk_file, parse_psks
from hsframework.credentials.trust import load_trust, system_trust
from hsframework.errors import ConfigurationError
from hsframework.interface import ClientUsage, CrlCheck, Identity, PresharedKey, Trust


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for keys, certificates and trust."""
    parser.add_argument(
        "--ca",
        metavar="FILE",
        action="append",
        type=file_name,
        help="trust these authorities: PEM bundle, DER file or folder; may be repeated",
    )
    parser.add_argument("--system-trust", action="store_true", help="trust the authorities that the system trusts")
    parser.add_argument(
        "--crl", metavar="FILE", action="append", type=file_name, help="revocation list, PEM or DER; may be repeated"
    )
    parser.add_argument(
        "--crl-check",
        choices=[check.value for check in CrlCheck],
        default=CrlCheck.IF_PRESENT.value,
        help="require: refuse a certificate whose authority has no revocation list (default: if-present)",
    )
    parser.add_argument(
        "--client-usage",
        choices=[usage.value for usage in ClientUsage],
        default=ClientUsage.CLIENT_AUTH.value,
        help="tls: a client's certificate may be one for servers (default: client-auth)",
    )
    parser.add_argument(
        "--cert",
        metavar="FILE",
        action="append",
        type=file_name,
        help="our certificate and its chain, the leaf first; may be repeated",
    )
    parser.add_argument(
        "--key",
        metavar="FILE",
        action="append",
        type=file_name,
        help="private key of --cert (default: in the same file)",
    )
    parser.add_argument(
        "--psk",
        metavar="IDENTITY:HEXKEY",
        action="append",
        help="pre-shared key, ':sha384' may follow; every user of this machine sees it in the process list",
    )
    parser.add_argument(
        "--psk-file", metavar="FILE", action="append", type=file_name, help="pre-shared keys, one such line each"
    )


def identities(arguments: argparse.Namespace) -> tuple[Identity, ...]:
    """Load the identities of --cert and --key.  Raises ConfigurationError."""
    certificates: Sequence[Path] = arguments.cert or ()
    keys: Sequence[Path] = arguments.key or ()
    if len(keys) > len(certificates):
        raise ConfigurationError("--key without --cert: name the certificate of the key with --cert")
    if keys and len(keys) != len(certificates):
        raise ConfigurationError("give one --key for each --cert, in the same order")
    pairs = zip(certificates, keys or (None,) * len(certificates), strict=True)
    return tuple(load_identity(certificate, key) for certificate, key in pairs)


def presharedkeys(arguments: argparse.Namespace) -> tuple[PresharedKey, ...]:
    """Load the keys of --psk and --psk-file.  Raises ConfigurationError."""
    result: list[PresharedKey] = []
    for text in arguments.psk or ():
        result += parse_psks(text.encode(errors="surrogateescape"), "--psk")
    if result:
        print(
            "hsframework: warning: every user of this machine can see the key of --psk in the process list; "
            "use --psk-file",
            file=sys.stderr,
        )
    for path in arguments.psk_file or ():
        result += load_psk_file(path)
    return tuple(result)


def trust(arguments: argparse.Namespace) -> Trust | None:
    """Load the trust of --ca, --system-trust and --crl; None without any.  Raises ConfigurationError."""
    anchors: tuple[bytes, ...] = system_trust().anchors if arguments.system_trust else ()
    check, usage = CrlCheck(arguments.crl_check), ClientUsage(arguments.client_usage)
    named = load_trust(arguments.ca or (), arguments.crl or (), crl_check=check, client_usage=usage)
    if named.crls and not (anchors or named.anchors):
        raise ConfigurationError("--crl without trust: name authorities with --ca or --system-trust")
    anchors += named.anchors
    return replace(named, anchors=tuple(dict.fromkeys(anchors))) if anchors else None


def file_name(text: str) -> Path:
    """Return the path of a file or folder.  Raises argparse.ArgumentTypeError."""
    if not text:  # an empty shell variable; the path "" would be the current folder
        raise argparse.ArgumentTypeError("the name is empty; give a file's name, or leave the option out")
    return Path(text)
