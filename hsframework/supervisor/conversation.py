"""Conversation of the supervisor with the dispatcher and the keepers; the messages are those of
:mod:`hsframework.local.control`.

An agent's user may join the groups of its plugin: the keeper names them, the supervisor passes those that it grants
(:mod:`hsframework.dispatcher.grants`) to the dispatcher, and the keeper's workers start once the dispatcher knows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import assert_never

import structlog

from hsframework.agent.warmup import ExitStatus
from hsframework.configuration.plugin_tables import unread_tables
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.grants import refused_groups
from hsframework.errors import MessageError
from hsframework.local.control import (
    AgentStarted,
    DispatcherAlive,
    Failed,
    FromDispatcher,
    FromKeeper,
    Go,
    KeeperAlive,
    Known,
    Loaded,
    Ready,
    ReloadWanted,
    Renewed,
    Served,
    Serving,
    Stated,
    ToDispatcher,
    ToKeeper,
    WorkerDied,
    WorkerJoined,
)
from hsframework.supervisor.child import Child

_log = structlog.get_logger("hsframework.supervisor")


@dataclass(eq=False)
class Agent:
    """The agent of one plugin: its keeper, and what the keeper has reported."""

    plugin: str
    uid: int | None
    """The user that it runs as; None: the supervisor's own."""
    keeper: Child[ToKeeper, FromKeeper]
    loaded: Loaded | None = field(default=None, init=False)
    loaded_over: object = field(default=None, init=False)
    """The control socket on which ``loaded`` came: each process of the keeper has its own."""
    granted: AgentStarted | None = field(default=None, init=False)
    """Facts for the dispatcher, kept while the keeper is started again."""

    @property
    def has_loaded(self) -> bool:
        """True if the keeper that runs now has loaded its plugin."""
        return self.keeper.control is not None and self.loaded_over is self.keeper.control

    @property
    def is_settled(self) -> bool:
        """True unless the first process of its keeper is still to report what it has loaded."""
        return self.granted is not None or self.keeper.ended or self.keeper.over


class Conversation:
    """State of the conversation: each agent, and how far it is.

    ``apart``: True if the keepers' agents serve cells alone: the dispatcher is told of none.
    ``stated``: called with a line for people, on what is served.
    ``served``: called whenever a dispatcher reports that every required group has an agent.  ``order``: called with the
    number of its order of a reload.  ``renewed``: called when it reports that what was read is in force.
    """

    def __init__(
        self,
        configuration: Configuration,
        dispatcher: Child[ToDispatcher, FromDispatcher],
        agents: Iterable[Agent],
        installed: Collection[str],
        served: Callable[[], None] = lambda: None,
        order: Callable[[int], None] = lambda number: None,
        renewed: Callable[[], None] = lambda: None,
        stated: Callable[[str], None] = lambda line: None,
        apart: bool = False,
    ) -> None:
        self._configuration = configuration
        self._dispatcher = dispatcher
        self._agents = {agent.keeper.name: agent for agent in agents}
        self._installed = installed
        self._served = served
        self._order = order
        self._renewed = renewed
        self._stated = stated
        self._apart = apart
        self._tables_checked = apart  # by the agents themselves
        self._has_served = False
        self.unusable: str | None = None
        """Reason why nothing can be served, and no agent ever did: a required plugin cannot be used."""

    def granted(self) -> dict[str, set[int]]:
        """Return the groups of the agents that serve the dispatcher, with the user ids that may join each."""
        found: dict[str, set[int]] = {}
        if self._apart:
            return found
        for agent in self._agents.values():
            for group in agent.granted.groups if agent.granted is not None else ():
                found.setdefault(group, set()).update(() if agent.uid is None else (agent.uid,))
        return found

    def take(self, sender: str, message: FromDispatcher | FromKeeper) -> None:
        """Act on a message of the child ``sender``.  Raises MessageError for one that comes when it must not."""
        match message:
            case Ready():
                self._dispatcher.has_reported = True
                for agent in self._agents.values():
                    self._introduce(agent)
            case Known():
                known = self._agents.get(message.name)
                if known is not None and known.has_loaded:
                    known.keeper.send(Go())
            case Loaded():
                self._loaded(self._agents[sender], message)
            case Served():
                self._served()
            case Stated():
                self._stated(message.line)
            case WorkerJoined():
                self._has_served = True
            case Failed():
                if message.status == ExitStatus.REQUIRED and not self._has_served and not self._apart:
                    self.unusable = message.message
            case ReloadWanted():
                self._order(message.order)
            case Renewed():
                self._renewed()
            case Serving() | WorkerDied() | DispatcherAlive() | KeeperAlive():
                pass
            case _:
                assert_never(message)

    def check_tables(self) -> None:
        """Warn of tables of the configuration that no plugin reads, once each keeper has loaded or ended."""
        agents = self._agents.values()
        if self._tables_checked or any(agent.loaded is None and not agent.keeper.ended for agent in agents):
            return
        self._tables_checked = True
        protocols = {
            name: agent.plugin for agent in agents if agent.loaded is not None for name in agent.loaded.protocols
        }
        for table in unread_tables(self._configuration, self._installed, protocols):
            _log.warning("nobody reads a table", table=table.name, reason=table.reason, mend=table.mend)

    def _loaded(self, agent: Agent, message: Loaded) -> None:
        if agent.has_loaded:
            raise MessageError("loaded: sent twice by one keeper")
        agent.loaded, agent.loaded_over = message, agent.keeper.control
        agent.keeper.has_reported = True
        plugins = [other.plugin for other in self._agents.values()]
        refused = refused_groups(agent.plugin, message.groups, self._configuration, plugins)
        for group, mend in refused.items():
            _log.error("a plugin wants a group that it may not join", child=agent.keeper.name, group=group, mend=mend)
        groups = tuple(group for group in message.groups if group not in refused)
        agent.granted = AgentStarted(agent.keeper.name, agent.uid, groups)
        self._introduce(agent)

    def _introduce(self, agent: Agent) -> None:
        if agent.granted is not None and not self._apart:
            self._dispatcher.send(agent.granted)
