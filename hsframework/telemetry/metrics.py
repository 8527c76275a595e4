"""Counters of one process, and their Prometheus exposition.

Counting takes a few dictionary operations, which is little beside a handshake.  prometheus_client is imported only if
an endpoint is configured.  Names follow Prometheus' conventions; durations are seconds.
"""

from __future__ import annotations

import bisect
import ipaddress
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from hsframework.errors import ConfigurationError, errno_name
from hsframework.telemetry.recent import Recent

if TYPE_CHECKING:
    from prometheus_client.core import Metric

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds in seconds."""

MOST_CACHES, MOST_LABEL = 64, 32
"""Caches that have counters of their own, and characters of their names: agents name them."""


MOST_KINDS = 1000
"""Kinds of handshakes that are told apart; further ones are counted by group and status alone."""


class Kind(NamedTuple):
    """Kind of a handshake, as far as it is known: an empty text where it is not.

    ``reason``: name of a member of :class:`~hsframework.failures.Failure`.
    """

    role: str = ""
    protocol: str = ""
    source: str = ""
    reason: str = ""


UNKNOWN = Kind()


Labelled = tuple[tuple[str, ...], float]
"""Values of the labels, and the value."""


@dataclass(frozen=True, slots=True)
class Gauge:
    """Gauge, or a counter that is kept elsewhere (``counts``).  ``text``: its help.  ``read``: returns its values."""

    text: str
    read: Callable[[], Iterable[Labelled]]
    labels: tuple[str, ...] = ()
    counts: bool = False


class Metrics:
    """The metrics of a dispatcher."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, int, Kind]] = Counter()
        """Completed requests, by group, status and kind."""
        self.refused: Counter[tuple[str, int]] = Counter()
        """Refused requests, by group and errno."""
        self.kernel_sessions: Counter[tuple[str, str]] = Counter()
        """Sessions in the kernel, by direction (``transmit``, ``receive``) and place (``software``, ``device``,
        ``unknown``)."""
        self.durations: dict[str, list[int]] = {}
        """Completed requests in each bucket, by group."""
        self.duration_sums: Counter[str] = Counter()
        """Seconds from receipt to completion of all requests, by group."""
        self.cache_misses: Counter[tuple[str, str]] = Counter()
        """Look-ups of entries that a cache had dropped for want of room, by process and cache."""
        self.reloads: Counter[str] = Counter()
        """Ends of reloads: ``taken`` or ``refused``."""
        self.sessions_out: Counter[str] = Counter()
        """Sessions of peers that are out: ``ended``, ``dry-run`` or ``failed``."""
        self.gauges: dict[str, Gauge] = {}
        """Gauges by name."""
        self.recent = Recent()
        """Outcomes of the last minutes, with reasons."""
        self.before: Callable[[], None] = lambda: None
        """Called before the metrics are collected, to count what is counted elsewhere."""

    def handshake(self, group: str, status: int, duration: float, kind: Kind = UNKNOWN) -> None:
        """Count a request that was completed with ``status`` (0 or a positive errno) after ``duration`` seconds."""
        key = group, status, kind
        if key not in self.outcomes and len(self.outcomes) >= MOST_KINDS:
            key = group, status, UNKNOWN
        self.outcomes[key] += 1
        buckets = self.durations.get(group)
        if buckets is None:
            buckets = self.durations[group] = [0] * (len(DURATION_BUCKETS) + 1)
        buckets[bisect.bisect_left(DURATION_BUCKETS, duration)] += 1
        self.duration_sums[group] += duration  # type: ignore[assignment]

    def session(self, transmit: str, receive: str) -> None:
        """Count a session that is in the kernel.

        ``transmit``, ``receive``: ``software``, ``device`` or ``unknown``; ``none``, in user space, is not counted.
        """
        for direction, place in (("transmit", transmit), ("receive", receive)):
            if place != "none":
                self.kernel_sessions[direction, place] += 1

    def crowded(self, process: str, cache: str, missed: int) -> None:
        """Count look-ups of entries that a cache had dropped for want of room.  Names past the bound share one."""
        key = (process[:MOST_LABEL], cache[:MOST_LABEL])
        if key not in self.cache_misses and len(self.cache_misses) >= MOST_CACHES:
            key = "", ""
        self.cache_misses[key] += missed

    def refusal(self, group: str, number: int) -> None:
        """Count a request that was refused; ``number``: the errno."""
        self.recent.count(group, number, "not taken")
        self.refused[group, number] += 1

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics, for prometheus_client (its interface of a custom collector)."""
        self.before()
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, text, names, counts in self._counters():
            counter = CounterMetricFamily(name, text, labels=names)
            for values, number in counts:
                counter.add_metric(values, number)
            yield counter
        histogram = HistogramMetricFamily("hsframework_handshake_seconds", "From taken to completed", labels=["group"])
        for group, buckets in list(self.durations.items()):
            total = 0
            rows = []
            for bound, number in zip((*map(str, DURATION_BUCKETS), "+Inf"), buckets, strict=True):
                total += number
                rows.append((bound, total))
            histogram.add_metric([group], rows, self.duration_sums[group])
        yield histogram
        for name, gauge in self.gauges.items():
            made = CounterMetricFamily if gauge.counts else GaugeMetricFamily
            family = made(name, gauge.text, labels=gauge.labels)
            for values, value in gauge.read():
                family.add_metric(values, value)
            yield family

    def _counters(self) -> Iterator[tuple[str, str, tuple[str, ...], Sequence[Labelled]]]:
        """Yield each counter: name, help, names of its labels, values."""
        outcomes = [
            ((group, _status(status), *kind), float(number))
            for (group, status, kind), number in list(self.outcomes.items())
        ]
        yield "hsframework_handshakes", "Requests completed, by outcome", ("group", "status", *Kind._fields), outcomes
        refused = [((group, _status(status)), float(number)) for (group, status), number in list(self.refused.items())]
        yield "hsframework_requests_refused", "Requests not taken, by errno", ("group", "status"), refused
        for name, text, labels, by_pair in (
            (
                "hsframework_kernel_sessions",
                "Sessions in the kernel, by who protects them",
                ("direction", "where"),
                self.kernel_sessions,
            ),
            (
                "hsframework_cache_misses_for_want_of_room",
                "Look-ups of what a cache had dropped: raise memory.cache",
                ("process", "cache"),
                self.cache_misses,
            ),
        ):
            yield name, text, labels, [(pair, float(number)) for pair, number in list(by_pair.items())]
        for name, text, results in (
            ("hsframework_reloads", "Ends of reloads", self.reloads),
            ("hsframework_sessions_out", "Sessions of peers that are out", self.sessions_out),
        ):
            yield name, text, ("result",), [((result,), float(number)) for result, number in list(results.items())]


def _status(status: int) -> str:
    return errno_name(status) if status else "OK"


def exposition(metrics: Metrics) -> Callable[[], bytes]:
    """Return a function that returns the metrics as they are then, in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(metrics)
    return lambda: bytes(generate_latest(registry))


def check_address(listen: str) -> tuple[str, int]:
    """Return address and port of ``address:port``; an empty text gives an empty address.  Raises ConfigurationError.

    The address is a number, or ``localhost``: no process of the service looks names up.
    """
    host, _, port = listen.rpartition(":")
    if not listen:
        return "", 0
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ConfigurationError(f"metrics.listen = {listen!r}: write it as address:port, for example 127.0.0.1:9464")
    address = "127.0.0.1" if host == "localhost" else host.strip("[]")
    try:
        ipaddress.ip_address(address)
    except ValueError:
        raise ConfigurationError(
            f"metrics.listen = {listen!r}: {host!r} is no address; write its number, for example 127.0.0.1"
        ) from None
    return address, int(port)
