#!/usr/bin/env python3
"""The dashboard of recovery time, as code: python deploy/grafana/dashboard.py writes its JSON.

A test keeps the JSON in step, and lets a real Prometheus answer each of its queries.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode

FILE = Path(__file__).parent / "dashboards" / "recovery.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="${source}")
# One arm at a time: numbers of different settings are compared, and never pooled.
CELL = 'arm="$arm",cell=~"$cell"'
BY = f'{CELL},fault=~"$fault"'
ALL_ARMS = 'fault=~"$fault"'
PROXY = f'{CELL},via="proxy"'
BAD = f'{PROXY},outcome!="ok"'
WIDTH, HEIGHT = 12, 8

RECOVERY = "chaosd_recovery_duration_seconds"
PHASES = "chaosd_phase_duration_seconds"
REQUESTS = "chaosd_probe_requests_total"


def query(expression: str, legend: str = "", *, is_heatmap: bool = False) -> Any:
    made = prometheus.Dataquery().datasource(SOURCE).expr(expression).legend_format(legend)
    return made.format("heatmap") if is_heatmap else made


def quantile(q: float, metric: str, by: str = "le") -> str:
    rate = f"rate({metric}_bucket{{{BY}}}[$__range])"
    return f"histogram_quantile({q}, sum by ({by}) ({rate}))"


def lines(title: str, text: str, unit: str, *queries: Any, stacked: bool = False) -> Any:
    legend = (
        common.VizLegendOptions()
        .display_mode(LegendDisplayMode.TABLE)
        .placement(LegendPlacement.RIGHT)
        .calcs(["lastNotNull", "max"])
        .show_legend(show_legend=True)
    )
    panel = (
        timeseries.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .min(0)
        .fill_opacity(10)
        .legend(legend)
        .span(WIDTH)
        .height(HEIGHT)
    )
    if stacked:
        stacking = common.StackingConfig().mode(StackingMode.NORMAL)
        panel = panel.stacking(stacking).draw_style(GraphDrawStyle.BARS).fill_opacity(70)
    for each in queries:
        panel = panel.with_target(each)
    return panel


def number(title: str, text: str, unit: str, expression: str, *steps: tuple[float, str]) -> Any:
    thresholds = [Threshold(value=None, color="green")]  # type: ignore[arg-type]
    thresholds += [Threshold(value=value, color=color) for value, color in steps]
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .unit(unit)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(thresholds))
        .with_target(query(expression))
        .span(4)
        .height(4)
    )


def headlines() -> list[Any]:
    total = f"sum(increase({REQUESTS}{{{PROXY}}}[$__range]))"
    return [
        number(
            "Recovery, p95",
            "95 of 100 failovers were over by then. Its error is a bucket's width.",
            "s",
            quantile(0.95, RECOVERY),
            (5, "orange"),
            (15, "red"),
        ),
        number(
            "Failovers",
            "Cycles that are samples: recovered or censored, in the range shown.",
            "short",
            f'sum(increase(chaosd_cycles_total{{{BY},outcome=~"recovered|censored"}}[$__range]))',
        ),
        number(
            "Not samples",
            "Invalid or skipped cycles. Many of them: see the run's report for the reasons.",
            "short",
            f'sum(increase(chaosd_cycles_total{{{BY},outcome=~"invalid|skipped"}}[$__range]))',
            (1, "orange"),
        ),
        number(
            "Misrouted",
            "Requests answered by somebody who is not the app. There should be none.",
            "short",
            f"sum(increase(chaosd_misrouted_requests_total{{{PROXY}}}[$__range]))",
            (1, "red"),
        ),
        number(
            "Availability",
            "Share of good answers among all probes through the proxy.",
            "percentunit",
            f'sum(increase({REQUESTS}{{{PROXY},outcome="ok"}}[$__range])) / {total}',
        ),
        number(
            "Anomalies",
            "Recoveries outside of what the proxy's algorithm predicts.",
            "short",
            f"sum(increase(chaosd_anomalies_total{{{BY}}}[$__range]))",
            (1, "orange"),
        ),
    ]


def recovery() -> list[Any]:
    buckets = f"sum by (le) (increase({RECOVERY}_bucket{{{BY}}}[$__rate_interval]))"
    cells = (
        heatmap.Panel()
        .title("Recovery, every failover")
        .description("How many failovers took how long. Two bands: two different mechanisms.")
        .datasource(SOURCE)
        .color(heatmap.HeatmapColorOptions().mode(HeatmapColorMode.SCHEME).scheme("Oranges"))
        .y_axis(heatmap.YAxisConfig().unit("s"))
        .with_target(query(buckets, "{{le}}", is_heatmap=True))
        .span(WIDTH)
        .height(HEIGHT)
    )
    percentiles = lines(
        "Recovery, percentiles and prediction",
        "Over the range shown. Dashed in meaning: what the algorithm gives for the latest cycle.",
        "s",
        *(query(quantile(q, RECOVERY), f"p{q * 100:g}") for q in (0.5, 0.9, 0.95, 0.99)),
        query(f"max by (bound) (chaosd_predicted_recovery_seconds{{{BY}}})", "predicted {{bound}}"),
        query(f"max(chaosd_last_recovery_duration_seconds{{{BY}}})", "latest"),
    )
    part = f"sum by (phase) (rate({PHASES}_sum{{{BY}}}[$__rate_interval]))"
    count = f"sum by (phase) (rate({PHASES}_count{{{BY}}}[$__rate_interval]))"
    where = lines(
        "Where the seconds went",
        "Mean of each phase. discover is what `timeout resolve` and `hold` cost, rejoin is checks.",
        "s",
        query(f"{part} / ({count} > 0)", "{{phase}}"),
        stacked=True,
    )
    stable = lines(
        "First good answer, and stable",
        "Apart from each other: the backend flapped.",
        "s",
        query(quantile(0.95, RECOVERY), "recovery p95"),
        query(quantile(0.95, "chaosd_stable_recovery_duration_seconds"), "stable p95"),
    )
    rate = f"rate({RECOVERY}_bucket{{{ALL_ARMS}}}[$__range])"
    arms = lines(
        "Recovery of each arm, p95",
        "All arms, whatever arm and cells are chosen above. A plain run has one, main.",
        "s",
        query(f"histogram_quantile(0.95, sum by (arm, le) ({rate}))", "{{arm}}"),
    )
    return [cells, percentiles, where, stable, arms]


def users() -> list[Any]:
    rate = "[$__rate_interval]"
    return [
        lines(
            "What users would have seen",
            "Probes by how they ended, per second.",
            "reqps",
            query(f"sum by (outcome) (rate({REQUESTS}{{{PROXY}}}{rate}))", "{{outcome}}"),
            stacked=True,
        ),
        lines(
            "Error budget spent",
            "Share of probes that were not answered well, and outage seconds per hour.",
            "percentunit",
            query(
                f"sum(rate({REQUESTS}{{{BAD}}}{rate})) / sum(rate({REQUESTS}{{{PROXY}}}{rate}))",
                "bad share",
            ),
            query(f"sum(rate(chaosd_outage_seconds_total{{{BY}}}{rate}))", "outage share"),
        ),
        lines(
            "Masked and misrouted",
            "Masked: good, but slow, by the proxy's own retries. Misrouted: by somebody else.",
            "reqps",
            query(f"sum(rate(chaosd_masked_requests_total{{{PROXY}}}{rate}))", "masked"),
            query(f"sum(rate(chaosd_misrouted_requests_total{{{PROXY}}}{rate}))", "misrouted"),
        ),
        lines(
            "Cycles",
            "How cycles ended, per hour.",
            "short",
            query(f"sum by (outcome) (increase(chaosd_cycles_total{{{BY}}}[1h]))", "{{outcome}}"),
        ),
    ]


def costs() -> list[Any]:
    rate = "[$__rate_interval]"
    counters = ("sent", "valid", "nx", "any_err", "timeout_derived", "update", "outdated")
    return [
        lines(
            "DNS queries",
            "What the proxy costs the nameserver, where chaosd sees it, and as it counts itself.",
            "reqps",
            query(f"sum(rate(chaosd_dns_queries_total{{{CELL}}}{rate}))", "seen by the server"),
            query(
                f"sum(rate(chaosd_haproxy_resolver_sent_total{{{CELL}}}{rate}))", "sent by HAProxy"
            ),
        ),
        lines(
            "Resolver counters",
            "HAProxy's own; timeout_derived is sent less all that came back.",
            "reqps",
            *(
                query(f"sum(rate(chaosd_haproxy_resolver_{name}_total{{{CELL}}}{rate}))", name)
                for name in counters
            ),
        ),
        lines(
            "Proxy memory",
            "It should be flat over weeks.",
            "bytes",
            query(f"sum by (cell) (chaosd_proxy_resident_memory_bytes{{{CELL}}})", "{{cell}}"),
        ),
        lines(
            "Proxy file descriptors",
            "It should come back to where it was after each failover.",
            "short",
            query(f"sum by (cell) (chaosd_proxy_open_fds{{{CELL}}})", "{{cell}}"),
        ),
    ]


def quality() -> list[Any]:
    rate = "[$__rate_interval]"
    lag = f"sum by (le) (rate(chaosd_probe_schedule_lag_seconds_bucket{{{PROXY}}}{rate}))"
    took = f"sum by (le) (rate(chaosd_probe_duration_seconds_bucket{{{PROXY}}}{rate}))"
    return [
        lines(
            "Probe quality: schedule lag",
            "How late probes were sent. Above one probe interval numbers are not to be trusted.",
            "s",
            query(f"histogram_quantile(0.5, {lag})", "p50"),
            query(f"histogram_quantile(0.99, {lag})", "p99"),
        ),
        lines(
            "Probe quality: dropped",
            "Probes that could not be sent: ours, not the target's.",
            "reqps",
            query(f"sum(rate(chaosd_probe_dropped_total{{{CELL}}}{rate}))", "dropped"),
        ),
        lines(
            "Probe duration",
            "From the scheduled time to the end, all outcomes.",
            "s",
            query(f"histogram_quantile(0.5, {took})", "p50"),
            query(f"histogram_quantile(0.99, {took})", "p99"),
        ),
        lines(
            "What runs",
            "1 for each run that is being scraped.",
            "short",
            query(
                "max by (name, runtime, proxy, proxy_version, run) (chaosd_run_info)",
                "{{name}} {{proxy}} {{proxy_version}} on {{runtime}} ({{run}})",
            ),
        ),
    ]


def arm() -> Any:
    label = f"label_values({RECOVERY}_count, arm)"
    return dashboard.QueryVariable("arm").datasource(SOURCE).query(label)


def variable(name: str) -> Any:
    return (
        dashboard.QueryVariable(name)
        .datasource(SOURCE)
        .query(f'label_values({RECOVERY}_count{{arm="$arm"}}, {name})')
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
    )


def build() -> str:
    """The dashboard's JSON."""
    faults = (
        dashboard.AnnotationQuery()
        .name("faults")
        .datasource(SOURCE)
        .enable(enable=True)
        .icon_color("purple")
        .expr(f"changes(chaosd_last_fault_timestamp_seconds{{{BY}}}[$__interval]) > 0")
    )
    made = (
        dashboard.Dashboard("chaosd: recovery time")
        .uid("chaosd-recovery")
        .description("How long HAProxy takes to find a backend that has moved, and what users see.")
        .tags(["chaosd", "haproxy"])
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("source").type("prometheus"))
        .with_variable(arm())
        .with_variable(variable("cell"))
        .with_variable(variable("fault"))
        .annotation(faults)
    )
    rows = (
        ("In short", headlines()),
        ("Recovery", recovery()),
        ("Users", users()),
        ("Costs", costs()),
        ("Can it be trusted?", quality()),
    )
    for title, panels in rows:
        made = made.with_row(dashboard.Row(title))
        for panel in panels:
            made = made.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(made.build()) + "\n"


if __name__ == "__main__":
    FILE.write_text(build(), encoding="utf-8")
