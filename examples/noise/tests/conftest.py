"""The service with this plugin in it and connections."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hsframework.client import Client
from hsframework.testing.network import tcp_pair
from hsframework.testing.service import RunningService, running_service

from keys import OURS, write_key


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    """Run `hsframework run`, with a key of ours in the settings for the profile ``vpn``."""
    file = tmp_path_factory.mktemp("keys") / "host.key"
    write_key(file, OURS)
    configuration = f'[profiles.vpn]\n[profiles.web]\n[plugins.noise.keys]\nvpn = "{file}"\n'
    with running_service(groups=("noise",), configuration=configuration) as running:
        yield running


@pytest.fixture
def client(service: RunningService) -> Iterator[Client]:
    """Return a consumer of the service."""
    with Client(service.runtime_dir) as opened:
        yield opened


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return both ends of a TCP connection."""
    near, far = tcp_pair(timeout=30)
    with near, far:
        yield near, far
