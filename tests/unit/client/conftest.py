"""Fixtures: a dispatcher that is told what to do, and a connected pair of TCP sockets."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hsframework.testing.network import tcp_pair
from tests.unit.client.fake_dispatcher import FakeDispatcher


@pytest.fixture
def dispatcher(tmp_path: Path) -> Iterator[FakeDispatcher]:
    with FakeDispatcher(tmp_path) as fake:
        yield fake


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = tcp_pair()
    with near, far:
        yield near, far
