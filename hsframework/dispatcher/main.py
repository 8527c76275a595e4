"""Dispatcher process: its start, what it keeps open while it serves, its end."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import resource
import signal
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import structlog

from hsframework.caches import set_total
from hsframework.configuration.settings import Configuration
from hsframework.dispatcher.agents import AgentServer
from hsframework.dispatcher.connections import Listener
from hsframework.dispatcher.control import ControlChannel
from hsframework.dispatcher.exposition import Exposition
from hsframework.dispatcher.gauges import observe
from hsframework.dispatcher.grants import KnownAgents
from hsframework.dispatcher.keys.trusts import TrustFiles
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.listeners import close_listeners, open_listeners
from hsframework.dispatcher.offload import OffloadLookup
from hsframework.dispatcher.policy import Policy
from hsframework.dispatcher.reader import fork_reader
from hsframework.dispatcher.readiness import Readiness, Required, required_groups
from hsframework.dispatcher.realtime import Turns
from hsframework.dispatcher.renewal import Parts, ReaderLink, Renewal, as_report
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.requests.limits import within_fds
from hsframework.dispatcher.sessions.sessions import Sessions
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.dispatcher.sources.kernel import KernelSources
from hsframework.dispatcher.status import Status
from hsframework.dispatcher.tally import count_cell
from hsframework.dispatcher.terms import InForce
from hsframework.local.control import DispatcherAlive, Renewed, Served, Stated
from hsframework.local.liveness import SHARE
from hsframework.local.pulse import Pulse
from hsframework.probes import No, Probe, Yes
from hsframework.process.capabilities import (
    CAP_KILL,
    CAP_NET_ADMIN,
    CAP_SYS_ADMIN,
    forbid_core_dumps,
    keep_capabilities,
    raise_fd_limit,
)
from hsframework.process.kept import CONFIGURATION, VAULT, Kept
from hsframework.process.lock import lock_memory, prepare_protection
from hsframework.process.service_manager import ServiceManager
from hsframework.process.signals import stop_signals
from hsframework.process.snapshot import thaw
from hsframework.process.title import set_title
from hsframework.telemetry.audit import AuditLog
from hsframework.telemetry.metrics import exposition
from hsframework.tls.kernel import supported_ciphers

DRAIN_TIME = 2.0
"""Seconds that handshakes under way have to end when the dispatcher stops."""

GC_THRESHOLD = 20_000
"""Objects between two runs of the garbage collector: a request makes few cycles and many short-lived objects."""

DOORMAN = "start it by 'hsframework run --agents-apart', which has a doorman"
"""Advice where users could stop the kernel's requests."""

