"""The metrics page: what happens now, for Prometheus to keep.

Probes are counted here, a batch at a time, and handed over when somebody scrapes; cycles are rare
and go through the client's own metrics. No IP, cycle number or URL is a label.
"""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    make_wsgi_app,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from chaosd.analysis.expected_requests import LOST, expected, surprises
from chaosd.analysis.recovery import Identities
from chaosd.analysis.samples import kind_of
from chaosd.analysis.tally import POOR
from chaosd.history.cycles import PHASES, PHASES_OF_NODES, Cycle, CycleOutcome
from chaosd.history.events import (
    AnyEvent,
    FaultBegan,
    LogRefused,
    ProxyMeasured,
    QueriesCounted,
    ResolversRead,
    StrangersAsked,
    StreamOpened,
)
from chaosd.history.values import Address, Outcome, Sample
from chaosd.live.page import Page

# The timers that people set are on the bucket bounds.
RECOVERY_BUCKETS_S = (
    0.05,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    1.5,
    2.0,
    3.0,
    4.0,
    5.0,
    7.5,
    10.0,
    15.0,
    20.0,
    30.0,
    45.0,
    60.0,
)
DURATION_BUCKETS_S = (
    1e-4,
    2.5e-4,
    5e-4,
    1e-3,
    2.5e-3,
    5e-3,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
)
LAG_BUCKETS_S = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 0.01, 0.025, 0.1, 1.0)
SERIES_MAX = 1_000  # of what the proxy calls its resolver counters


class PrometheusSink:
    """Serves `/metrics`, `/-/healthy` and `/-/ready` until it is closed.

    Raises MachineError if it can't listen there. `address` is where it does; port 0 takes any.
    """

    def __init__(
        self,
        listen: Address,
        *,
        cells: Mapping[str, str],
        faults: Sequence[str],
        slow_after_ns: int,
        run: Mapping[str, str],
        build: Mapping[str, str],
    ) -> None:
        self.registry = CollectorRegistry()
        self._cycles = _Cycles(self.registry, cells, faults)
        self._probes = _Probes(cells, slow_after_ns)
        self._said = _WorldCollector(cells)
        self.registry.register(self._probes)
        self.registry.register(self._said)
        for name, labels in (("run", run), ("build", build)):
            what = "What runs" if name == "run" else "What chaosd itself is"
            info = Gauge(f"chaosd_{name}_info", f"{what}.", list(labels), registry=self.registry)
            (info.labels(**labels) if labels else info).set(1)
        self._page = Page(listen, make_wsgi_app(self.registry))
        self.address = self._page.address

    # --- the sink ---

    def samples(self, batch: Sequence[Sample]) -> None:
        self._probes.add(batch)

    def event(self, event: AnyEvent) -> None:
        for each in (self._probes, self._cycles, self._said):
            each.event(event)

    def cycle(self, cycle: Cycle) -> None:
        self._cycles.cycle(cycle)

    def ready(self) -> None:
        self._page.ready()

    def tick(self) -> None:
        """Stay healthy; a scrape gets the newest values anyway."""
        self._page.tick()

    def close(self) -> None:
        self._page.close()


