"""Warm-up of a keeper before its first worker: privileges are given up, plugins imported, protocols prepared.

After it, handshakes need nothing that is not in memory.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread  # noqa: F401  (asyncio.to_thread imports it when it is first used, in a handshake)
import contextlib
import enum
import gc
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import structlog

from hsframework.agent.containment import limit_memory, limited_time
from hsframework.agent.privileges import (
    AgentUser,
    drop_last_capability,
    drop_privileges,
    join_own_session_keyring,
)
from hsframework.agent.served import Served, check_no_overlap, prepare
from hsframework.caches import set_total
from hsframework.configuration.settings import AgentSettings, MemorySettings
from hsframework.errors import PluginError
from hsframework.local.trusted import trusted_users
from hsframework.probes import describe
from hsframework.process.capabilities import raise_fd_limit
from hsframework.process.confinement import confine_keeper, prepare_confinement
from hsframework.process.lock import lock_memory, prepare_protection
from hsframework.process.service_manager import ServiceManager
from hsframework.registry.plugins import PluginRegistry, load_plugins
from hsframework.registry.trial import unfit_plugins
from hsframework.telemetry.log import forbid_source_reading, show_packages, traceback_lines
from hsframework.tls.kernel import supported_ciphers

_log = structlog.get_logger("hsframework.agent")


class ExitStatus(enum.IntEnum):
    """Exit status of a keeper."""

    OK = 0
    FAILED = 1
    CONFIGURATION = 2
    """Wrong settings, or a plugin that cannot be used: starting it again changes nothing."""
    REFUSED = 3
    """The dispatcher does not let the agent join."""
    REQUIRED = 4
    """A required plugin cannot be used."""


@dataclass(frozen=True, kw_only=True)
class KeeperOptions:
    """Options of a keeper.

    ``plugin``: serve what this plugin registers.  ``settings``: a table for each protocol and plugin, with
    ``settings_base`` as the folder of relative paths.  ``control``: the supervisor's socket.
    ``registry``: plugins that are loaded already (tests); None: load them, but for ``blocked``.  ``required``: without
    these plugins nothing is served.
    """

    agent_socket_path: Path
    plugin: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings_base: Path | None = None
    memory: MemorySettings = field(default_factory=MemorySettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    """Its ``user`` and ``groups`` are not used here."""
    user: AgentUser | None = None
    control: socket.socket | None = None
    registry: PluginRegistry | None = None
    blocked: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    watchdog: float = 20.0
    """Seconds after which a worker whose loop does not turn is killed and replaced."""
    manager: ServiceManager = field(default_factory=lambda: ServiceManager({}))
    """The service manager that has started this process."""

    @property
    def processes(self) -> int:
        """Return the number of workers."""
        return self.agent.processes


class Warm(NamedTuple):
    """Result of a keeper's warm-up.  ``kernel_tls``: what it can do with the kernel's TLS, for people."""

    registry: PluginRegistry
    served: tuple[Served, ...]
    kernel_tls: str


def warm_up(options: KeeperOptions) -> Warm:
    """Give privileges up, import the plugins and prepare what is served.

    Raises ConfigurationError and PluginError.
    """
    if options.user is None:
        _log.info("the agent runs as the user that started it", uid=os.geteuid())
    set_total(options.memory.cache << 20)
    trusted_users()  # a name is looked up now: later the filesystem may not be available
    prepare_protection(options.memory)
    drop_privileges(options.user)
    join_own_session_keyring()
    raise_fd_limit()
    limit_memory(options.agent.memory_limit)
    # Has a time of its own, and blames others.
    unfit = {} if options.registry else unfit_plugins((options.plugin, *options.blocked))
    with limited_time(options.agent.start_timeout, options.plugin, ExitStatus.FAILED):
        registry, served = _load_and_prepare(options, unfit)
    kernel_tls = describe(supported_ciphers())
    _practise()
    prepare_confinement()
    forbid_source_reading()
    drop_last_capability()
    if len(os.listdir("/proc/self/task")) > 1:
        _log.warning("a plugin has started threads; its workers are forked without them")
    gc.collect()
    gc.freeze()
    lock_memory(options.memory, populate=True)
    confine_keeper()
    return Warm(registry, served, kernel_tls)


def _load_and_prepare(options: KeeperOptions, unfit: Mapping[str, str]) -> tuple[PluginRegistry, tuple[Served, ...]]:
    registry = options.registry or load_plugins(blocked=options.blocked, unfit=unfit)
    show_packages(registry.packages)
    registry.configure(options.settings, base=options.settings_base)
    registry.require(options.required)
    served = tuple(
        prepare(registry, name, options.settings.get(name), base=options.settings_base)
        for name in _names(options.plugin, registry)
    )
    check_no_overlap(served)
    return registry, served


def _names(plugin: str, registry: PluginRegistry) -> Sequence[str]:
    """Return the protocols of a plugin.  Raises PluginError if it cannot be used, or is the name of something else."""
    for record in registry.records:
        if record.name == plugin:
            if record.error is not None:
                raise PluginError(f"the plugin {record.name!r} cannot be used: {record.error}")
            return record.protocols
    if plugin in registry.protocols:
        owner = registry.protocols[plugin].record.name
        raise PluginError(
            f"{plugin!r} is a protocol of the plugin {owner!r}, by which its agent is named: hsframework agent {owner}"
        )
    known = ", ".join(sorted(record.name for record in registry.records)) or "none"
    raise PluginError(f"no plugin {plugin!r} is installed (installed: {known}); install hsframework-{plugin}")


def _practise() -> None:
    """Run an event loop once, with a timeout that expires, and render an error, to import all that this needs."""

    async def practice() -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        await asyncio.gather(asyncio.sleep(0), return_exceptions=True)

    asyncio.run(practice())
    try:
        raise OSError("practice")
    except OSError as error:
        traceback_lines(error)
