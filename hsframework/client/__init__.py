"""Clients of the service, for programs in user space: submit a connected socket, get a session back."""

from hsframework.client.aio import AsyncClient
from hsframework.client.listener import AsyncNewcomer, AsyncUdpListener, Newcomer, UdpListener
from hsframework.client.race import connect_udp_session
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import AsyncSession, BaseSession, Session
from hsframework.client.sync import Client
from hsframework.client.udp import connect_udp

__all__ = [
    "AsyncClient",
    "AsyncNewcomer",
    "AsyncSession",
    "AsyncUdpListener",
    "BaseSession",
    "Client",
    "HandshakeOptions",
    "Newcomer",
    "Session",
    "UdpListener",
    "connect_udp",
    "connect_udp_session",
]
