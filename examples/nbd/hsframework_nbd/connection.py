"""A connection to an NBD server that is ready for the kernel: negotiated, over TLS whose keys are in the socket."""

from __future__ import annotations

import errno
import socket
from dataclasses import dataclass

from hsframework.client import Client, HandshakeOptions
from hsframework.errors import HandshakeError
from hsframework_nbd.negotiation import Export, Negotiation

TIMEOUT = 10.0
"""Seconds for each step of the negotiation."""


@dataclass(frozen=True, slots=True)
class Place:
    """An export and the way to it."""

    host: str
    port: int
    export: str
    options: HandshakeOptions


def connect(client: Client, place: Place) -> tuple[socket.socket, Export]:
    """Return a connected socket in NBD's transmission phase, and its export.  Raises HsframeworkError, OSError."""
    sock = socket.create_connection((place.host, place.port), timeout=TIMEOUT)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        negotiation = Negotiation(sock.sendall, sock.recv)
        negotiation.start_tls()
        session = client.handshake(sock, place.options)
        if not session.in_kernel:
            raise HandshakeError("the session is in user space; is the module tls loaded?", errno=errno.EOPNOTSUPP)
        # The stream reads what follows a handshake and is no data, such as session tickets; the kernel's NBD would
        # take them for errors.  It is left open, since its end would be the connection's.
        stream = session.stream()
        negotiation.use(stream.send, stream.receive)
        export = negotiation.go(place.export)
        sock.settimeout(None)
    except BaseException:
        sock.close()
        raise
    return sock, export
