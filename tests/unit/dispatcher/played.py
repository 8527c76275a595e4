"""A source and an agent that a test plays, with a dispatcher between them: no socket of the service, no message."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace
from typing import Any

from hsframework.configuration.settings import Configuration, Limits
from hsframework.dispatcher.custody import Custody
from hsframework.dispatcher.messages import Parameters
from hsframework.dispatcher.policy import PeerCredentials
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.lifecycle import State
from hsframework.dispatcher.requests.request import Outcome, PendingRequest, Submission
from tests.support.house import connected_pair

GROUP = "toy"
FAILED = Outcome.failure(errno.EACCES, "not today")


class PlayedSource:
    """``fault``: an exception that complete() raises.  ``keeps``: it keeps the sockets that it is given then."""

    name = "played"

    def __init__(self, fault: Exception | None = None, keeps: bool = False) -> None:
        self.fault = fault
        self.keeps = keeps
        self.completed: list[tuple[object, int]] = []
        self.closed: list[str] = []

    def group_opened(self, group: str) -> None:
        """Do nothing."""

    def group_closed(self, group: str) -> None:
        self.closed.append(group)

    def room_made(self, group: str) -> None:
        """Do nothing."""

    def group_number(self, group: str) -> int:
        return 0

    def restored(self, custody: Custody, values: Mapping[str, Any], outcome: Outcome | None) -> None:
        raise NotImplementedError

    def complete(self, request: PendingRequest, outcome: Outcome) -> None:
        assert request.state is State.CLOSED
        self.completed.append((request.origin, outcome.status))
        if self.fault is not None:
            raise self.fault
        if not self.keeps:
            request.custody.release()


class PlayedAgent:
    name = protocol = "played"
    kernel_tls = "yes"
    joined_at = 0.0
    peer = PeerCredentials(1, 0, 0)
    socket_protocols: frozenset[int] = frozenset()

    def __init__(self) -> None:
        self.announced: list[str] = []
        self.withdrawn: list[tuple[int, int]] = []

    def announce(self, group: str) -> None:
        self.announced.append(group)

    def withdraw(self, request_id: int, reason: int) -> None:
        self.withdrawn.append((request_id, reason))

    def watch(self) -> None:
        """Do nothing."""


class Stage:
    """A dispatcher, an agent that has joined, and a request of the source's, whose origin is a text."""

    def __init__(self, source: PlayedSource, fd: int, limits: Limits) -> None:
        self.dispatcher = Dispatcher(Configuration(limits=limits))
        self.agent = PlayedAgent()
        self.source = source
        self.dispatcher.add_source(source)
        self.dispatcher.joined(self.agent, [GROUP])
        self.submission = Submission(
            source=source, consumer=0, group=GROUP, timeout=100, parameters=Parameters(b"", b"")
        )
        custody = Custody(os.dup(fd), self.dispatcher.close_fd, trusted=True)
        self.request = self.dispatcher.submit(self.submission, custody, "its origin")

    def another(self, sock: socket.socket, origin: object = None, **changed: Any) -> PendingRequest:
        """Return a further request of the source's."""
        custody = Custody(os.dup(sock.fileno()), self.dispatcher.close_fd, trusted=True)
        return self.dispatcher.submit(replace(self.submission, **changed), custody, origin)

    def pulled(self) -> PendingRequest:
        (request,) = self.dispatcher.pull(self.agent, GROUP, 1)
        return request


@contextlib.asynccontextmanager
async def stage(
    fault: Exception | None = None, *, keeps: bool = False, limits: Limits | None = None
) -> AsyncIterator[Stage]:
    with connected_pair() as (ours, _):
        played = Stage(PlayedSource(fault, keeps), ours.fileno(), limits or Limits())
        yield played
        played.dispatcher.remove_source(played.source)
        assert not played.dispatcher.requests
        played.dispatcher.stop()
        played.dispatcher.close()


class Listening(PlayedAgent):
    """An agent that serves sockets of one SO_PROTOCOL."""

    def __init__(self, protocol: int) -> None:
        super().__init__()
        self.socket_protocols = frozenset({protocol})


@contextlib.contextmanager
def udp_socket() -> Iterator[socket.socket]:
    """Open a connected UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", 9))
        yield sock
