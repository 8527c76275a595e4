"""`hsframework run`: the dispatcher and an agent for each installed plugin, started from one warm process and kept
alive.

::

    supervisor (root, no secrets, no plugin code)
    ├── dispatcher           forked; reads the key files
    ├── keeper of tls13      forked; gives up root, then imports the plugin
    │   └── agent, agent …   forked from the keeper
    └── keeper of …

Rules:

* The supervisor opens the listening sockets and keeps them: while the dispatcher is started anew, connects wait in the
  backlog and are not refused.
* It forks and never executes: what a child needs was imported before the fork.  So a replacement opens no program file.
* It holds no secret and imports no plugin: a keeper that is forked later has nothing to inherit.
* A child that ends is started again, at once the first time and then with growing pauses.  One whose configuration is
  wrong (exit status 2) is not; if that is the dispatcher, everything ends.
* An agent's user may join the groups of its plugin: the keeper names them, the supervisor passes those that it grants
  (:mod:`hsframework.supervisor.grants`) to the dispatcher, and the keeper's agents start when the dispatcher has said
  that it knows.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import structlog

from hsframework.agent.main import run_keeper
from hsframework.agent.privileges import AgentUser, agent_user
from hsframework.configuration.plugin_tables import unread_tables
from hsframework.configuration.settings import AgentSettings, Configuration
from hsframework.dispatcher import main as dispatcher_main
from hsframework.dispatcher.listeners import close_listeners, open_listeners
from hsframework.errors import ConfigurationError
from hsframework.process.lock import lock_memory, prepare_protection
from hsframework.process.signals import SignalSocket, stop_signals
from hsframework.registry.plugins import ENTRY_POINT_GROUP
from hsframework.supervisor.grants import refused_groups

EXIT_CONFIGURATION = 2
STOP_TIMEOUT = 10.0
_PAUSES = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)
_LONGEST_WITHOUT_DISPATCHER = 0.5
"""Nobody is served without it: it is back within a second, however often it ends."""
_STEADY = 30.0
"""Seconds after which a child counts as well, and the next restart is at once again."""

_log = structlog.get_logger("hsframework.supervisor")


@dataclass(eq=False)
class Child:
    """One process that is kept alive.  ``start`` runs in it, with its end of a control socket, and never returns."""

    name: str
    start: Callable[[socket.socket], int]
    essential: bool = False
    pid: int = 0
    control: socket.socket | None = None
    started: float = 0.0
    failures: int = 0
    due: float | None = 0.0
    """When it is to be started; None: it runs, or is not to be started again."""
    groups: tuple[str, ...] = field(default=())
    plugin: str = ""
    protocols: tuple[str, ...] | None = None
    """A keeper's; None: it has neither said them nor ended."""
    uid: int | None = None


