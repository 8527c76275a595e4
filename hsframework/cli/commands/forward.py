"""Forward the connections of programs that cannot be changed: plain on one side, protected on the other.

As a client (the default) it listens for plain connections, and each goes on over a session with the server.  With
--server it listens for sessions, and each goes on in plain text.  SIGHUP has --cert, --key, --ca and --psk read again,
for connections that come then.  SIGTERM ends the listening; connections have --drain seconds then.

example:
  hsframework forward --listen 5432 --to db.example:5433 --ca ca.pem
  hsframework forward --server --listen '[::]:5433' --to unix:/run/postgresql/.s.PGSQL.5432 --cert db.pem --key db.key
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys

from hsframework.adapters.forward import MOST, Forwarder
from hsframework.cli.commands.connect import client_options
from hsframework.cli.commands.listen import check_profile, server_options
from hsframework.cli.options.address import format_address
from hsframework.cli.options.facts import report_failure
from hsframework.cli.options.handshake import add_handshake
from hsframework.cli.options.place import place
from hsframework.cli.options.transport import CONNECT_TIMEOUT, uses_datagrams
from hsframework.client import AsyncClient, HandshakeOptions
from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.interface import CertificateDemand


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--listen", metavar="PLACE", type=place, required=True, help="PORT, HOST:PORT or unix:PATH, where to listen"
    )
    parser.add_argument("--to", metavar="PLACE", type=place, required=True, help="where each connection goes on")
    parser.add_argument("--server", action="store_true", help="sessions are accepted, and go on in plain text")
    parser.add_argument(
        "--allow",
        metavar="NAME",
        action="append",
        default=[],
        help="admit peers whose certificate has this DNS name, address or URI, and no others; may be repeated",
    )
    parser.add_argument(
        "--send-proxy",
        metavar="VERSION",
        type=int,
        choices=(1, 2),
        help="with --server: begin each connection with a header of the PROXY protocol, 1 or 2",
    )
    parser.add_argument(
        "--accept-proxy",
        action="store_true",
        help="each connection begins with a header of the PROXY protocol, as of a balancer: its address is the peer's",
    )
    parser.add_argument(
        "--drain", metavar="SECONDS", type=float, default=30.0, help="for open connections after SIGTERM (default: 30)"
    )
    parser.add_argument(
        "--connections", metavar="N", type=int, default=MOST, help=f"at most, at a time (default: {MOST})"
    )
    parser.add_argument(
        "--client-certificate",
        choices=[item.name.lower() for item in CertificateDemand],
        help="with --server: what is asked of clients (default: the profile's, else none)",
    )
    parser.add_argument("--servername", metavar="NAME", help="name that the server must prove (default: that in --to)")
    parser.add_argument("--any-name", action="store_true", help="accept a server's certificate of any name")
    add_handshake(parser)


def run(arguments: argparse.Namespace) -> int:
    return asyncio.run(_forward(arguments, _options(arguments)))


def _options(arguments: argparse.Namespace) -> HandshakeOptions:
    if uses_datagrams(arguments.protocol):
        raise ConfigurationError(f"--protocol {arguments.protocol}: connections over TCP and unix sockets alone")
    if arguments.connections < 1:
        raise ConfigurationError("--connections: let at least one in")
    if arguments.server:
        if arguments.servername or arguments.any_name:
            raise ConfigurationError("--servername and --any-name are a client's: leave them out with --server")
        if arguments.allow and arguments.client_certificate is None and arguments.profile is None:
            raise ConfigurationError("--allow: clients must show a certificate: add --client-certificate require")
        return server_options(arguments)
    for name in ("client_certificate", "send_proxy"):
        if getattr(arguments, name) is not None:
            raise ConfigurationError(f"--{name.replace('_', '-')} is a server's: add --server, or leave it out")
    if arguments.to.path is not None and not (arguments.servername or arguments.any_name):
        raise ConfigurationError("--to unix:… has no name: say with --servername whom the server must prove to be")
    arguments.host = arguments.to.host
    return client_options(arguments)


async def _forward(arguments: argparse.Namespace, options: HandshakeOptions) -> int:
    async with AsyncClient(arguments.runtime_dir) as client:
        if options.profile is not None:
            await check_profile(client, options)
        listener = arguments.listen.listen()
        forwarder = Forwarder(
            client,
            listener,
            lambda: arguments.to.connect(arguments.timeout or CONNECT_TIMEOUT),
            options,
            allowed=arguments.allow,
            proxy=arguments.send_proxy,
            headed=arguments.accept_proxy,
            most=arguments.connections,
            failed=lambda address, error: _report(address, error, as_json=arguments.json),
        )
        where = arguments.listen if arguments.listen.path else format_address(listener.getsockname())
        print(f"hsframework: forwarding from {where} to {arguments.to}", file=sys.stderr, flush=True)
        await _until_told(forwarder, arguments)
        cut = await forwarder.drain(arguments.drain)
        if cut:
            print(f"hsframework: {cut} connections were cut after {arguments.drain:g} s", file=sys.stderr, flush=True)
    return 0


async def _until_told(forwarder: Forwarder, arguments: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once."""
    loop = asyncio.get_running_loop()
    serving = asyncio.ensure_future(forwarder.serve())
    loop.add_signal_handler(signal.SIGHUP, _read_again, forwarder, arguments)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, serving.cancel)
    await asyncio.wait({serving})
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    if not serving.cancelled():
        serving.result()


def _read_again(forwarder: Forwarder, arguments: argparse.Namespace) -> None:
    """Take what the files hold now; where one is wrong, all stays as it is."""
    try:
        forwarder.options = _options(arguments)
    except ConfigurationError as error:
        print(f"hsframework: all stays as it is: {error}", file=sys.stderr, flush=True)
    else:
        print("hsframework: the files were read again", file=sys.stderr, flush=True)


def _report(address: str, error: Exception, *, as_json: bool) -> None:
    if isinstance(error, HsframeworkError):
        report_failure(error, address, as_json=as_json)
    else:
        print(f"hsframework: connection of {address} broke: {error}", file=sys.stderr, flush=True)
