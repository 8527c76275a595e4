"""`hsframework run`: the dispatcher and an agent for each installed plugin, started from one warm process and kept
alive.

::

    supervisor (root, no secrets, no plugin code)
    ├── reader               forked; reads files again when they have changed, and hands over what is in them
    ├── dispatcher           forked; reads the key files at its start
    ├── keeper of tls13      forked; gives up root, then imports the plugin
    │   └── agent, agent …   forked from the keeper
    └── keeper of …

With agents apart, as under the systemd units, those that serve the dispatcher come by themselves and are known by their
users.  Keepers are then for the cells of users alone, and started when a rule names one.

Rules:

* The supervisor opens the listening sockets and keeps them: while the dispatcher is started anew, connects wait in the
  backlog and are not refused.  It keeps the dispatcher's sockets that have joined the kernel's groups too, so that the
  kernel announces requests to them meanwhile (:mod:`hsframework.process.kept`).
* It holds no secret and imports no plugin: a keeper that is forked later has nothing to inherit.
* How its children are started, started again and ended: :mod:`hsframework.supervisor.children`.  When one of them must
  not be started again and that is the dispatcher, everything ends.
* What is sent between them: :mod:`hsframework.supervisor.conversation`.
* SIGHUP has the files read again: :mod:`hsframework.supervisor.reloading`.
* SIGTERM and SIGINT end everything, agents first.
"""

from __future__ import annotations

import dataclasses
import gc
import math
import os
import socket
import stat
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import structlog

from hsframework.agent.main import run_keeper
from hsframework.agent.privileges import AgentUser, agent_user
from hsframework.configuration.agent_users import plugin_users
from hsframework.configuration.settings import AgentSettings, Configuration
from hsframework.dispatcher import main as dispatcher_main
from hsframework.dispatcher.grants import KnownAgents
from hsframework.dispatcher.listeners import close_listeners, open_listeners
from hsframework.dispatcher.terms import InForce
from hsframework.errors import ConfigurationError, MessageError
from hsframework.local.control import (
    DISPATCHER_TO_SUPERVISOR,
    KEEPER_TO_SUPERVISOR,
    SUPERVISOR_TO_DISPATCHER,
    SUPERVISOR_TO_KEEPER,
)
from hsframework.process.capabilities import die_with_parent
from hsframework.process.giving_way import allow_going_back
from hsframework.process.kept import CONFIGURATION, VAULT, Kept, Shelf
from hsframework.process.lock import (
    lock_memory,
    oom_score,
    prepare_protection,
    score_after,
    score_of_users,
    spare_supervisor,
)
from hsframework.process.service_manager import ServiceManager
from hsframework.process.title import set_title
from hsframework.registry.installed import check_required, plugin_names
from hsframework.supervisor.child import Child
from hsframework.supervisor.children import Children
from hsframework.supervisor.conversation import Agent, Conversation
from hsframework.supervisor.doorman import Doorman
from hsframework.supervisor.reloading import Reloading

STOP_TIMEOUT_APART = 5.0
"""Seconds that each of the two groups of children has to stop, with agents apart: less than half of the unit's
``TimeoutStopSec=``, after which systemd would call the stop a failure."""

EXIT_UNUSABLE = 1
"""Exit status where a required plugin cannot be used: to be tried again, for a busy machine may be the reason."""

_log = structlog.get_logger("hsframework.supervisor")


