"""Two aioquic connections that have made their handshake with each other in memory, each on one end of a UDP path."""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_der_private_key

from hsframework.interface import Identity
from hsframework.testing.certificates import Authority

NAME = "server.example"


@dataclass
class Ends:
    """Both ends, their handshake confirmed, and the sockets that belong to them, connected with each other."""

    client: QuicConnection
    server: QuicConnection
    client_socket: socket.socket
    server_socket: socket.socket

    def carry(self, now: float) -> int:
        """Take every datagram that is due from one to the other.  How many there were."""
        return carry(self.client, self.server, now) + carry(self.server, self.client, now)


@cache
def authority() -> Authority:
    return Authority("Joined Root")


@cache
def identity() -> Identity:
    return authority().issue([NAME]).identity


def carry(source: QuicConnection, target: QuicConnection, now: float) -> int:
    datagrams = source.datagrams_to_send(now)
    for data, _ in datagrams:
        target.receive_datagram(data, target.get_peer_address() or _address(source), now)
    return len(datagrams)


def _address(quic: QuicConnection) -> Any:
    address: Any = quic.joined_address  # type: ignore[attr-defined]
    return address


def sockets(host: str = "127.0.0.1") -> tuple[socket.socket, socket.socket]:
    """Make two UDP sockets that are connected with each other."""
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    one, other = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
    one.bind((host, 0))
    other.bind((host, 0))
    one.connect(other.getsockname())
    other.connect(one.getsockname())
    return one, other


def client_configuration(**options: Any) -> QuicConfiguration:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=["echo"], server_name=NAME, **options)
    configuration.load_verify_locations(cadata=authority().certificate_pem)
    return configuration


def server_configuration(**options: Any) -> QuicConfiguration:
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["echo"], **options)
    configuration.certificate, *chain = (x509.load_der_x509_certificate(der) for der in identity().chain)
    configuration.certificate_chain = chain
    configuration.private_key = load_der_private_key(identity().private_key.reveal(), None)
    return configuration


@contextmanager
def joined(
    client_options: dict[str, Any] | None = None, server_options: dict[str, Any] | None = None
) -> Iterator[Ends]:
    """Make the ends of a connection; DATAGRAM frames are allowed unless the options say something else."""
    common = {"max_datagram_frame_size": 65535}
    one, other = sockets()
    with one, other:
        client = QuicConnection(configuration=client_configuration(**{**common, **(client_options or {})}))
        client.connect(other.getsockname(), time.monotonic())
        server = QuicConnection(
            configuration=server_configuration(**{**common, **(server_options or {})}),
            original_destination_connection_id=client.original_destination_connection_id,
        )
        server.joined_address = other.getsockname()  # type: ignore[attr-defined]
        client.joined_address = one.getsockname()  # type: ignore[attr-defined]
        ends = Ends(client, server, one, other)
        while ends.carry(time.monotonic()):
            pass
        for end in (client, server):
            while end.next_event() is not None:
                pass
        yield ends
