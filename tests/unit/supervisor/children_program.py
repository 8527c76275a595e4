"""A supervisor whose children the tests bring, for a process of its own: it forks and takes signals.

It imports little, so that any Python of the machine can run it.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

import structlog

from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    SUPERVISOR_TO_KEEPER,
    AgentStarted,
    Known,
    Ready,
)
from hsframework.process.capabilities import die_with_parent
from hsframework.supervisor.child import AnyChild, Child
from hsframework.supervisor.children import Children

ANSWERS = 100

Start = Callable[[socket.socket], int]


def keeper(name: str, start: Start) -> AnyChild:
    """Return a child with a keeper's messages."""
    return Child(name, start, SUPERVISOR_TO_KEEPER, KEEPER_TO_SUPERVISOR)


def dispatcher(start: Start) -> AnyChild:
    """Return the essential child, with the dispatcher's messages."""
    return Child("dispatcher", start, SUPERVISOR_TO_DISPATCHER, DISPATCHER_TO_SUPERVISOR, essential=True)


def answers(control: socket.socket) -> int:
    """Act as a dispatcher that answers every AgentStarted, until its socket is closed."""
    while data := control.recv(65536):
        message = SUPERVISOR_TO_DISPATCHER.decode(data)
        assert isinstance(message, AgentStarted)
        control.send(Known(message.name).encode())
    return 0


def ready(control: socket.socket) -> int:
    """Act as a dispatcher that reports that it is ready."""
    control.send(Ready().encode())
    return answers(control)


def serves(control: socket.socket) -> int:
    """Act as a keeper that waits until its socket is closed."""
    while control.recv(65536):
        pass
    return 0


def stays(_: socket.socket) -> NoReturn:
    """Act as a process that only SIGKILL ends."""
    die_with_parent(os.getppid())
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    while True:
        signal.pause()


def run(
    children: Sequence[AnyChild],
    until: Callable[[], object],
    *,
    asked: AnyChild | None = None,
    limit: float | None = None,
) -> int | None:
    """Keep the children alive until that is so or a signal ends it.  Returns the exit status of the whole.

    Every message is printed.  The dispatcher ``asked`` is sent a question at first, and after each answer, until it has
    answered :data:`ANSWERS` times.  ``limit``: seconds of the watchdog.
    """
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.WriteLoggerFactory(sys.stderr)
    )
    house = Children(children, limit=limit)
    house.start_due()
    if asked is not None:
        asked.send(AgentStarted("question", None, ()))
    missing = 0 if asked is None else ANSWERS
    while house.status is None and (missing > 0 or not until()):
        for child, message in house.wait():
            print(child.name, message, flush=True)
            if child is asked:
                missing -= 1
                if missing > 0:
                    asked.send(AgentStarted("question", None, ()))
        house.start_due()
    house.stop([child for child in children if child is not asked], [child for child in children if child is asked])
    return house.status
