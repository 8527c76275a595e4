"""Doorman: listens on both local sockets, knows who connects, and passes the connection on.  It reads nothing.

Rules:

* Root, the service's own user, and agents are the dispatcher's; every other user has a cell, and strangers share one
  (:mod:`hsframework.supervisor.cells`).
* What the dispatcher does not take at the moment, because it is started again, waits here.
* A connection may hold the last copy of a socket that a stranger has sent unread, whose closing blocks.  So this
  process never closes a last copy: it passes the connection on, or leaves it to a child that ends (a process that ends
  waits for no SO_LINGER).
"""

from __future__ import annotations

import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.policy import PeerCredentials, PluginAgents, Policy, peer_credentials
from hsframework.errors import ConfigurationError, RequestRefused
from hsframework.local.control import FromDispatcher, Introduction, ToDispatcher
from hsframework.process.abandoned import shut_links
from hsframework.supervisor.cells import Cells
from hsframework.supervisor.child import Child
from hsframework.supervisor.children import Children
from hsframework.supervisor.conversation import Agent

MOST_WAITING = 1024
"""Connections that wait for the dispatcher."""

ACCEPTS_AT_ONCE = 64
PAUSE = 0.1
"""Seconds until the next attempt, where nothing can be accepted or passed on now."""

_log = structlog.get_logger("hsframework.supervisor")


class Doorman:
    """Listener on the local sockets, by name.

    ``agents``: those of the supervisor's keepers.  ``leave``: closes, in a cell, what it must not have.
    ``credentials``: returns a copy of the snapshot of those in force, None where there is none yet.  ``plugin_agents``:
    agents that are known by their users; None: all are the keepers'.
    """

    def __init__(
        self,
        configuration: Configuration,
        listeners: Mapping[str, socket.socket],
        children: Children,
        dispatcher: Child[ToDispatcher, FromDispatcher],
        agents: Callable[[], Iterable[Agent]],
        leave: Callable[[], None],
        credentials: Callable[[], int | None] = lambda: None,
        plugin_agents: PluginAgents | None = None,
    ) -> None:
        self._policy = Policy(configuration, plugin_agents=plugin_agents)
        self._listeners = listeners
        self._children = children
        self._dispatcher = dispatcher
        self._agents = agents
        self.cells = Cells(
            configuration,
            children,
            agents,
            leave,
            drop=self._drop,
            give_up=self._abandon,
            report=dispatcher.offer,
            credentials=credentials,
        )
        self._waiting: deque[tuple[str, socket.socket]] = deque()
        self._paused: set[str] = set()
        self._dropped: list[socket.socket] = []
        self._abandoned: list[int] = []
        """Processes that cannot be ended, whose connections are to be shut down."""
        self._undertaker = 0
        self._bury_at = 0.0
        for name, listener in listeners.items():
            listener.setblocking(False)
            self._watch(name)

    def look(self) -> None:
        """Do what is due, and have the next look made in time."""
        for name in list(self._paused):
            self._watch(name)
        self._pass()
        self._bury()
        due = self.cells.look()
        if self._waiting or self._paused or self._dropped or self._abandoned or self._undertaker:
            due = min(due or float("inf"), time.monotonic() + PAUSE)
        self._children.wake_at = due

    def renew(self, configuration: Configuration) -> None:
        """Admit users by another configuration, and give their cells the terms of it."""
        try:
            self._policy.renew(Policy(configuration))
        except ConfigurationError as error:
            _log.error("users are known by the rules before", reason=str(error))
        self.cells.renew(configuration, self._policy)

    def leave(self) -> None:
        """Close our copies of everything, in a forked child."""
        for listener in self._listeners.values():
            listener.close()
        for _, sock in self._waiting:
            sock.close()
        for sock in self._dropped:
            sock.close()
        self.cells.leave()

    def _watch(self, name: str) -> None:
        self._paused.discard(name)
        self._children.watch(self._listeners[name], lambda: self._accept(name))

    def _accept(self, name: str) -> None:
        for _ in range(ACCEPTS_AT_ONCE):
            try:
                sock, _ = self._listeners[name].accept()
            except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                return
            except OSError as error:
                _log.error("cannot accept a connection", error=error.strerror)
                self._children.unwatch(self._listeners[name])
                self._paused.add(name)
                return
            self._place(name, sock, peer_credentials(sock))

    def _place(self, name: str, sock: socket.socket, peer: PeerCredentials) -> None:
        """Give a connection to whom it belongs."""
        if self._policy.is_privileged(peer) or (name == "agent" and self._is_agent(peer)):
            if len(self._waiting) >= MOST_WAITING:
                self._drop([sock])
            else:
                self._waiting.append((name, sock))
                self._pass()
            return
        profiles = self._policy.profiles_of(peer) if name == "consumer" else None
        if profiles is None:
            self.cells.admit(None, frozenset(), name, sock)
        else:
            self.cells.admit(self._policy.account(peer), profiles, name, sock, peer)

    def _is_agent(self, peer: PeerCredentials) -> bool:
        if any(agent.uid == peer.uid for agent in self._agents()):
            return True
        try:
            self._policy.check_restore(peer)
        except RequestRefused:
            return False
        return True

    def _pass(self) -> None:
        while self._waiting and self._dispatcher.has_reported:
            name, sock = self._waiting[0]
            if not self._dispatcher.offer(Introduction(name), sock.fileno()):
                return
            self._waiting.popleft()
            # Not the last copy: one is under way.
            sock.close()

    def _drop(self, connections: Iterable[socket.socket]) -> None:
        """Have connections closed by a child that ends, soon."""
        self._dropped.extend(connections)

    def _abandon(self, pid: int) -> None:
        """Have the connections of a process that cannot be ended shut down, soon."""
        self._abandoned.append(pid)

    def _bury(self) -> None:
        """Fork a child that has the connections to be closed, close our copies, and let it end.

        It also shuts down those of processes that cannot be ended.
        """
        if self._undertaker and not os.waitpid(self._undertaker, os.WNOHANG)[0]:
            return
        self._undertaker = 0
        if not self._dropped and not self._abandoned:
            return
        now = time.monotonic()
        if not self._abandoned and now < self._bury_at and len(self._dropped) < MOST_WAITING:
            # A fork for each turn would take from everybody what a storm of connections may not.
            return
        self._bury_at = now + PAUSE
        dropped, self._dropped = self._dropped, []
        abandoned, self._abandoned = self._abandoned, []
        if dropped:
            _log.warning("connections are refused: too many wait", number=len(dropped))
        reader, writer = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            _log.error("connections cannot be closed now", reason=error.strerror)
            self._dropped, self._abandoned = dropped, abandoned
            os.close(reader)
            os.close(writer)
            return
        if not pid:
            os.close(writer)
            try:
                for process in abandoned:
                    shut_links(process)
                os.read(reader, 1)
            finally:
                os._exit(0)
        for sock in dropped:
            sock.close()
        os.close(reader)
        os.close(writer)
        self._undertaker = pid
