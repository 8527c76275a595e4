"""Fixtures of this tier: one service for all tests, and options of both sides."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hsframework.adapters.context import SessionContext
from hsframework.client import Client, HandshakeOptions
from hsframework.interface import Role
from hsframework.testing.certificates import Authority
from tests.support.service import Service, running_service

ROOT, STRANGER = Authority("Adapters Root"), Authority("Somebody Else")
NAMES = ["localhost", "127.0.0.3"]


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """`hsframework run` with the TLS 1.3 plugin."""
    with running_service(groups=("tls13",)) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(service.runtime) as connected:
        yield connected


@pytest.fixture(scope="session")
def server() -> HandshakeOptions:
    """A server's options, with a certificate for this host."""
    return HandshakeOptions(role=Role.SERVER, identities=(ROOT.issue(NAMES).identity,))


@pytest.fixture
def context(client: Client) -> SessionContext:
    """A client's context, with the trust that the server's certificate is under."""
    return SessionContext(client, trust=ROOT.trust())
