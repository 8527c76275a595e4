"""One child process of the supervisor, as :mod:`hsframework.supervisor.children` keeps it."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic

import structlog

from hsframework.errors import MessageError
from hsframework.local.control_form import Direction
from hsframework.local.control_socket import ControlSocket, Received, Sent

FLOOD_WINDOW = 10.0
MOST_MESSAGES = 5_000
"""Twice what a keeper sends at most: 256 workers join, die five times each and are replaced."""

_log = structlog.get_logger("hsframework.supervisor")


@dataclass(eq=False)
class Child(Generic[Sent, Received]):
    """One process that is kept alive.

    ``start`` runs in it, with its end of a control socket; the process ends with the status that it returns.
    ``sends`` and ``receives``: the messages to it and from it.
    """

    name: str
    start: Callable[[socket.socket], int]
    sends: Direction[Sent]
    receives: Direction[Received]
    essential: bool = False
    passing: bool = False
    """True if it is not started again when it has ended, and then forgotten."""
    serves: bool = True
    """True if there is something to run for as long as it runs."""
    takes_fds: bool = False
    """True if descriptors come from it."""
    handed: int | None = field(default=None, init=False)
    """The descriptor that came with its last message: the caller's who takes it before the next one comes."""
    pid: int = field(default=0, init=False)
    """0: no process runs."""
    control: ControlSocket[Sent, Received] | None = field(default=None, init=False)
    started: float = field(default=0.0, init=False)
    failures: int = field(default=0, init=False)
    due: float | None = field(default=0.0, init=False)
    """Time of its next start; None: it runs, or is not started again."""
    has_reported: bool = field(default=False, init=False)
    """True once it has sent a message that it is ready: its configuration is right."""
    ended: bool = field(default=False, init=False)
    """True once it has ended, whether or not it was started again."""
    status: int | None = field(default=None, init=False)
    """Exit status of the last process; None: none has ended yet."""
    _window: float = field(default=0.0, init=False)
    _messages: int = field(default=0, init=False)

    @property
    def over(self) -> bool:
        """True if it does not run and is not started again."""
        return not self.pid and self.due is None

    def begun(self, pid: int, control: ControlSocket[Sent, Received]) -> None:
        """Record the process that was started."""
        self.pid, self.control = pid, control
        self.due, self.started = None, time.monotonic()
        self._window = 0.0

    def send(self, message: Sent) -> None:
        """Send a message, if a process is there to receive it."""
        if self.control is None:
            return
        try:
            taken = self.control.send(message)
        except OSError as error:
            _log.error("a child cannot be told and is killed", child=self.name, reason=error.strerror)
            if self.pid:
                os.kill(self.pid, signal.SIGKILL)
        else:
            if not taken:
                _log.error("a child does not take a message and is killed", child=self.name, message=message.event)
                if self.pid:
                    os.kill(self.pid, signal.SIGKILL)

    def offer(self, message: Sent, fd: int | None = None) -> bool:
        """Send a message, and a copy of ``fd``.  False: no process is there, or it does not read now."""
        try:
            return self.control is not None and self.control.send(message, fd)
        except OSError:
            return False

    def receive(self, now: float) -> Received | None:
        """Return its next message, or None if there is none.

        Raises EOFError when the process has closed its end, MessageError when it breaks the protocol.
        """
        if self.control is None:
            return None
        if now >= self._window:
            self._window, self._messages = now + FLOOD_WINDOW, 0
        if self.handed is not None:
            os.close(self.handed)
            self.handed = None
        received = self.control.receive_with_fd()
        message = None
        if received is not None:
            message, self.handed = received
        self._messages += 1
        if self._messages > MOST_MESSAGES:
            raise MessageError(f"more than {MOST_MESSAGES} messages in {FLOOD_WINDOW:.0f} seconds")
        return message

    def take_handed(self) -> int | None:
        """Return the descriptor that came with the last message, which is the caller's from then on."""
        handed, self.handed = self.handed, None
        return handed


AnyChild = Child[Any, Any]
