"""Counters of one process, and their Prometheus exposition.

Counting is a few dictionary operations, so that it costs nothing beside a handshake; prometheus_client is imported when
an endpoint is asked for.  Names follow Prometheus' conventions; durations are seconds.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from hsframework.errors import ConfigurationError, errno_name

if TYPE_CHECKING:
    from prometheus_client.core import Metric

DURATION_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """What a dispatcher counts."""

    def __init__(self) -> None:
        self.outcomes: Counter[tuple[str, int]] = Counter()
        self.refused: Counter[tuple[str, int]] = Counter()
        self.durations: dict[str, list[int]] = {}
        self.duration_sums: Counter[str] = Counter()
        self.gauges: dict[str, Callable[[], int]] = {}

    def handshake(self, group: str, status: int, duration: float) -> None:
        """A request was completed with ``status`` (0 or a positive errno) after ``duration`` seconds."""
        self.outcomes[group, status] += 1
        buckets = self.durations.get(group)
        if buckets is None:
            buckets = self.durations[group] = [0] * (len(DURATION_BUCKETS) + 1)
        buckets[bisect.bisect_left(DURATION_BUCKETS, duration)] += 1
        self.duration_sums[group] += duration  # type: ignore[assignment]

    def refusal(self, group: str, number: int) -> None:
        """A request was not taken."""
        self.refused[group, number] += 1

    def collect(self) -> Iterable[Metric]:
        """prometheus_client's custom collector interface."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for name, text, counts in (
            ("hsframework_handshakes", "Requests completed, by outcome", self.outcomes),
            ("hsframework_requests_refused", "Requests not taken, by errno", self.refused),
        ):
            family = CounterMetricFamily(name, text, labels=["group", "status"])
            for (group, status), number in list(counts.items()):
                family.add_metric([group, errno_name(status) if status else "OK"], number)
            yield family
        histogram = HistogramMetricFamily("hsframework_handshake_seconds", "From taken to completed", labels=["group"])
        for group, buckets in list(self.durations.items()):
            total = 0
            rows = []
            for bound, number in zip((*map(str, DURATION_BUCKETS), "+Inf"), buckets, strict=True):
                total += number
                rows.append((bound, total))
            histogram.add_metric([group], rows, self.duration_sums[group])
        yield histogram
        for name, read in self.gauges.items():
            yield GaugeMetricFamily(name, name.replace("_", " "), value=read())


def metrics_server(metrics: Metrics, listen: str) -> Callable[[], None]:
    """What starts serving on ``address:port``, from a thread of its own; everything is imported by then.

    Two steps, since a thread keeps the capabilities of the moment of its start.  Both raise ConfigurationError.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f"metrics.listen = {listen!r}: write it as address:port, for example 127.0.0.1:9464")
    registry = CollectorRegistry()
    registry.register(metrics)

    def start() -> None:
        try:
            start_http_server(int(port), host.strip("[]"), registry)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigurationError(f"metrics.listen = {listen!r}: {reason}; choose another address") from None

    return start