class _Cycles:
    """What cycles come to."""

    def __init__(
        self, registry: CollectorRegistry, cells: Mapping[str, str], faults: Sequence[str]
    ) -> None:
        self._arms = cells
        disable_created_metrics()  # type: ignore[no-untyped-call]

        def make(kind: Any, name: str, text: str, *more: str, **options: Any) -> Any:
            labels = ["arm", "cell", "fault", *more]
            return kind(f"chaosd_{name}", text, labels, registry=registry, **options)

        buckets = {"buckets": RECOVERY_BUCKETS_S}
        self.recovery = make(
            Histogram,
            "recovery_duration_seconds",
            "From taking the instance away to the first good answer of the new one through the "
            "proxy. A cycle that did not recover counts as just above its limit.",
            **buckets,
        )
        self.stable = make(
            Histogram,
            "stable_recovery_duration_seconds",
            "From taking the instance away to the start of the first stretch without a bad answer.",
            **buckets,
        )
        self.phase = make(
            Histogram,
            "phase_duration_seconds",
            "Contiguous parts of a recovery, where they are known.",
            "phase",
            **buckets,
        )
        self.outage = make(
            Counter,
            "outage_seconds_total",
            "Outages: from the last good to the first good probe, or bad probes by their rate "
            "where an end is not known.",
        )
        self.last_recovery = make(
            Gauge,
            "last_recovery_duration_seconds",
            "The recovery of the latest cycle that had one.",
        )
        self.last_fault = make(
            Gauge, "last_fault_timestamp_seconds", "When an instance was last taken away."
        )
        self.count = make(Counter, "cycles_total", "Cycles, by how they ended.", "outcome")
        self.poor = make(
            Counter,
            "poor_cycles_total",
            "Cycles whose numbers can't be trusted, by what was late or lost.",
            "cause",
        )
        self.world_lag = make(
            Gauge,
            "world_lag_seconds",
            "How late the world of the latest cycle was, at most, by what was late.",
            "cause",
        )
        self._make_predictions(make)
        for cell in cells:
            for fault in faults:
                self._touch(cell, fault)

    def _make_predictions(self, make: Callable[..., Any]) -> None:
        """What is held against what is observed."""
        self.predicted = make(
            Gauge,
            "predicted_recovery_seconds",
            "What the proxy's algorithm gives for the latest cycle.",
            "bound",
        )
        self.expected = make(
            Gauge,
            "predicted_requests",
            "What the proxy's algorithm gives for the latest cycle's requests, by kind.",
            "kind",
            "bound",
        )
        self.surprises = make(
            Counter,
            "request_anomalies_total",
            "Cycles that lost more or fewer requests than predicted, by what they came to.",
            "kind",
        )
        self.anomalies = make(
            Counter, "anomalies_total", "Cycles whose recovery lies outside of the predicted band."
        )

    def _labels(self, cell: str, fault: str) -> tuple[str, str, str]:
        return self._arms.get(cell, ""), cell, fault

    def _touch(self, cell: str, fault: str) -> None:
        """Let every series begin at 0, so that the first event is an increase."""
        labels = self._labels(cell, fault)
        for metric in (self.recovery, self.stable, self.outage, self.anomalies):
            metric.labels(*labels)
        for kind in LOST:
            self.surprises.labels(*labels, kind)
        for outcome in (*CycleOutcome, POOR):
            self.count.labels(*labels, str(outcome))
        for phase in PHASES:
            self.phase.labels(*labels, phase)

    def event(self, event: AnyEvent) -> None:
        if isinstance(event.what, FaultBegan):
            self.last_fault.labels(*self._labels(event.cell, event.what.fault)).set(
                event.what.t0_unix
            )

    def cycle(self, cycle: Cycle) -> None:
        labels = self._labels(cycle.cell, cycle.fault)
        for kind, late_s in (cycle.world_lag_s or {}).items():
            self.world_lag.labels(*labels, kind).set(late_s)
        if cycle.doubt is not None:  # as in the report: it is in no other number
            self.count.labels(*labels, POOR).inc()
            self.poor.labels(*labels, str(cycle.doubt.lag or cycle.doubt.kind)).inc()
            return
        self.count.labels(*labels, cycle.outcome.value).inc()
        if cycle.outcome in (CycleOutcome.INVALID, CycleOutcome.SKIPPED):
            return
        if cycle.recovery_s is not None:
            self.last_recovery.labels(*labels).set(cycle.recovery_s)
        if cycle.predicted is not None:
            for bound in ("lower", "mean", "upper"):
                value = getattr(cycle.predicted, f"{bound}_s")
                self.predicted.labels(*labels, bound).set(value)
        for kind, one in expected(cycle).items():
            for bound, count in (("lower", one.lower), ("mean", one.mean), ("upper", one.upper)):
                self.expected.labels(*labels, kind, bound).set(count)
        for kind in surprises(cycle):
            self.surprises.labels(*labels, kind).inc()
        if cycle.anomaly:
            self.anomalies.labels(*labels).inc()
        if cycle.outcome in (CycleOutcome.CONTROL, CycleOutcome.UNAFFECTED):
            return  # the meter's own floor must not mix with what it measures
        outage_s = cycle.outage_loss_s if cycle.outage_gap_s is None else cycle.outage_gap_s
        self.outage.labels(*labels).inc(max(0.0, outage_s or 0.0))
        beyond_s = math.nextafter(cycle.lasted_s, math.inf)
        exemplar = {"cycle": str(cycle.cycle)}
        for metric, value in (
            (self.recovery, cycle.recovery_s),
            (self.stable, cycle.stable_recovery_s),
        ):
            seconds = beyond_s if value is None else value
            metric.labels(*labels).observe(seconds, exemplar=exemplar)
        for phase in PHASES_OF_NODES:
            if (part_s := cycle.phases.get(f"{phase}_s")) is not None:
                self.phase.labels(*labels, phase).observe(part_s)


