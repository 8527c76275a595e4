"""Connect to a server, let the dispatcher run the handshake on the connection, and talk over the session.

Input goes to the server, what it sends goes to output.  The end of the input closes our direction; the command ends
when the server has closed its own too.  A server that closes first still gets the rest of the input, unless that is a
terminal's.  Exit status 0: the server closed the session properly, and was sent all that there was.

example:
  echo hello | hsframework connect server.example 4433 --system-trust
  echo hello | hsframework connect server.example 4433 --protocol quic --alpn echo --ca ca.pem
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import sys
import time

from hsframework.cli.options.address import add_port, connect_tcp, format_address
from hsframework.cli.options.facts import report_failure, report_session
from hsframework.cli.options.handshake import add_handshake, handshake_options
from hsframework.cli.options.pump import pump
from hsframework.cli.options.stream import open_stream
from hsframework.cli.options.transport import CONNECT_TIMEOUT, proves_names, uses_datagrams
from hsframework.client import AsyncClient, AsyncSession, HandshakeOptions, connect_udp_session
from hsframework.errors import HandshakeError, RequestRefused, StreamError
from hsframework.tls.alerts import describe_alert

_CERTIFICATE_REQUIRED = describe_alert(116)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] HOST PORT"
    parser.add_argument("host", metavar="HOST", help="name or address of the server")
    add_port(parser)
    parser.add_argument("--servername", metavar="NAME", help="name that the server must prove (default: HOST)")
    parser.add_argument(
        "--any-name",
        action="store_true",
        help="accept a certificate of any name: whoever the trust certifies is believed",
    )
    add_handshake(parser)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_connect(arguments, client_options(arguments)))


def client_options(arguments: argparse.Namespace) -> HandshakeOptions:
    """Return the options of the handshake that the command line asks for.  Raises ConfigurationError."""
    return handshake_options(
        arguments,
        peer_name=arguments.servername or (arguments.host if proves_names(arguments.protocol) else None),
        any_peer_name=arguments.any_name,
    )


async def _connect(arguments: argparse.Namespace, options: HandshakeOptions) -> int:
    async with AsyncClient(arguments.runtime_dir) as client:
        with contextlib.ExitStack() as stack:
            session = await _session(client, stack, options, arguments)
            if session is None:
                return 1
            try:
                stream = await open_stream(session, key_update=arguments.key_update)
                await pump(stream, sys.stdin.fileno(), sys.stdout.fileno())
                await stream.close()
            except StreamError as error:
                if not (options.identities or options.profile) and _CERTIFICATE_REQUIRED in str(error):
                    _advise("no certificate was named: give ours with --cert FILE and --key FILE, or name a --profile")
                raise
    return 0


def _advise(advice: str) -> None:
    print(f"hsframework: {advice}", file=sys.stderr)


async def _session(
    client: AsyncClient, stack: contextlib.ExitStack, options: HandshakeOptions, arguments: argparse.Namespace
) -> AsyncSession | None:
    """Return a session with the server, whose socket the stack closes; None after a failure that has been reported."""
    peer, begun = format_address((arguments.host, arguments.port)), time.monotonic()
    try:
        if uses_datagrams(arguments.protocol):
            sock, session = await connect_udp_session(client, arguments.host, arguments.port, options)
            stack.enter_context(sock)
            peer = format_address(sock.getpeername())
        else:
            sock = stack.enter_context(
                await connect_tcp(arguments.host, arguments.port, arguments.timeout or CONNECT_TIMEOUT)
            )
            peer, begun = format_address(sock.getpeername()), time.monotonic()
            session = await client.handshake(sock, options)
    except (HandshakeError, RequestRefused) as error:
        report_failure(error, peer, as_json=arguments.json)
        if error.errno == errno.EKEYREJECTED and options.trust is None and not (options.profile or options.psks):
            _advise("no trust was named: give the server's authority with --ca FILE, or use --system-trust")
        return None
    report_session(session, peer, time.monotonic() - begun, as_json=arguments.json, quiet=arguments.quiet)
    return session
