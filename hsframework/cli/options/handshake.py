"""Options that ``connect`` and ``listen`` share, and the handshake that they ask for.

Each field of :class:`~hsframework.client.HandshakeOptions` that both commands have is filled in here, once.
"""

from __future__ import annotations

import argparse
from typing import Any

from hsframework.cli.options import attributes, credentials
from hsframework.cli.options.service import add_runtime_dir
from hsframework.cli.options.transport import check_protocol
from hsframework.client import HandshakeOptions


def add_handshake(parser: argparse.ArgumentParser) -> None:
    """Add the options that ``connect`` and ``listen`` share."""
    parser.add_argument("--protocol", metavar="NAME", default="tls13", help="protocol to use (default: tls13)")
    parser.add_argument(
        "--profile", metavar="NAME", help="profile of the dispatcher's configuration, with its keys and trust"
    )
    credentials.add_arguments(parser)
    parser.add_argument("--alpn", metavar="A,B", help="application protocols, in order of preference")
    parser.add_argument(
        "--tls-priorities",
        metavar="STRING",
        help="TLS policy in GnuTLS's syntax, such as SECURE192 or NORMAL:-CIPHER-ALL:+CHACHA20-POLY1305",
    )
    parser.add_argument(
        "--timeout", metavar="SECONDS", type=_seconds, help="for the handshake (default: the dispatcher's)"
    )
    attributes.add_argument(parser)
    _add_talk(parser)


def _add_talk(parser: argparse.ArgumentParser) -> None:
    """Add the options that do not concern the handshake: reports, the session, and the way to the service."""
    parser.add_argument(
        "--qlog",
        metavar="DIR",
        type=credentials.file_name,
        help="write what happens on each connection as qlog (QUIC; qvis opens it)",
    )
    parser.add_argument("--json", action="store_true", help="facts of the session as one line of JSON on stderr")
    parser.add_argument("--quiet", action="store_true", help="say nothing about sessions on stderr")
    parser.add_argument("--key-update", action="store_true", help="change our keys before the first data")
    add_runtime_dir(parser)


def handshake_options(arguments: argparse.Namespace, **own: Any) -> HandshakeOptions:
    """Return the options of the handshake that the command line asks for; ``own``: the fields of one command alone.

    Raises ConfigurationError.
    """
    check_protocol(arguments)
    return HandshakeOptions(
        group=arguments.protocol,
        profile=arguments.profile,
        identities=credentials.identities(arguments),
        psks=credentials.presharedkeys(arguments),
        trust=credentials.trust(arguments),
        alpn=tuple(arguments.alpn.split(",")) if arguments.alpn is not None else (),
        tls_priorities=arguments.tls_priorities,
        attributes=attributes.attributes(arguments),
        timeout=arguments.timeout,
        **own,
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds") from None
    if not 0 < value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0 and at most 3600 seconds")
    return value
