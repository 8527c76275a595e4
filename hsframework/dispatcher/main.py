"""Dispatcher process: its start, what it keeps open while it serves, its end."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import structlog

from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.control import ControlChannel
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.listeners import close_listeners, open_listeners
from hsframework.dispatcher.offload import OffloadLookup
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.realtime import Turns
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.limits import within_fds
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.dispatcher.sources.kernel import KernelSources
from hsframework.process.capabilities import (
    CAP_KILL,
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    forbid_core_dumps,
    keep_capabilities,
    raise_fd_limit,
)
from hsframework.process.lock import lock_memory, prepare_protection
from hsframework.process.signals import stop_signals
from hsframework.telemetry.metrics import metrics_server
from hsframework.tls.kernel import supported_ciphers

GC_THRESHOLD = 20_000
"""Objects between two runs of the garbage collector: a request makes few cycles and many short-lived objects."""

_log = structlog.get_logger("hsframework.dispatcher")


def run(
    configuration: Configuration,
    *,
    listeners: Mapping[str, socket.socket] | None = None,
    vault: Vault | None = None,
    expected_groups: Iterable[str] = (),
    agent_uids: Mapping[str, Iterable[int]] | None = None,
    control: socket.socket | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT.  Returns the exit status; raises ConfigurationError.

    ``listeners``: sockets named ``consumer`` and ``agent`` that were opened before; None: open them.
    ``agent_uids``: by group, further user ids that may join it.
    ``expected_groups``: groups whose agents are being started.
    ``control``: the dispatcher's end of a socket, see :mod:`hsframework.local.control`.
    """
    harden()
    prepare_protection(configuration.memory)
    configuration = within_fd_limit(configuration)
    sockets = dict(listeners) if listeners is not None else open_listeners(configuration.runtime_dir)
    try:
        if vault is None:
            vault = Vault(configuration)
        policy = Policy(configuration, agent_uids=agent_uids)
        return asyncio.run(_serve(configuration, sockets, vault, policy, expected_groups, control))
    finally:
        close_listeners(sockets)


def _observe(dispatcher: Dispatcher, vault: Vault) -> None:
    """Set the gauges, and log the credentials that do not serve."""
    dispatcher.metrics.gauges = {
        "hsframework_requests_pending": lambda: len(dispatcher.requests),
        "hsframework_credential_findings": lambda: len(vault.findings(datetime.now(UTC))),
    }
    for finding in vault.findings(datetime.now(UTC)):
        _log.warning("a credential does not serve", where=finding.where, problem=finding.detail)


async def _serve(
    configuration: Configuration,
    sockets: Mapping[str, socket.socket],
    vault: Vault,
    policy: Policy,
    expected_groups: Iterable[str],
    control: socket.socket | None,
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    dispatcher = Dispatcher(configuration, expected_groups=expected_groups)
    _observe(dispatcher, vault)
    dispatcher.offload = OffloadLookup()
    listen = configuration.metrics.listen
    start_metrics = metrics_server(dispatcher.metrics, listen) if listen else None
    trusts = TrustFiles()
    agents = AgentServer(dispatcher, policy, trusts, sockets["agent"], configuration.limits, loop=loop)
    kernel = KernelSources(dispatcher, vault, configuration, loop=loop)
    serves_kernel = bool(dispatcher.sources)
    local = LocalSource(dispatcher, policy, vault, sockets["consumer"], configuration, loop=loop)
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    lock_memory(configuration.memory, populate=True)
    turns = Turns(loop)
    if serves_kernel and configuration.kernel.real_time:
        turns.run_ahead()
    turns.bound()
    _log.info("the dispatcher is ready", runtime_dir=str(configuration.runtime_dir), pid=os.getpid())
    keep_capabilities(needed_capabilities(configuration))
    if start_metrics is not None:
        start_metrics()
    supervisor = None if control is None else ControlChannel(control, policy, stop, loop=loop)
    notify_service_manager("READY=1")
    await stop.wait()
    _log.info("the dispatcher stops", pending=len(dispatcher.requests))
    dispatcher.stop()
    # One turn of the loop, so that the results that were queued go out.
    await asyncio.sleep(0)
    local.close()
    agents.close()
    kernel.close()
    trusts.close()
    if supervisor is not None:
        supervisor.close()
    dispatcher.offload.close()
    dispatcher.close()
    return 0


def needed_capabilities(configuration: Configuration) -> tuple[int, ...]:
    """Return what the running dispatcher needs: for the handshake family, to kill agents, to enter namespaces."""
    entering = (CAP_SYS_ADMIN,) if configuration.kernel.namespaces else ()
    return (CAP_NET_ADMIN, CAP_KILL, *entering)


def harden() -> None:
    """Forbid core dumps, which would hold secrets; raise the limit of fds; have the kernel load its TLS."""
    forbid_core_dumps()
    raise_fd_limit()
    supported_ciphers()


def within_fd_limit(configuration: Configuration) -> Configuration:
    """Return the configuration with no more requests for each group than the fds of this process are enough for."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY:
        return configuration
    limited = within_fds(configuration, most)
    if limited != configuration:
        _log.debug(
            "the limit of open files lowers limits.per-source",
            open_files=most,
            per_source=limited.limits.per_source,
            configured=configuration.limits.per_source,
        )
    return limited


def notify_service_manager(state: str) -> None:
    """Send a state as sd_notify(3) does, if NOTIFY_SOCKET is set."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        notify.connect("\0" + path[1:] if path.startswith("@") else path)
        notify.send(state.encode())