class Supervisor:
    """Process of `hsframework run`."""

    def __init__(
        self,
        configuration: Configuration,
        listeners: Mapping[str, socket.socket],
        manager: ServiceManager,
        shelf: Shelf,
        kept: Kept,
        load: Callable[[], Configuration],
        state: InForce,
        *,
        apart: bool = False,
    ) -> None:
        self._configuration = configuration
        self._apart, self._pid = apart, os.getpid()
        self._kept = kept
        self._listeners = listeners
        self._manager = manager
        self._shelf = shelf
        installed = plugin_names()
        self._dispatcher = Child(
            "dispatcher", self._run_dispatcher, SUPERVISOR_TO_DISPATCHER, DISPATCHER_TO_SUPERVISOR, essential=True
        )
        agents = [self._agent(name) for name in installed if name not in configuration.blocked_plugins]
        self._keepers = [agent.keeper for agent in agents]
        self._plugins = [agent.plugin for agent in agents]
        self._reloading = self._reader(load, state, installed)
        self._has_served = self._is_reloading = False
        self._conversation = Conversation(
            configuration,
            self._dispatcher,
            agents,
            installed,
            served=self._serves,
            order=self._reloading.order,
            renewed=self._reload_has_ended,
            stated=lambda line: manager.tell(f"STATUS={line}"),
            apart=apart,
        )
        self._want_keepers()
        limit = min(configuration.timeouts.watchdog, manager.watchdog or math.inf)
        self._children = Children([self._reloading.child, self._dispatcher, *self._keepers], limit=limit)
        self._children.watch(shelf, shelf.receive)
        self._children.hangup = self._hang_up
        self._doorman = self._engaged(listeners, agents)
        self._children.leave = self._leave_waiting

    def run(self) -> int:
        """Run until SIGTERM or SIGINT, or until the dispatcher cannot be started again.  Returns the exit status."""
        gc.freeze()
        children = self._children
        try:
            while children.status is None:
                self._manager.tell("WATCHDOG=1")
                self._shelf.receive()
                children.start_due()
                self._doorman.look()
                self._reloading.look()
                self._conversation.check_tables()
                for child, message in children.wait():
                    try:
                        if self._doorman.cells.owns(child):
                            self._doorman.cells.take(child, message)
                        elif child is self._reloading.child:
                            self._reloading.take(message)
                        else:
                            self._conversation.take(child.name, message)
                    except MessageError as error:
                        children.break_off(child, error)
                if self._conversation.unusable is not None:
                    _log.error("the service ends: it can serve nothing", reason=self._conversation.unusable)
                    children.status = EXIT_UNUSABLE
            self._conversation.check_tables()
        finally:
            self._manager.tell("STOPPING=1")
            # Agents first, so that they can still say DONE; the dispatcher last.  Those apart give back what they have.
            cells, reader = self._doorman.cells.children(), self._reloading.child
            if self._apart:
                children.stop([reader, self._dispatcher, *cells], self._keepers, timeout=STOP_TIMEOUT_APART)
            else:
                children.stop([reader], cells, self._keepers, [self._dispatcher])
        return children.status

    def _engaged(self, listeners: Mapping[str, socket.socket], agents: Sequence[Agent]) -> Doorman:
        """Return the doorman, at work."""
        return Doorman(
            self._configuration,
            listeners,
            self._children,
            self._dispatcher,
            lambda: agents,
            self._leave_to_others,
            lambda: self._shelf.copy(VAULT),
            KnownAgents(self._configuration, self._plugins) if self._apart else None,
        )

    def _reader(self, load: Callable[[], Configuration], state: InForce, installed: Collection[str]) -> Reloading:
        return Reloading(
            load,
            state,
            installed,
            self._dispatcher,
            self._shelf,
            leave=self._leave_to_others,
            put_in_force=self._put_in_force,
            refused=self._reload_has_ended,
        )

    def _agent(self, plugin: str) -> Agent:
        settings = self._configuration.agents.get(plugin, AgentSettings())
        user = agent_user(settings.user, plugin, plugin_names())
        if user is not None:
            _check_reachable(self._configuration.runtime_dir, user)

        def start(control: socket.socket) -> int:
            self._leave_to_others()
            configuration = self._configuration
            if self._apart:
                configuration = _with_oom_score(configuration, score_of_users())
            return run_keeper(plugin, configuration, settings=settings, user=user, control=control)

        keeper = Child(f"agent of {plugin}", start, SUPERVISOR_TO_KEEPER, KEEPER_TO_SUPERVISOR, serves=not self._apart)
        if self._apart:
            keeper.due = None
        return Agent(plugin, None if user is None else user.uid, keeper)

    def _want_keepers(self) -> None:
        """Have keepers started that have waited for a rule by which a user may have a cell."""
        if self._configuration.allow:
            for keeper in self._keepers:
                if keeper.over and not keeper.ended:
                    keeper.due = time.monotonic()

    def _serves(self) -> None:
        self._has_served = True
        self._manager.tell("READY=1")

    def _hang_up(self) -> None:
        """Have everything read again; the service manager is told the begin and the end, once the service is ready."""
        if self._has_served:
            self._is_reloading = True
            self._manager.tell_reloading()
        self._reloading.order()

    def _reload_has_ended(self) -> None:
        if self._is_reloading:
            self._is_reloading = False
            self._manager.tell("READY=1")

    def _put_in_force(self, state: InForce) -> None:
        """Serve by a configuration that was read again; the dispatcher has it by itself."""
        # What this process has worked out for itself at the start stays.
        memory = self._configuration.memory
        self._configuration = dataclasses.replace(state.configuration, memory=memory)
        self._kept.put_snapshot(CONFIGURATION, state.configuration)
        self._want_keepers()
        self._doorman.renew(self._configuration)

    def _leave_waiting(self) -> None:
        """Close, in a forked child, what waits to be passed on."""
        self._doorman.leave()
        self._reloading.leave()

    def _leave_to_others(self) -> None:
        """Close, in a forked child, what belongs to this process and to the dispatcher."""
        self._shelf.close()
        self._manager.leave()

    def _run_dispatcher(self, control: socket.socket) -> int:
        self._manager.leave()
        if self._apart:
            # The service manager starts a successor at once, which goes on with the kernel's sockets.
            die_with_parent(self._pid)
        agents = self._conversation.granted()
        return dispatcher_main.run(
            _with_oom_score(self._configuration, score_after(oom_score())),
            dispatcher_main.Surroundings(
                listeners={},
                kept=self._shelf.kept(),
                control=control,
                agent_uids=agents,
                expected_groups=agents,
                plugins=self._plugins,
                joining=self._plugins if self._apart else (),
            ),
        )