class Supervisor:
    """One run of the house."""

    def __init__(self, configuration: Configuration, listeners: Mapping[str, socket.socket]) -> None:
        self._configuration = configuration
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        self._status = 0
        self._stopping = False
        self._dispatcher = Child("dispatcher", self._run_dispatcher, essential=True)
        self._installed = plugin_names()
        self._plugins = [name for name in self._installed if name not in configuration.blocked_plugins]
        self._children = [self._dispatcher, *(self._keeper(name) for name in self._plugins)]
        self._tables_checked = False
        self._stop_signals = stop_signals()
        self._signals = SignalSocket((signal.SIGCHLD, *self._stop_signals))
        self._selector.register(self._signals, selectors.EVENT_READ, None)

    def run(self) -> int:
        """Until SIGTERM or SIGINT.  Returns the exit status."""
        gc.freeze()
        try:
            while not self._stopping:
                self._start_what_is_due()
                self._check_tables()
                self._wait()
        finally:
            self._stop_children()
        return self._status

    # Starting

    def _keeper(self, name: str) -> Child:
        settings = self._configuration.agents.get(name, AgentSettings())
        user = agent_user(settings.user, name)
        if user is not None:
            _check_reachable(self._configuration.runtime_dir, user)

        def start(control: socket.socket) -> int:
            close_listeners(self._listeners)
            return run_keeper(name, self._configuration, settings=settings, user=user, control=control)

        return Child(f"agent of {name}", start, plugin=name, uid=None if user is None else user.uid)

    def _run_dispatcher(self, control: socket.socket) -> int:
        agents: dict[str, set[int]] = {}
        for child in self._children:
            for group in child.groups:
                agents.setdefault(group, set()).update(() if child.uid is None else (child.uid,))
        return dispatcher_main.run(
            self._configuration,
            listeners=self._listeners,
            agent_uids=agents,
            expected_groups=agents,
            control=control,
        )

    def _start_what_is_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.due is not None and child.due <= now:
                self._start(child)

    def _start(self, child: Child) -> None:
        child.due = None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal for the child waits until its own handlers are in place.
        with self._signals.held():
            pid = os.fork()
            if not pid:
                ours.close()
                self._become(child, theirs)
        theirs.close()
        child.pid, child.control, child.started = pid, ours, time.monotonic()
        ours.setblocking(False)
        self._selector.register(ours, selectors.EVENT_READ, child)
        _log.info("started", child=child.name, process=pid)

    def _become(self, child: Child, control: socket.socket) -> NoReturn:
        """In the forked child: nothing of the supervisor's stays open."""
        status = 1
        try:
            self._signals.leave()
            self._selector.close()
            for other in self._children:
                if other.control is not None:
                    other.control.close()
            status = child.start(control)
        except KeyboardInterrupt:
            status = 130
        except Exception as error:
            _log.error("a child cannot go on", child=child.name, error=str(error), kind=type(error).__name__)
            status = EXIT_CONFIGURATION if isinstance(error, ConfigurationError) else 1
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    # Waiting

    def _wait(self) -> None:
        due = [child.due for child in self._children if child.due is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        for key, _ in self._selector.select(timeout):
            if key.data is None:
                self._stopping = self._stopping or bool(self._signals.take().intersection(self._stop_signals))
            else:
                self._hear(key.data)
        self._reap()

    def _hear(self, child: Child) -> None:
        assert child.control is not None
        try:
            data = child.control.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._drop_control(child)
            return
        try:
            event: dict[str, Any] = json.loads(data)
            if child is self._dispatcher:
                self._hear_dispatcher(event)
            elif event["event"] == "loaded":
                child.protocols = tuple(map(str, event["protocols"]))
                child.groups = self._granted(child, tuple(map(str, event["groups"])))
                self._tell_dispatcher(child)
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            # A keeper runs a plugin's code, so its word is checked as a stranger's.
            _log.error("a child's message is not understood", child=child.name, error=repr(error))

    def _check_tables(self) -> None:
        """Once each plugin has told which protocols it has: does one read each table that the configuration has?"""
        keepers = [child for child in self._children if child.plugin]
        if self._tables_checked or any(child.protocols is None for child in keepers):
            return
        self._tables_checked = True
        names = {*self._installed, *(name for child in keepers for name in child.protocols or ())}
        for table in unread_tables(self._configuration, names):
            _log.warning("nobody reads a table", table=table.name, reason=table.reason, mend=table.mend)

    def _granted(self, child: Child, wanted: tuple[str, ...]) -> tuple[str, ...]:
        """The groups that the child's agents may join, of those that it has named."""
        refused = refused_groups(child.plugin, wanted, self._configuration, self._plugins)
        for group, mend in refused.items():
            _log.error("a plugin wants a group that it may not join", child=child.name, group=group, mend=mend)
        return tuple(group for group in wanted if group not in refused)

    def _hear_dispatcher(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "known":
            self._let_go(event["name"])
        elif event["event"] == "ready":
            for other in self._children:
                if other.groups:
                    self._tell_dispatcher(other)

    def _tell_dispatcher(self, child: Child) -> None:
        if self._dispatcher.control is not None:
            _send(self._dispatcher, {"event": "agent", "name": child.name, "uid": child.uid, "groups": child.groups})

    def _let_go(self, name: str) -> None:
        for child in self._children:
            if child.name == name and child.control is not None:
                _send(child, {"event": "go"})

    def _drop_control(self, child: Child) -> None:
        if child.control is not None:
            self._selector.unregister(child.control)
            child.control.close()
            child.control = None

    def _reap(self) -> None:
        for child in self._children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, status: int) -> None:
        self._drop_control(child)
        child.pid = 0
        child.protocols = child.protocols or ()
        if status == EXIT_CONFIGURATION or (status == 0 and not child.essential):
            tell = _log.error if status else _log.info
            tell("ended and is not started again", child=child.name, status=status)
            if child.essential:
                self._status, self._stopping = status, True
            return
        steady = time.monotonic() - child.started > _STEADY
        child.failures = 0 if steady else child.failures + 1
        pause = _PAUSES[min(max(child.failures - 1, 0), len(_PAUSES) - 1)]
        if child.essential:
            pause = min(pause, _LONGEST_WITHOUT_DISPATCHER)
        child.due = time.monotonic() + pause
        _log.warning("ended and is started again", child=child.name, status=status, pause=pause)

    def _stop_children(self) -> None:
        """Agents first, so that they can still say DONE; the dispatcher last."""
        for group in ([child for child in self._children if child is not self._dispatcher], [self._dispatcher]):
            for child in group:
                if child.pid:
                    os.kill(child.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_TIMEOUT
            for child in group:
                _await_end(child, deadline)


def run(configuration: Configuration) -> int:
    """`hsframework run`.  Returns the exit status; raises ConfigurationError."""
    _check_required(configuration)
    dispatcher_main.harden()
    prepare_protection(configuration.memory)
    lock_memory(configuration.memory, populate=True)
    listeners = open_listeners(configuration.runtime_dir)
    try:
        return Supervisor(configuration, listeners).run()
    finally:
        close_listeners(listeners)


def _check_required(configuration: Configuration) -> None:
    """Raises ConfigurationError for a required plugin that is not installed.  One that is broken, its keepers tell."""
    for name in configuration.required_plugins:
        if name not in plugin_names():
            raise ConfigurationError(
                f"required-plugins: no plugin {name!r} is installed; install it, or take it out of the list"
            )


def _check_reachable(folder: Path, user: AgentUser) -> None:
    """Raises ConfigurationError when an agent's user cannot get to the sockets."""
    for path in (folder, *folder.absolute().parents):
        status = path.stat()
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not status.st_mode >> shift & stat.S_IXOTH:
            raise ConfigurationError(
                f"{path}: the agents' user {user.name} cannot pass through it to {folder}; allow it by chmod o+x, or "
                "choose another --runtime-dir"
            )


def plugin_names() -> list[str]:
    """The installed plugins' names, from their metadata: nothing is imported."""
    return sorted({entry.name for entry in metadata.entry_points(group=ENTRY_POINT_GROUP)})


def _send(child: Child, event: Mapping[str, Any]) -> None:
    assert child.control is not None
    with contextlib.suppress(OSError):
        child.control.send(json.dumps(event).encode(), socket.MSG_NOSIGNAL)


def _await_end(child: Child, deadline: float) -> None:
    """Wait for a child that was told to stop; kill it when it does not."""
    while child.pid:
        pid, _ = os.waitpid(child.pid, os.WNOHANG)
        if pid:
            child.pid = 0
        elif time.monotonic() > deadline:
            _log.error("does not stop and is killed", child=child.name, process=child.pid)
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            child.pid = 0
        else:
            time.sleep(0.01)
