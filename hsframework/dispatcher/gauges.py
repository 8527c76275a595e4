"""Gauges and counts that the dispatcher's metrics read where they are kept, when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from hsframework import __version__
from hsframework.caches import misses_for_want_of_room
from hsframework.credentials.findings import identity_expiry
from hsframework.dispatcher.keys.vault import Vault
from hsframework.dispatcher.renewal import Renewal, log_findings
from hsframework.dispatcher.requests.core import Dispatcher
from hsframework.dispatcher.sessions.sessions import Sessions
from hsframework.dispatcher.sources.consumers import LocalSource
from hsframework.telemetry.metrics import Gauge, Labelled, Metrics


def observe(dispatcher: Dispatcher, local: LocalSource, sessions: Sessions, renewal: Renewal) -> None:
    """Have sessions noted and shown, and all this read by the metrics; log the credentials that do not serve."""
    metrics = dispatcher.metrics
    dispatcher.made, local.sessions = sessions.note, sessions.show
    log_findings(local.vault)
    metrics.reloads, metrics.sessions_out = renewal.counts, sessions.results
    metrics.before = lambda: _count_own_caches(metrics)
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
    }


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
