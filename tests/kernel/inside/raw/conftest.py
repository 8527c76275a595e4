"""For the tests of the module that offers the raw-netlink form: the module, a connection, an agent of TLS."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tests.kernel import raw
from tests.kernel.machine import debian
from tests.kernel.raw import Agent
from tests.support.running import tcp_pairs


@pytest.fixture(scope="module", autouse=True)
def module() -> Iterator[None]:
    """With few that may wait."""
    with raw.loaded(protocols=5, limit=8):
        yield


@pytest.fixture(autouse=True)
def left_nothing() -> Iterator[None]:
    """Undo after each test what it has left open or set."""
    with raw.returned():
        yield
    raw.set_limit(8)
    raw.set_limit(1024, "lent")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A consumer's socket and its peer."""
    with tcp_pairs() as (made,):
        yield made


@pytest.fixture
def agent() -> Iterator[Agent]:
    """Of the group tlshd."""
    with Agent(raw.TLSHD) as made:
        yield made


@pytest.fixture
def yellow() -> Iterator[str]:
    """The name of a network namespace, which the test may delete."""
    debian("ip", "netns", "add", "yellow")
    yield "yellow"
    debian("ip", "netns", "delete", "yellow", check=False)
