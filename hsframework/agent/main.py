"""Entry points of an agent: ``hsframework agent NAME``, and the supervisor's fork."""

from __future__ import annotations

import dataclasses
import socket

import structlog

from hsframework.agent.keeper import keeper_main
from hsframework.agent.privileges import AgentUser, agent_user
from hsframework.agent.warmup import KeeperOptions
from hsframework.configuration.plugin_tables import unread_agents
from hsframework.configuration.settings import AgentSettings, Configuration
from hsframework.local.places import AGENT_SOCKET
from hsframework.process.service_manager import ServiceManager
from hsframework.registry.installed import plugin_names

_log = structlog.get_logger("hsframework.agent")


def run_agent(
    name: str,
    configuration: Configuration,
    manager: ServiceManager,
    *,
    processes: int | None = None,
    user: str | None = None,
) -> int:
    """Serve every protocol of one plugin in the foreground until SIGTERM or SIGINT.  Returns the exit status.

    ``name``: the plugin.  ``manager``: the one that has started this process.  ``processes`` and ``user`` override the
    configuration's.  Raises ConfigurationError for a user that cannot be had; other errors are logged, and the status
    says which kind it is (:class:`~hsframework.agent.warmup.ExitStatus`).
    """
    installed = plugin_names()
    for table in unread_agents(configuration, installed, {}):
        _log.warning("nobody reads a table", table=table.name, reason=table.reason, mend=table.mend)
    settings = configuration.agents.get(name, AgentSettings())
    return keeper_main(
        KeeperOptions(
            agent_socket_path=configuration.runtime_dir / AGENT_SOCKET,
            plugin=name,
            settings=configuration.plugins,
            settings_base=configuration.folder,
            memory=configuration.memory,
            blocked=configuration.blocked_plugins,
            required=configuration.required_plugins,
            watchdog=configuration.timeouts.watchdog,
            manager=manager,
            agent=dataclasses.replace(settings, processes=processes or settings.processes),
            user=agent_user(user or settings.user, name, installed),
        )
    )


def run_keeper(
    plugin: str,
    configuration: Configuration,
    *,
    settings: AgentSettings,
    user: AgentUser | None,
    control: socket.socket,
) -> int:
    """Serve every protocol of one plugin in a process that a supervisor forked.  Returns the exit status.

    ``control``: the keeper's end of a socket, see :mod:`hsframework.local.control`.
    """
    return keeper_main(
        KeeperOptions(
            agent_socket_path=configuration.runtime_dir / AGENT_SOCKET,
            plugin=plugin,
            settings=configuration.plugins,
            settings_base=configuration.folder,
            memory=configuration.memory,
            blocked=configuration.blocked_plugins,
            required=configuration.required_plugins,
            watchdog=configuration.timeouts.watchdog,
            agent=settings,
            user=user,
            control=control,
        )
    )
