"""Hosts and ports of the command line, and the TCP sockets that follow from them."""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import socket
from typing import Any

from hsframework.errors import HsframeworkError


def add_port(parser: argparse.ArgumentParser) -> None:
    """Add the positional PORT of a remote server."""
    parser.add_argument("port", metavar="PORT", type=_remote_port, help="TCP or UDP port")


def port_number(text: str) -> int:
    """Parse a port from 0 to 65535.  Raises argparse.ArgumentTypeError."""
    if not (text.isascii() and text.isdigit()) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give a number from 0 to 65535")
    return int(text)


def _remote_port(text: str) -> int:
    if (port := port_number(text)) == 0:
        raise argparse.ArgumentTypeError("0 is no server's port; give a number from 1 to 65535")
    return port


def format_address(address: Any) -> str:
    """Format a socket address: ``("::1", 443, 0, 0)`` → ``[::1]:443``."""
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def connect_tcp(host: str, port: int, timeout: float) -> socket.socket:
    """Return a non-blocking socket connected to the first of the host's addresses that answers.

    ``timeout``: seconds for each address.  Raises HsframeworkError.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        reason = error.strerror if isinstance(error, socket.gaierror) else "not a host name"
        raise HsframeworkError(f"the address of {host!r} cannot be found: {reason}", errno=errno.EHOSTUNREACH) from None
    problem: OSError = OSError(errno.EHOSTUNREACH, "no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(sock, address)
            return sock
        except TimeoutError:
            problem = OSError(errno.ETIMEDOUT, f"no answer within {timeout:g} s")
        except OSError as error:
            problem = error
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise HsframeworkError(
        f"cannot connect to {host} port {port}: {_reason(problem)}", errno=problem.errno or errno.EIO
    )


def listen_tcp(host: str, port: int, backlog: int = 128) -> socket.socket:
    """Return a non-blocking listening socket.  Raises HsframeworkError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = found[0]
        listener = socket.create_server(address[:2], family=family, backlog=backlog)
    except (OSError, UnicodeError) as error:
        reason = _reason(error) if isinstance(error, OSError) else str(error)
        number = error.errno if isinstance(error, OSError) and 0 < (error.errno or 0) < 4096 else errno.EADDRNOTAVAIL
        raise HsframeworkError(
            f"cannot listen on {host} port {port}: {reason}; choose another address or port", errno=number
        ) from None
    listener.setblocking(False)
    return listener


def _reason(error: OSError) -> str:
    """Return the system's text for the error: asyncio and socket append the address to it, or replace it."""
    if isinstance(error, socket.gaierror | TimeoutError) or not error.errno:
        return error.strerror or str(error)
    return os.strerror(error.errno)