class _Stream:
    """One row of samples, counted. Bucket counts are not cumulated; the last one is beyond all."""

    def __init__(self, labels: list[str], identities: Identities) -> None:
        self.labels = labels
        self.identities = identities
        self.outcomes = [0] * len(Outcome)
        self.misrouted = self.masked = 0
        self.lags = [0] * (len(LAG_BUCKETS_S) + 1)
        self.lags_ns = 0
        self.durations = [0] * (len(DURATION_BUCKETS_S) + 1)
        self.durations_ns = 0


class _Probes(Collector):
    """What probes come to, whether or not a cycle goes on."""

    LABELS = ("arm", "cell", "probe", "via")

    def __init__(self, arms: Mapping[str, str], slow_after_ns: int) -> None:
        self._arms = arms
        self._slow_after_ns = slow_after_ns
        self._streams: dict[int, _Stream] = {}
        self._identities: dict[str, Identities] = {}
        self._lag_bounds_ns = [round(s * 1e9) for s in LAG_BUCKETS_S]
        self._duration_bounds_ns = [round(s * 1e9) for s in DURATION_BUCKETS_S]
        # A scrape, in its own thread, must not see half a batch.
        self._lock = threading.Lock()

    def event(self, event: AnyEvent) -> None:
        identities = self._identities.setdefault(event.cell, Identities())
        identities.event(event)
        if isinstance(event.what, StreamOpened):
            opened = event.what
            with self._lock:
                self._streams[opened.stream] = _Stream(
                    [self._arms.get(opened.cell, ""), opened.cell, opened.probe, opened.via],
                    identities,
                )

    def add(self, batch: Sequence[Sample]) -> None:
        lag_bounds, duration_bounds = self._lag_bounds_ns, self._duration_bounds_ns
        slow_after_ns, dropped = self._slow_after_ns, int(Outcome.DROPPED)
        with self._lock:
            for number, scheduled_ns, sent_ns, done_ns, outcome, _, who in batch:
                stream = self._streams[number]
                stream.outcomes[outcome] += 1
                if outcome == dropped:
                    continue
                lag_ns, took_ns = sent_ns - scheduled_ns, done_ns - scheduled_ns
                stream.lags[bisect_left(lag_bounds, lag_ns)] += 1
                stream.lags_ns += lag_ns
                stream.durations[bisect_left(duration_bounds, took_ns)] += 1
                stream.durations_ns += took_ns
                kind = kind_of(outcome, who, took_ns, stream.identities, slow_after_ns)
                stream.misrouted += kind == "misrouted"
                stream.masked += kind == "masked"

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            streams = list(self._streams.values())
            return iter([*self._counters(streams), *self._histograms(streams)])

    def _counters(self, streams: Sequence[_Stream]) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "chaosd_probe_requests_total",
            "Probes that were sent, by how they ended. Misrouted answers are `ok` here.",
            labels=[*self.LABELS, "outcome"],
        )
        for stream in streams:
            for outcome in Outcome:
                if outcome != Outcome.DROPPED:
                    labels = [*stream.labels, outcome.name.lower()]
                    requests.add_metric(labels, stream.outcomes[outcome])
        yield requests
        for name, text, counts in (
            (
                "probe_dropped",
                "Probes that could not be sent in time.",
                [stream.outcomes[Outcome.DROPPED] for stream in streams],
            ),
            (
                "misrouted_requests",
                "Probes answered well by somebody who is not the app.",
                [stream.misrouted for stream in streams],
            ),
            (
                "masked_requests",
                "Probes answered well, but so late that a failure was hidden by retries.",
                [stream.masked for stream in streams],
            ),
        ):
            family = CounterMetricFamily(f"chaosd_{name}_total", text, labels=self.LABELS)
            for stream, count in zip(streams, counts, strict=True):
                family.add_metric(stream.labels, count)
            yield family

    def _histograms(self, streams: Sequence[_Stream]) -> Iterator[Metric]:
        lag = HistogramMetricFamily(
            "chaosd_probe_schedule_lag_seconds",
            "How long after its scheduled time a probe was sent: the meter's own lateness.",
            labels=self.LABELS,
        )
        duration = HistogramMetricFamily(
            "chaosd_probe_duration_seconds",
            "From a probe's scheduled time to its end, however it ended.",
            labels=self.LABELS,
        )
        for s in streams:
            lag.add_metric(s.labels, _cumulated(LAG_BUCKETS_S, s.lags), s.lags_ns / 1e9)
            durations = _cumulated(DURATION_BUCKETS_S, s.durations)
            duration.add_metric(s.labels, durations, s.durations_ns / 1e9)
        yield lag
        yield duration