def run(
    configuration: Configuration,
    manager: ServiceManager,
    kept: Kept,
    load: Callable[[], Configuration],
    *,
    apart: bool = False,
) -> int:
    """Run the whole service in the foreground.  Returns the exit status; raises ConfigurationError.

    ``manager``: the one that has started this process.  ``kept``: the descriptors that it has passed.  ``load``: reads
    the configuration anew.  ``apart``: True if agents come by themselves, and those started here serve cells alone.
    """
    state = InForce.at_start(configuration)
    if not apart or VAULT not in kept.names():
        # Agents apart refuse to start as well.  After a crash those that serve go on.
        check_required(configuration.required_plugins)
    if not apart:
        _check_any(configuration)
    plugin_users(configuration, plugin_names())
    set_title("hsframework run")
    dispatcher_main.harden()
    prepare_protection(configuration.memory)
    spare_supervisor()
    allow_going_back()
    lock_memory(configuration.memory, populate=True)
    listeners = open_listeners(configuration.runtime_dir, kept)
    shelf = Shelf(kept.take_all(), manager)
    try:
        status = Supervisor(configuration, listeners, manager, shelf, kept, load, state, apart=apart).run()
        if status == 0:
            kept.remove(CONFIGURATION)
        return status
    finally:
        shelf.close()
        close_listeners(listeners)


def _with_oom_score(configuration: Configuration, score: int) -> Configuration:
    """Return the configuration with an OOM score that a child sets for itself."""
    memory = dataclasses.replace(configuration.memory, oom_score_adjust=score)
    return dataclasses.replace(configuration, memory=memory)


def _check_any(configuration: Configuration) -> None:
    """Raise ConfigurationError if there is no plugin to run."""
    names = plugin_names()
    if not names:
        raise ConfigurationError("no plugin is installed; install one, for example hsframework-tls13")
    if not set(names) - set(configuration.blocked_plugins):
        raise ConfigurationError("blocked-plugins has every plugin that is installed; take one out of it")


def _check_reachable(folder: Path, user: AgentUser) -> None:
    """Raise ConfigurationError when an agent's user cannot get to the sockets."""
    for path in (folder, *folder.absolute().parents):
        status = path.stat()
        shift = 6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0
        if not status.st_mode >> shift & stat.S_IXOTH:
            raise ConfigurationError(
                f"{path}: the agents' user {user.name} cannot pass through it to {folder}; allow it by chmod o+x, or "
                "choose another --runtime-dir"
            )