_log = structlog.get_logger("hsframework.dispatcher")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Starter of the dispatcher, and its legacy.

    ``listeners``: sockets named ``consumer`` and ``agent`` that were opened before, none of them where another process
    accepts the connections; None: open them.  ``kept``:
    descriptors that outlive this process.  ``manager``: the service manager that started it.  ``control``: its end of a
    socket to the supervisor that forked it, see :mod:`hsframework.local.control`.  ``agent_uids``: by group, further
    user ids that may join it.  ``expected_groups``: groups whose agents are being started.  ``plugins``: names of the
    plugins in use.  ``joining``: those of them whose agents are known by their users alone, because no supervisor
    starts them.  ``load``: reads the configuration anew, where no supervisor does.
    """

    listeners: Mapping[str, socket.socket] | None = None
    kept: Kept = field(default_factory=Kept)
    manager: ServiceManager | None = None
    control: socket.socket | None = None
    agent_uids: Mapping[str, Iterable[int]] = field(default_factory=dict)
    expected_groups: Iterable[str] = ()
    plugins: Collection[str] = ()
    joining: Collection[str] = ()
    load: Callable[[], Configuration] | None = None

    @property
    def kept_here(self) -> Kept | None:
        """Copies that outlive this process, if it keeps the credentials in force there; None: a supervisor does."""
        return self.kept if self.control is None else None


def run(configuration: Configuration, surroundings: Surroundings) -> int:
    """Serve until SIGTERM or SIGINT.  Returns the exit status; raises ConfigurationError."""
    set_title("hsframework dispatcher")
    kernel_tls = harden()
    if not isinstance(kernel_tls, Yes):
        # What the kernel lacks is doctor's to say; that nobody could look is a fault of the surroundings.
        tell = _log.info if isinstance(kernel_tls, No) else _log.warning
        tell("no session can be handed to the kernel", reason=kernel_tls.reason, certain=isinstance(kernel_tls, No))
    if configuration.allow and surroundings.control is None:
        # No doorman passes them to cells of their own.
        _log.warning("users are served in the same process as the kernel: each of them can stop it", mend=DOORMAN)
    prepare_protection(configuration.memory)
    set_total(configuration.memory.cache << 20)
    listen = configuration.metrics.listen
    # Both before there is anything that they could inherit.
    metrics = Exposition(listen) if listen else None
    reader = _reader(configuration, surroundings)
    configuration = within_fd_limit(configuration)
    given, kept = surroundings.listeners, surroundings.kept
    sockets = dict(given) if given is not None else open_listeners(configuration.runtime_dir, kept)
    try:
        vault = _vault(configuration, kept)
        known = KnownAgents(configuration, surroundings.joining)
        policy = Policy(configuration, agent_uids=surroundings.agent_uids, plugin_agents=known)
        return asyncio.run(
            _serve(configuration, sockets, vault, policy, surroundings, kernel_tls, Beside(metrics, reader))
        )
    finally:
        close_listeners(sockets)


@dataclass(frozen=True, slots=True)
class Beside:
    """Processes beside the dispatcher, which it has forked."""

    metrics: Exposition | None
    reader: socket.socket | None


def _reader(configuration: Configuration, surroundings: Surroundings) -> socket.socket | None:
    """Fork the reader, if the dispatcher is to have its own; return the socket to it."""
    if surroundings.load is None:
        return None
    return fork_reader(surroundings.load, InForce.at_start(configuration), surroundings.plugins)


def _stopped(loop: asyncio.AbstractEventLoop) -> asyncio.Event:
    """Return an event that is set by a signal to stop."""
    stop = asyncio.Event()
    for number in stop_signals():
        loop.add_signal_handler(number, stop.set)
    return stop


async def _serve(
    configuration: Configuration,
    sockets: Mapping[str, socket.socket],
    vault: Vault,
    policy: Policy,
    surroundings: Surroundings,
    kernel_tls: Probe[frozenset[int]],
    beside: Beside,
) -> int:
    loop = asyncio.get_running_loop()
    stop = _stopped(loop)
    metrics = beside.metrics
    dispatcher = Dispatcher(configuration, expected_groups=surroundings.expected_groups)
    dispatcher.offload = OffloadLookup()
    text = None if metrics is None else exposition(dispatcher.metrics)  # what it imports is imported now
    trusts = TrustFiles()
    agents = AgentServer(dispatcher, policy, trusts, sockets.get("agent"), configuration.limits, loop=loop)
    kernel = KernelSources(dispatcher, vault, configuration, loop=loop, kept=surroundings.kept)
    serves_kernel = bool(dispatcher.sources)
    local = LocalSource(dispatcher, policy, vault, sockets.get("consumer"), configuration, loop=loop)
    sessions = Sessions(vault, configuration, surroundings.kept, loop=loop)
    _settle(configuration, loop, ahead=serves_kernel and configuration.kernel.real_time)
    surroundings.kept.drop_rest()
    parts = Parts(
        policy=policy, agents=agents, local=local, kernel=kernel, kept=surroundings.kept_here, sessions=sessions
    )
    renewal = _renewal(parts, configuration, beside.reader, loop)
    audit = _audit_log(configuration, dispatcher, local, agents)
    observe(dispatcher, local, sessions, renewal, supervised=surroundings.control is not None)
    if metrics is not None and text is not None:
        await metrics.start(text)
    required = required_groups(configuration, serves_kernel=serves_kernel, plugins=surroundings.plugins)
    doors = {"agent": agents.listener, "consumer": local.listener}
    reports = Reports(surroundings, dispatcher, policy, doors, required, kernel_tls, stop, renewal, loop=loop)
    local.status = Status(
        lambda: local.vault,
        agents,
        kernel_tls,
        no_kernel=kernel.refusal,
        ready=lambda: reports.ready,
        missing=reports.missing,
        problem_of_metrics=lambda: None if metrics is None else metrics.problem,
        problem_of_audit=lambda: None if audit is None else audit.problem,
        reload=lambda: renewal.last,
        sessions=sessions.report,
    ).report
    await stop.wait()
    ends = (local, agents, kernel, trusts, reports, renewal, sessions, metrics, dispatcher.offload, dispatcher, audit)
    await _end(dispatcher, reports, surroundings.kept, [part for part in ends if part is not None])
    return 0


def _audit_log(
    configuration: Configuration, dispatcher: Dispatcher, local: LocalSource, agents: AgentServer
) -> AuditLog | None:
    """Have the ends of requests shown: to whoever begins a trace, and to the audit log, which is returned; None if none
    is configured."""
    local.trace = agents.traces.begin
    settings = configuration.audit
    if settings.file is None:
        return None
    audit = AuditLog(settings.file, sync=settings.sync, call=local.loop.call_soon_threadsafe)
    dispatcher.ended = lambda _, fields: audit.write(fields)
    return audit


def _renewal(
    parts: Parts, configuration: Configuration, reader: socket.socket | None, loop: asyncio.AbstractEventLoop
) -> Renewal:
    """Have consumers order a reload, of the dispatcher's own reader or of its supervisor's."""
    renewal = Renewal(parts, configuration, loop=loop)
    if reader is not None:
        ReaderLink(reader, renewal, loop=loop)
    parts.local.reload = lambda answer: renewal.order(lambda ended: answer(json.dumps(as_report(ended))))
    return renewal


class _Part(Protocol):
    def close(self) -> None: ...


async def _end(dispatcher: Dispatcher, reports: Reports, kept: Kept, parts: Iterable[_Part]) -> None:
    """Let the handshakes under way end, complete the other requests, and close everything."""
    _log.info("the dispatcher stops", pending=len(dispatcher.requests))
    reports.stopping()
    await dispatcher.drain(DRAIN_TIME)
    # Whoever starts the service after an orderly end wants to hear of a file that cannot be used.
    kept.remove(VAULT)
    kept.remove(CONFIGURATION)
    kept.freeze()
    dispatcher.stop()
    # One turn of the loop, so that the results that were queued go out.
    await asyncio.sleep(0)
    for part in parts:
        part.close()


def _settle(configuration: Configuration, loop: asyncio.AbstractEventLoop, *, ahead: bool) -> None:
    """Fix memory, priority and privileges as they stay while requests are served.

    ``ahead``: take real-time priority.
    """
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    lock_memory(configuration.memory, populate=True)
    turns = Turns(loop)
    if ahead:
        turns.run_ahead()
    turns.bound()
    _log.info("the dispatcher is ready", runtime_dir=str(configuration.runtime_dir), pid=os.getpid())
    keep_capabilities(needed_capabilities(configuration))


def _vault(configuration: Configuration, kept: Kept) -> Vault:
    """Load the credentials, with those of a predecessor that died to fall back on.  Raises ConfigurationError."""
    before = None
    fd = kept.take(VAULT)
    if fd is not None:
        try:
            before = thaw(fd)
        except ValueError as error:
            _log.error("what the dispatcher before had is lost", reason=str(error))
    vault = Vault(configuration, before)
    kept.put_snapshot(VAULT, vault.contents())
    return vault


class Reports:
    """Reports of this dispatcher to the process that started it: the service manager, or a supervisor."""

    def __init__(
        self,
        surroundings: Surroundings,
        dispatcher: Dispatcher,
        policy: Policy,
        doors: Mapping[str, Listener],
        required: Required,
        kernel_tls: Probe[frozenset[int]],
        stop: asyncio.Event,
        renewal: Renewal,
        *,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._manager = surroundings.manager or ServiceManager({})
        control = surroundings.control
        self._supervisor = (
            None
            if control is None
            else ControlChannel(control, policy, doors, partial(count_cell, dispatcher), stop, renewal, loop=loop)
        )
        renewal.renewed = lambda *_: self._renewed()
        self._renewal = renewal
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)
        self._readiness = Readiness(dispatcher, required, kernel_tls, self._ready, self._status)
        limit = min(dispatcher.configuration.timeouts.watchdog, self._manager.watchdog or math.inf)
        self._pulse = Pulse(loop, limit / SHARE, self._beat)

    @property
    def ready(self) -> bool:
        """True if each required group has had an agent."""
        return self._readiness.ready

    def missing(self) -> list[str]:
        """Return the required groups that are not served now."""
        return self._readiness.missing()

    def stopping(self) -> None:
        """Report that the service stops."""
        self._manager.tell("STOPPING=1")

    def close(self) -> None:
        """Report no more."""
        self._pulse.close()
        self._manager.close()
        if self._supervisor is not None:
            self._supervisor.close()

    def _hang_up(self) -> None:
        """Have everything read again; the service manager is told the begin and the end, once the service is ready."""
        tells = self.ready
        if tells:
            self._manager.tell_reloading()
        self._renewal.order(lambda _: self._manager.tell("READY=1") if tells else None)

    def _renewed(self) -> None:
        if self._supervisor is not None:
            self._supervisor.send(Renewed())

    def _ready(self) -> None:
        self._manager.tell("READY=1")
        if self._supervisor is not None:
            self._supervisor.send(Served())

    def _status(self, line: str) -> None:
        self._manager.tell(f"STATUS={line}")
        if self._supervisor is not None:
            self._supervisor.send(Stated.of(line))

    def _beat(self) -> None:
        if self._manager.watchdog is not None:
            self._manager.tell("WATCHDOG=1")
        if self._supervisor is not None:
            self._supervisor.send(DispatcherAlive())


def needed_capabilities(configuration: Configuration) -> tuple[int, ...]:
    """Return what the running dispatcher needs: for the handshake family, to kill agents, to enter namespaces."""
    entering = (CAP_SYS_ADMIN,) if configuration.kernel.namespaces else ()
    return (CAP_NET_ADMIN, CAP_KILL, *entering)


def harden() -> Probe[frozenset[int]]:
    """Forbid core dumps, which would hold secrets; raise the limit of fds; have the kernel load its TLS.

    Returns what the kernel's TLS can do.
    """
    forbid_core_dumps()
    raise_fd_limit()
    return supported_ciphers()


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
