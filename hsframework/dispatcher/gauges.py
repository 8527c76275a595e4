"""Gauges and counts that the dispatcher's metrics read where they are kept, when somebody asks."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime

from hsframework import __version__
from hsframework.caches import misses_for_want_of_room
from hsframework.credentials.findings import identity_expiry
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.renewal import Renewal, log_findings
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sessions.sessions import Sessions
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.telemetry.metrics import MOST_LABEL, Gauge, Labelled, Metrics
from hsframework.telemetry.processes import Part, Use, use_of_parts


def observe(
    dispatcher: Dispatcher, local: LocalSource, sessions: Sessions, renewal: Renewal, *, supervised: bool = False
) -> None:
    """Have sessions noted and shown, and all this read by the metrics; log the credentials that do not serve.

    ``supervised``: True if the parent process is the supervisor.
    """
    metrics = dispatcher.metrics
    dispatcher.made, local.sessions = sessions.note, sessions.show
    log_findings(local.vault)
    metrics.reloads, metrics.sessions_out = renewal.counts, sessions.results
    uses: list[tuple[tuple[str, str], Use]] = []

    def before() -> None:
        _count_own_caches(metrics)
        uses[:] = use_of_parts(_parts(dispatcher, supervised=supervised))

    metrics.before = before
    metrics.gauges = {
        "hsframework_build_info": Gauge("Version of the service", lambda: [((__version__,), 1)], ("version",)),
        "hsframework_requests_pending": Gauge(
            "Requests taken and not completed", _one(lambda: len(dispatcher.requests))
        ),
        "hsframework_agents": Gauge("Agents that have joined, by group", lambda: _agents(dispatcher), ("group",)),
        "hsframework_credential_findings": Gauge(
            "Credentials that do not serve", _one(lambda: len(local.vault.findings(datetime.now(UTC))))
        ),
        "hsframework_configuration_loaded_timestamp_seconds": Gauge(
            "Time at which configuration and credentials in force were taken", _one(lambda: renewal.loaded_at)
        ),
        "hsframework_certificate_expiry_timestamp_seconds": Gauge(
            "End of an identity: that of the first certificate of its chain to end",
            lambda: _certificates(local.vault),
            ("identity",),
        ),
        "hsframework_revocation_list_expiry_timestamp_seconds": Gauge(
            "Time at which a revocation list has to be replaced (nextUpdate)",
            lambda: _lists(local.vault),
            ("trust", "issuer"),
        ),
        "hsframework_sessions_open": Gauge(
            "Sessions in the kernel that were made here and are open, as of the last look",
            lambda: _open(sessions),
            ("protocol", "role"),
        ),
        **_of_processes(uses),
    }


def _of_processes(uses: Iterable[tuple[tuple[str, str], Use]]) -> dict[str, Gauge]:
    """Return what is shown of processes.  ``uses``: of each role and name, renewed before each look."""

    def shown(text: str, read: Callable[[Use], float | None], *, counts: bool = False) -> Gauge:
        def values() -> Iterator[Labelled]:
            for labels, use in uses:
                value = read(use)
                if value is not None:
                    yield labels, value

        return Gauge(text, values, ("role", "name"), counts=counts)

    return {
        "hsframework_process_resident_memory_bytes": shown("Resident memory", lambda use: use.memory),
        "hsframework_process_open_fds": shown("Open descriptors", lambda use: use.fds),
        "hsframework_process_cpu_seconds": shown("Processor time", lambda use: use.seconds, counts=True),
        "hsframework_process_start_time_seconds": shown("Start of the last process", lambda use: use.started),
    }


def _parts(dispatcher: Dispatcher, *, supervised: bool) -> Iterator[Part]:
    """Yield each process that serves: this one, its supervisor, and the agents."""
    yield "dispatcher", "", os.getpid()
    if supervised:
        yield "supervisor", "", os.getppid()
    agents = {agent.peer.pid: agent for group in list(dispatcher.groups.values()) for agent in group.members}
    for pid, agent in agents.items():
        yield "agent", agent.protocol[:MOST_LABEL], pid


def _one(read: Callable[[], float]) -> Callable[[], list[Labelled]]:
    return lambda: [((), read())]


def _agents(dispatcher: Dispatcher) -> Iterator[Labelled]:
    for group in list(dispatcher.groups.values()):
        if group.open:
            yield (group.name,), len(group.members)


def _certificates(vault: Vault) -> Iterator[Labelled]:
    for name, identity in vault.identities().items():
        end = identity_expiry(identity)
        if end is not None:
            yield (name,), end.timestamp()


def _lists(vault: Vault) -> Iterator[Labelled]:
    """Yield the newest list of each issuer: one of several parts of it counts until the last is over."""
    for name, examination in vault.examinations.items():
        ends: dict[str, float] = {}
        for issuer, end in examination.ends():
            ends[issuer] = max(end.timestamp(), ends.get(issuer, 0.0))
        yield from (((name, issuer), end) for issuer, end in ends.items())


def _open(sessions: Sessions) -> Iterator[Labelled]:
    counts = Counter((each.protocol, each.role.name.lower()) for each in sessions.book.sessions())
    yield from counts.items()


def _count_own_caches(metrics: Metrics) -> None:
    for name, missed in misses_for_want_of_room().items():
        metrics.crowded("dispatcher", name, missed)
