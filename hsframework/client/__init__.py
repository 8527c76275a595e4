"""For programs in user space: hand a connected socket over, get a session back."""

from hsframework.client.aio import AsyncClient
from hsframework.client.request import HandshakeOptions
from hsframework.client.session import AsyncSession, BaseSession, Session
from hsframework.client.sync import Client

__all__ = ["AsyncClient", "AsyncSession", "BaseSession", "Client", "HandshakeOptions", "Session"]
