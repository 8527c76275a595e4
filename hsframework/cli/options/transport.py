"""The transport of a protocol's sessions: TCP, or UDP with a connected socket for each client.

A protocol that is not installed here is taken for one over TCP; the service refuses the request if it has none either.
"""

from __future__ import annotations

import argparse
import asyncio
import errno
import os
import socket
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol as TypingProtocol

from hsframework.cli.options.address import format_address, listen_tcp
from hsframework.client import AsyncClient, AsyncSession, AsyncUdpListener, HandshakeOptions
from hsframework.client.session import installed_plugins
from hsframework.errors import ConfigurationError, HsframeworkError
from hsframework.interface import AddressValidation, AuthMode, Demand, Protocol

CONNECT_TIMEOUT = 10.0
"""Seconds for each address of a host."""
QLOG_FOLDER = "QLOGDIR"
"""Environment variable that names the folder for qlogs."""
_PAUSE = 0.1
"""Seconds without accepting when the process is out of file descriptors."""


@dataclass(frozen=True, slots=True)
class Newcomer:
    """A new client, over TCP or UDP.  Its holder closes the socket."""

    socket: socket.socket
    address: str
    """``address:port`` of the client."""
    handshake: Callable[[AsyncClient, HandshakeOptions], Awaitable[AsyncSession]]
    """Runs the handshake on the socket."""


class ListeningSocket(TypingProtocol):
    """A listening socket of either transport."""

    @property
    def address(self) -> Any: ...

    async def accept(self) -> Newcomer: ...

    def close(self) -> None: ...


class TcpListeningSocket:
    """A listening TCP socket."""

    def __init__(self, host: str, port: int) -> None:
        self._listener = listen_tcp(host, port)
        self.address = self._listener.getsockname()

    async def accept(self) -> Newcomer:
        """Wait for the next connection that still has a peer."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(self._listener)
            except OSError as error:
                print(f"hsframework: cannot accept a connection: {error.strerror}", file=sys.stderr, flush=True)
                await asyncio.sleep(_PAUSE)
                continue
            try:
                address = format_address(sock.getpeername())
            except OSError:  # the peer has reset the connection already
                sock.close()
                continue
            return Newcomer(sock, address, lambda client, options, sock=sock: client.handshake(sock, options))  # type: ignore[misc]

    def close(self) -> None:
        self._listener.close()


class UdpListeningSocket:
    """A listening UDP socket of a datagram protocol."""

    def __init__(self, host: str, port: int, protocol: str, validation: AddressValidation) -> None:
        self._listener = AsyncUdpListener(host, port, protocol=protocol, validation=validation)
        self.address = self._listener.address

    async def accept(self) -> Newcomer:
        """Wait for the next client that the protocol's gate admits."""
        newcomer = await self._listener.accept()
        return Newcomer(newcomer.socket, newcomer.address, newcomer.handshake)

    def close(self) -> None:
        self._listener.close()


def check_protocol(arguments: argparse.Namespace) -> None:
    """Check the options against the protocol, and set up --qlog.

    Raises ConfigurationError for an option that the protocol does not support, HsframeworkError for a qlog folder that
    cannot be made.
    """
    protocol = _installed(arguments.protocol)
    if protocol is None:
        _warn_of_strange_name(arguments.protocol)
    else:
        given = (arguments.psk or arguments.psk_file) and "--psk and --psk-file"
        if given and AuthMode.PSK not in protocol.auth_modes:
            raise ConfigurationError(
                f"{given}: {protocol.name} takes no pre-shared keys: leave them out, or choose another --protocol"
            )
    if arguments.qlog is not None:
        _ask_for_qlogs(arguments.qlog, protocol, arguments.protocol)
    if getattr(arguments, "retry", None) is not None and not uses_datagrams(arguments.protocol):
        raise ConfigurationError(
            f"--retry: clients of {arguments.protocol} come over TCP, which has proved their address"
        )


def uses_datagrams(name: str) -> bool:
    """Return True if the protocol is installed here and runs over UDP."""
    protocol = _installed(name)
    return protocol is not None and socket.IPPROTO_UDP in protocol.socket_protocols


def proves_names(name: str) -> bool:
    """Return False if the protocol is installed here and its peers prove no names."""
    protocol = _installed(name)
    return protocol is None or Demand.PEER_NAME in protocol.understands


def listen(arguments: argparse.Namespace, host: str, port: int) -> ListeningSocket:
    """Return a listening socket of the protocol's kind.  Raises HsframeworkError."""
    if not uses_datagrams(arguments.protocol):
        return TcpListeningSocket(host, port)
    return UdpListeningSocket(host, port, arguments.protocol, AddressValidation(arguments.retry or "load"))


def _installed(name: str) -> Protocol | None:
    entry = installed_plugins().protocols.get(name)
    return None if entry is None else entry.protocol


def _warn_of_strange_name(name: str) -> None:
    known = {word for key, entry in installed_plugins().protocols.items() for word in (key, *entry.protocol.groups)}
    if name not in known:
        print(
            f"hsframework: warning: no plugin that is installed here serves {name!r:.100} "
            f"(installed: {', '.join(sorted(installed_plugins().protocols)) or 'none'})",
            file=sys.stderr,
        )


def _ask_for_qlogs(folder: Path, protocol: Protocol | None, name: str) -> None:
    if protocol is None or not protocol.writes_qlogs:
        raise ConfigurationError(f"--qlog: the protocol {name!r} writes no qlogs here; leave it out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HsframeworkError(
            f"--qlog: {folder}: {error.strerror}; name a folder that can be written to", errno=error.errno or errno.EIO
        ) from None
    # The plugin reads this variable, as other QUIC programs do.
    os.environ[QLOG_FOLDER] = str(folder.absolute())
