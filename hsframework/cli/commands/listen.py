"""Serve clients: accept connections, let the dispatcher run the handshakes, and talk over the sessions.

Without --echo, what the clients send goes to output.  With --once the first client is served alone: input goes to it,
all of it also if the client closes its own direction first, and the command ends with its session.

example:
  hsframework listen 4433 --cert server.pem --key server.key --echo
  hsframework listen 4433 --protocol quic --alpn echo --cert server.pem --key server.key --echo
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import errno
import socket
import sys
import time
from contextlib import closing

from hsframework.cli.options.address import format_address, port_number
from hsframework.cli.options.facts import report_failure, report_session
from hsframework.cli.options.handshake import add_handshake, handshake_options
from hsframework.cli.options.pump import echo, pump, receive_output
from hsframework.cli.options.stream import open_stream
from hsframework.cli.options.transport import ListeningSocket, Newcomer, listen
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import ConfigurationError, HsframeworkError, RequestRefused, errno_name
from hsframework.interface import AddressValidation, CertificateDemand, Role

DEFAULT_HOST = "127.0.0.1"
NO_GROUP = "(may the profile be used?)"
"""Group that no agent joins, for :func:`check_profile`; the service's log shows this name."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = "%(prog)s [options] [HOST] PORT"
    parser.add_argument(
        "address",
        metavar="[HOST] PORT",
        nargs="+",
        help=f"where to listen (HOST: {DEFAULT_HOST}; '::' or 0.0.0.0 for every address)",
    )
    parser.add_argument(
        "--client-certificate",
        choices=[item.name.lower() for item in CertificateDemand],
        help="what is asked of clients (default: the profile's, else none)",
    )
    parser.add_argument("--echo", action="store_true", help="send back what a client sends")
    parser.add_argument(
        "--retry",
        choices=[item.value for item in AddressValidation],
        help="QUIC: when clients must prove their address before anything is kept of them (default: load, when many "
        "handshakes are under way)",
    )
    parser.add_argument("--once", action="store_true", help="serve one client, then end")
    add_handshake(parser)


def run(arguments: argparse.Namespace) -> int:
    host, port = listen_address(arguments.address)
    return asyncio.run(_listen(host, port, arguments, server_options(arguments)))


def listen_address(words: list[str]) -> tuple[str, int]:
    """Return host and port of ``["4433"]`` or ``["0.0.0.0", "4433"]``.  Raises ConfigurationError."""
    if len(words) > 2:
        raise ConfigurationError("give a port, or a host and a port; see 'hsframework listen --help'")
    try:
        return (DEFAULT_HOST if len(words) == 1 else words[0]), port_number(words[-1])
    except argparse.ArgumentTypeError as error:
        raise ConfigurationError(str(error)) from None


def server_options(arguments: argparse.Namespace) -> HandshakeOptions:
    """Return the options of the handshakes that the command line asks for.  Raises ConfigurationError."""
    options = handshake_options(arguments, role=Role.SERVER)
    if not (options.identities or options.psks or options.profile or options.attributes):
        raise ConfigurationError(
            "a server must prove who it is: give --cert and --key, --psk-file, or --profile; a protocol with other "
            "means takes them by --attribute"
        )
    if options.identities and options.psks:
        raise ConfigurationError("a server uses certificates or pre-shared keys: give --cert or --psk-file, not both")
    demand = arguments.client_certificate
    if demand in ("request", "require") and options.trust is None and not options.profile:
        raise ConfigurationError(
            f"--client-certificate {demand}: name the clients' authority with --ca or --system-trust"
        )
    asked = None if demand is None else CertificateDemand[demand.upper()]
    return dataclasses.replace(options, client_certificate=asked)


async def _listen(host: str, port: int, arguments: argparse.Namespace, options: HandshakeOptions) -> int:
    async with AsyncClient(arguments.runtime_dir) as client:
        if options.profile is not None:
            await check_profile(client, options)
        with closing(listen(arguments, host, port)) as listening:
            print(f"hsframework: listening on {format_address(listening.address)}", file=sys.stderr, flush=True)
            server = _Server(client, options, arguments)
            if arguments.once:
                return 0 if await server.serve(await listening.accept()) else 1
            await _accept_for_ever(listening, server)
    return 0


async def check_profile(client: AsyncClient, options: HandshakeOptions) -> None:
    """Check that the service allows the profile and the other options.  Raises RequestRefused if it does not.

    Submits a request for a group without agents: the service checks it completely, and then refuses it with ESRCH, so
    that no handshake is begun.
    """
    near, far = socket.socketpair()
    with near, far:
        try:
            await client.handshake(near, dataclasses.replace(options, group=NO_GROUP, attributes=b""))
        except RequestRefused as error:
            if error.errno != errno.ESRCH:
                raise


async def _accept_for_ever(listening: ListeningSocket, server: _Server) -> None:
    async with asyncio.TaskGroup() as tasks:
        while True:
            tasks.create_task(server.serve(await listening.accept()))


class _Server:
    """The service of each newcomer: handshake, data, and the end of the session."""

    def __init__(self, client: AsyncClient, options: HandshakeOptions, arguments: argparse.Namespace) -> None:
        self.client = client
        self.options = options
        self.arguments = arguments

    async def serve(self, newcomer: Newcomer) -> bool:
        """Serve one client to the end of its session.  Return False after a failure, which has been reported."""
        arguments = self.arguments
        peer = newcomer.address
        with newcomer.socket:
            try:
                begun = time.monotonic()
                session = await newcomer.handshake(self.client, self.options)
            except HsframeworkError as error:
                report_failure(error, peer, as_json=arguments.json)
                return False
            report_session(session, peer, time.monotonic() - begun, as_json=arguments.json, quiet=arguments.quiet)
            try:
                stream = await open_stream(session, key_update=arguments.key_update)
                if arguments.echo:
                    await echo(stream)
                elif arguments.once:
                    await pump(stream, sys.stdin.fileno(), sys.stdout.fileno())
                else:
                    await receive_output(stream, sys.stdout.fileno())
                await stream.close()
            except (HsframeworkError, OSError) as error:
                number = errno_name(error.errno or 5)
                print(f"hsframework: session with {peer} broke: {error} [{number}]", file=sys.stderr, flush=True)
                return False
        return True