def _cumulated(bounds: Sequence[float], counts: Sequence[int]) -> list[tuple[str, float]]:
    names = [*map(str, bounds), "+Inf"]
    return list(zip(names, map(float, accumulate(counts)), strict=True))


class _WorldCollector(Collector):
    """What the world says of itself, as it last said it. Its counters may start anew with it."""

    def __init__(self, arms: Mapping[str, str]) -> None:
        self._arms = arms
        self._queries: dict[str, float] = {}
        self._refused: dict[str, float] = {}
        self._strangers: dict[str, float] = {}
        self._process: dict[str, dict[str, float]] = {}
        self._resolvers: dict[str, dict[tuple[str, str], float]] = {}  # counter → cell, nameserver

    def event(self, event: AnyEvent) -> None:
        cell = event.cell
        match event.what:
            case QueriesCounted(count=count):
                self._queries[cell] = count
            case LogRefused(count=count):
                self._refused[cell] = count
            case StrangersAsked(count=count):
                self._strangers[cell] = count
            case ProxyMeasured(rss_bytes=rss_bytes, fds=fds):
                known = {"rss_bytes": rss_bytes, "fds": fds}
                self._process[cell] = {k: v for k, v in known.items() if v is not None}
            case ResolversRead(counters=read):
                for nameserver, counters in read.items():
                    for counter, value in counters.items():
                        series = self._resolvers.setdefault(counter, {})
                        if (cell, nameserver) in series or len(series) < SERIES_MAX:
                            series[cell, nameserver] = value

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for name, counts, text in (
            (
                "dns_queries",
                self._queries,
                "Queries that reached the nameserver: what the proxy costs it.",
            ),
            (
                "dns_stranger_queries",
                self._strangers,
                "Queries that came from another sender than the proxy; not in dns_queries.",
            ),
            (
                "log_lines_refused",
                self._refused,
                "Lines that came for the proxy's log from another sender, and were not believed.",
            ),
        ):
            family = CounterMetricFamily(f"chaosd_{name}_total", text, labels=["arm", "cell"])
            for cell, count in list(counts.items()):
                family.add_metric([self._arms.get(cell, ""), cell], count)
            yield family
        for name, key, text in (
            ("proxy_resident_memory_bytes", "rss_bytes", "The proxy's memory."),
            ("proxy_open_fds", "fds", "The proxy's open file descriptors."),
        ):
            gauge = GaugeMetricFamily(f"chaosd_{name}", text, labels=["arm", "cell"])
            for cell, process in list(self._process.items()):
                if key in process:
                    gauge.add_metric([self._arms.get(cell, ""), cell], process[key])
            yield gauge
        for counter, series in sorted(self._resolvers.copy().items()):
            # Counters, though HAProxy's own exporter calls them gauges: they only grow until the
            # process starts anew, and rate() knows what to make of that.
            family = CounterMetricFamily(
                f"chaosd_haproxy_resolver_{re.sub(r'[^a-zA-Z0-9_]', '_', counter)}",
                f"HAProxy's resolver counter `{counter}`.",
                labels=["arm", "cell", "nameserver"],
            )
            for (cell, nameserver), value in series.copy().items():
                family.add_metric([self._arms.get(cell, ""), cell, nameserver], value)
            yield family
