"""The metrics page, scraped for real over loopback and read back with the official parsers."""

from __future__ import annotations

import math
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator

import fake
import pytest
from fake import IMPOSTER, MS, NEW, OLD, SECOND, T0
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from chaosd.errors import MachineError
from chaosd.history.causes import Doubt, DoubtKind, LagKind
from chaosd.history.cycles import PHASES, CycleOutcome, Prediction
from chaosd.history.values import Address, Outcome
from chaosd.live.page import CONNECTIONS_MAX
from chaosd.live.prometheus import PrometheusSink

ANYWHERE = Address("127.0.0.1", 0)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
LABELS = {"arm": "main", "cell": "c1", "fault": "recreate"}
PROBE = {"arm": "main", "cell": "c1", "probe": "http", "via": "proxy"}


def sink(listen: Address = ANYWHERE) -> PrometheusSink:
    return PrometheusSink(
        listen,
        cells={"c1": "main", "c2": "main"},
        faults=["recreate", "noop"],
        slow_after_ns=100 * MS,
        run={"name": "made", "proxy_version": "2.6.12"},
        build={"version": "0.1.0"},
    )


@pytest.fixture
def page() -> Iterator[PrometheusSink]:
    served = sink()
    yield served
    served.close()


def get(page: PrometheusSink, path: str, accept: str = "*/*") -> tuple[int, str, str]:
    request = urllib.request.Request(f"http://{page.address}{path}", headers={"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def scraped(page: PrometheusSink, accept: str = "*/*") -> dict[tuple, float]:
    """Every series by its name and labels; the two formats must say the same."""
    status, kind, text = get(page, "/metrics", accept)
    assert status == 200
    parse = parse_openmetrics if "openmetrics" in kind else parse_text
    found = {}
    for family in parse(text):
        assert family.documentation.endswith("."), family.name
        for one in family.samples:
            key = one.name, frozenset(one.labels.items())
            assert key not in found, f"{key} twice"
            found[key] = one.value
    return found


class Page:
    """One scrape, asked by name and labels."""

    def __init__(self, page: PrometheusSink) -> None:
        self.series = scraped(page)
        assert scraped(page, OPENMETRICS) == self.series

    def __call__(self, name: str, /, **labels: str) -> float:
        return self.series[f"chaosd_{name}", frozenset(labels.items())]

    def buckets(self, name: str, **labels: str) -> dict[float, float]:
        return {
            float(dict(key)["le"]): value
            for (series, key), value in self.series.items()
            if series == f"chaosd_{name}_bucket" and labels.items() <= dict(key).items()
        }


def test_everything_is_there_from_the_start_at_zero(page) -> None:
    page.event(fake.stream())
    said = Page(page)
    names = {name for name, _ in said.series}
    assert not [name for name in names if name.endswith("_created")]
    for cell in ("c1", "c2"):
        for fault in ("recreate", "noop"):
            of = {"arm": "main", "cell": cell, "fault": fault}
            for outcome in CycleOutcome:
                assert said("cycles_total", outcome=outcome.value, **of) == 0
            for name in ("recovery", "stable_recovery"):
                assert said(f"{name}_duration_seconds_count", **of) == 0
            for phase in PHASES:
                assert said("phase_duration_seconds_count", phase=phase, **of) == 0
            assert said("outage_seconds_total", **of) == said("anomalies_total", **of) == 0
    for outcome in Outcome:
        if outcome != Outcome.DROPPED:
            assert said("probe_requests_total", outcome=outcome.name.lower(), **PROBE) == 0
    for name in ("probe_dropped", "misrouted_requests", "masked_requests"):
        assert said(f"{name}_total", **PROBE) == 0
    assert said("run_info", name="made", proxy_version="2.6.12") == 1
    assert said("build_info", version="0.1.0") == 1
    # What has not happened yet has no time and no duration.
    assert "chaosd_last_recovery_duration_seconds" not in names
    assert "chaosd_last_fault_timestamp_seconds" not in names


def test_the_buckets_of_recovery_are_those_of_the_design(page) -> None:
    bounds = [*Page(page).buckets("recovery_duration_seconds", arm="main", cell="c1", fault="noop")]
    assert bounds == [
        *(0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 45, 60),
        math.inf,
    ]


def test_a_recovered_cycle(page) -> None:
    page.event(fake.begin())
    page.cycle(fake.cycle(outage_gap_s=0.5, anomaly=True, stable_recovery_s=2.0))
    said = Page(page)
    assert said("last_fault_timestamp_seconds", **LABELS) == 1e9 + 100
    assert said("cycles_total", outcome="recovered", **LABELS) == 1
    assert said("recovery_duration_seconds_sum", **LABELS) == 1.043
    assert said("last_recovery_duration_seconds", **LABELS) == 1.043
    assert said("stable_recovery_duration_seconds_sum", **LABELS) == 2.0
    assert said("outage_seconds_total", **LABELS) == 0.5
    assert said("anomalies_total", **LABELS) == 1
    for bound, value in (("lower", 0.3), ("mean", 0.8), ("upper", 1.31)):
        assert said("predicted_recovery_seconds", bound=bound, **LABELS) == value
    for phase in PHASES:
        of = {"phase": phase, **LABELS}
        assert said("phase_duration_seconds_sum", **of) == fake.cycle().phases[f"{phase}_s"]
        assert said("phase_duration_seconds_count", **of) == 1
    counts = said.buckets("recovery_duration_seconds", **LABELS)
    assert (counts[1.0], counts[1.5], counts[math.inf]) == (0, 1, 1)


def test_the_cycle_is_an_exemplar_and_no_label(page) -> None:
    page.cycle(fake.cycle())
    _, kind, text = get(page, "/metrics", OPENMETRICS)
    assert kind.startswith("application/openmetrics-text")
    exemplars = {
        (one.name, one.labels["le"]): one.exemplar
        for family in parse_openmetrics(text)
        for one in family.samples
        if one.exemplar
    }
    found = exemplars["chaosd_recovery_duration_seconds_bucket", "1.5"]
    assert (found.labels, found.value) == ({"cycle": "12"}, 1.043)
    _, kind, text = get(page, "/metrics")
    assert kind.startswith("text/plain")
    assert "127.64" not in text


def test_unknown_phases_and_predictions_are_left_out(page) -> None:
    page.cycle(fake.cycle(phases={"serve_s": None}, predicted=None, anomaly=None))
    said = Page(page)
    assert said("phase_duration_seconds_count", phase="serve", **LABELS) == 0
    assert "chaosd_predicted_recovery_seconds" not in {name for name, _ in said.series}
    assert said("anomalies_total", **LABELS) == 0


def test_a_cycle_without_a_recovery_counts_as_longer_than_its_limit(page) -> None:
    page.cycle(
        fake.cycle(
            outcome=CycleOutcome.CENSORED,
            end_ns=T0 + 30 * SECOND,
            recovery_s=None,
            stable_recovery_s=None,
            outage_gap_s=None,
            outage_loss_s=29.5,
        )
    )
    said = Page(page)
    counts = said.buckets("recovery_duration_seconds", **LABELS)
    assert (counts[30.0], counts[45.0]) == (0, 1)
    assert said("recovery_duration_seconds_sum", **LABELS) == pytest.approx(30.0)
    assert said("stable_recovery_duration_seconds_count", **LABELS) == 1
    assert said("outage_seconds_total", **LABELS) == 29.5


@pytest.mark.parametrize("outcome", ["invalid", "skipped", "control"])
def test_what_is_no_failover_is_only_counted(page, outcome) -> None:
    page.cycle(fake.cycle(outcome=CycleOutcome(outcome), anomaly=None, predicted=None))
    said = Page(page)
    assert said("cycles_total", outcome=outcome, **LABELS) == 1
    assert said("recovery_duration_seconds_count", **LABELS) == 0
    assert said("outage_seconds_total", **LABELS) == 0


def test_a_poor_cycle_is_counted_with_its_cause_and_in_no_other_number(page) -> None:
    """As in the report."""
    lag = Doubt(kind=DoubtKind.WORLD_LATE, lag=LagKind.PROXY_STOPPED, seconds=2.0)
    page.cycle(fake.cycle(doubt=lag, anomaly=True, world_lag_s={"proxy-stopped": 2.0}))
    page.cycle(fake.cycle(doubt=fake.LATE))
    found = Page(page)
    poor = {"cause": "proxy-stopped"}
    assert found("poor_cycles_total", **LABELS, **poor) == 1
    assert found("poor_cycles_total", **LABELS, cause="probes-late") == 1
    assert found("world_lag_seconds", **LABELS, **poor) == 2.0
    assert found("cycles_total", **LABELS, outcome="poor") == 2
    assert found("cycles_total", **LABELS, outcome="recovered") == 0
    assert found("recovery_duration_seconds_count", **LABELS) == 0
    assert found("anomalies_total", **LABELS) == 0


def test_probes_are_counted_by_what_they_came_to(page) -> None:
    page.event(fake.stream())
    page.event(fake.stream(2, probe="direct", via="direct"))
    page.event(fake.instance(OLD, fake.OLD_IP))
    page.event(fake.instance(NEW, fake.NEW_IP, cycle=1))
    page.event(fake.instance("theirs", fake.NEW_IP, cell="c2"))
    page.samples(
        [
            fake.sample(T0, 2 * MS, who=OLD, lag_ns=30_000),
            fake.sample(T0 + 1, 300 * MS, who=NEW, lag_ns=40_000),
            fake.sample(T0 + 2, 100 * MS, who=NEW),
            fake.sample(T0 + 3, 300 * MS, who=IMPOSTER),
            fake.sample(T0 + 4, who="theirs"),
            fake.sample(T0 + 5, 2 * SECOND, Outcome.TIMEOUT, "", lag_ns=2 * SECOND),
            fake.sample(T0 + 6, 0, Outcome.DROPPED, ""),
        ]
    )
    page.samples([fake.sample(T0, stream=2, who=IMPOSTER)])
    said = Page(page)
    assert said("probe_requests_total", outcome="ok", **PROBE) == 5
    assert said("probe_requests_total", outcome="timeout", **PROBE) == 1
    assert said("probe_dropped_total", **PROBE) == 1
    assert said("misrouted_requests_total", **PROBE) == 2
    assert said("masked_requests_total", **PROBE) == 1
    assert (
        said("misrouted_requests_total", arm="main", cell="c1", probe="direct", via="direct") == 1
    )
    lags = said.buckets("probe_schedule_lag_seconds", **PROBE)
    assert [lags[b] for b in (1e-5, 2.5e-5, 5e-5, 1.0, math.inf)] == [3, 3, 5, 5, 6]
    assert said("probe_schedule_lag_seconds_sum", **PROBE) == pytest.approx(2.00007)
    took = said.buckets("probe_duration_seconds", **PROBE)
    assert [took[b] for b in (0.001, 0.0025, 0.1, 0.5, 2.5)] == [1, 2, 3, 5, 6]
    assert said("probe_duration_seconds_count", **PROBE) == 6


def test_what_the_world_says_of_itself(page) -> None:
    def say(source: str, what: str, **data) -> None:
        page.event(fake.reading(T0, source, what, cycle=0, **data))

    say("proxy.api", "resolvers", counters={"ns1": {"sent": 7, "any-err": 1}, "ns2": {"sent": 2}})
    say("proxy.api", "resolvers", counters={"ns1": {"sent": 9, "any-err": 1}})
    say("proxy.api", "process", rss_bytes=5_000_000, fds=42)
    say("dns", "queries", count=100)
    say("dns", "queries", count=120)
    said = Page(page)
    of = {"arm": "main", "cell": "c1", "nameserver": "ns1"}
    assert said("haproxy_resolver_sent_total", **of) == 9
    assert said("haproxy_resolver_any_err_total", **of) == 1
    assert said("haproxy_resolver_sent_total", arm="main", cell="c1", nameserver="ns2") == 2
    assert said("proxy_resident_memory_bytes", arm="main", cell="c1") == 5_000_000
    assert said("proxy_open_fds", arm="main", cell="c1") == 42
    assert said("dns_queries_total", arm="main", cell="c1") == 120
    # A proxy that started anew begins anew: rate() knows what to make of it.
    say("proxy.api", "resolvers", counters={"ns1": {"sent": 1}})
    say("proxy.api", "process", fds=40)
    said = Page(page)
    assert said("haproxy_resolver_sent_total", **of) == 1
    assert "chaosd_proxy_resident_memory_bytes" not in {name for name, _ in said.series}


# --- the page itself ---


def test_health_readiness_and_the_rest(page) -> None:
    assert get(page, "/-/healthy") == (200, "text/plain; charset=utf-8", "healthy\n")
    assert get(page, "/-/ready")[0] == 503
    page.ready()
    assert get(page, "/-/ready")[::2] == (200, "ready\n")
    assert "/metrics" in get(page, "/")[2]
    assert get(page, "/favicon.ico")[0] == 404


def test_a_daemon_whose_loop_hangs_is_not_healthy(page) -> None:
    """Its page is served by threads, which would not notice."""
    now_ns = T0
    page._page._now_ns = lambda: now_ns
    page.tick()
    now_ns += 3600 * SECOND
    assert get(page, "/-/healthy")[0] == 200  # it is still being set up
    page.ready()
    now_ns += 30 * SECOND
    assert get(page, "/-/healthy")[0] == 200
    now_ns += SECOND
    assert get(page, "/-/healthy")[::2] == (503, "no tick for 31 s\n")
    assert get(page, "/-/ready")[0] == 200
    page.tick()
    assert get(page, "/-/healthy")[::2] == (200, "healthy\n")


def test_a_taken_port_is_said_in_one_line(page) -> None:
    with pytest.raises(MachineError) as error:
        sink(page.address)
    assert str(error.value) == (
        f"metrics.listen: {page.address} is taken by another program (choose another port, 0 for "
        "any free one, or metrics: null)"
    )


def test_an_address_of_somebody_else_is_said_in_one_line() -> None:
    with pytest.raises(MachineError) as error:
        sink(Address("192.0.2.1", 0))
    assert str(error.value) == (
        "metrics.listen: 192.0.2.1 is no address of this machine (choose one, such as 127.0.0.1)"
    )


def test_closing_frees_the_port_and_leaves_no_thread_and_may_be_done_twice() -> None:
    page = sink()
    assert get(page, "/-/healthy")[0] == 200
    page.close()
    page.close()
    assert "metrics" not in [thread.name for thread in threading.enumerate()]
    again = sink(page.address)
    again.close()


def test_a_scraper_that_never_asks_does_not_keep_others_out(page) -> None:
    with socket.create_connection(page.address), socket.create_connection(page.address) as other:
        other.sendall(b"GET /met")
        assert get(page, "/-/healthy")[0] == 200


def test_scrapes_meanwhile_see_whole_batches(page) -> None:
    """Probes are counted in the loop's thread and scraped in another."""
    page.event(fake.stream())
    page.event(fake.instance(OLD, fake.OLD_IP))
    batch = [fake.sample(T0 + i, lag_ns=MS) for i in range(97)]
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            page.samples(batch)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(20):
            found = {
                one.name: one.value
                for family in page.registry.collect()
                for one in family.samples
                if one.labels.get("outcome", "ok") == "ok"
            }
            seen = [
                found[f"chaosd_probe_{name}"]
                for name in (
                    "requests_total",
                    "duration_seconds_count",
                    "schedule_lag_seconds_count",
                )
            ]
            assert seen[0] % 97 == 0
            assert len(set(seen)) == 1
            sum_s = found["chaosd_probe_schedule_lag_seconds_sum"]
            assert sum_s == pytest.approx(seen[0] * 0.001)
    finally:
        stop.set()
        thread.join()


def test_a_prediction_without_a_cell_known_before(page) -> None:
    """A cell or fault that nobody announced appears when it is first heard of."""
    predicted = Prediction(lower_s=1, mean_s=2, upper_s=3)
    page.cycle(fake.cycle(cell="c9", fault="other", predicted=predicted))
    of = {"arm": "", "cell": "c9", "fault": "other"}
    said = Page(page)
    assert said("predicted_recovery_seconds", bound="mean", **of) == 2
    assert said("cycles_total", outcome="recovered", **of) == 1


def test_slow_clients_hold_few_threads_and_nobody_up(page, monkeypatch) -> None:
    monkeypatch.setattr("chaosd.live.page.REQUEST_LIMIT_S", 0.5)
    before = threading.active_count()
    slow = []
    for number in range(80):
        slow.append(socket.create_connection(page.address))
        # Most of them never end their question, the others never read what they are answered.
        slow[-1].sendall(b"GET /met" if number % 8 else b"GET /metrics HTTP/1.0\r\n\r\n")
    assert threading.active_count() - before <= CONNECTIONS_MAX
    assert get(page, "/-/ready")[0] in (200, 503)
    status, _, text = get(page, "/metrics")
    assert status == 200
    assert "chaosd_cycles_total" in text
    for each in slow:
        each.close()


def test_a_client_that_takes_too_long_is_cut_off(page, monkeypatch) -> None:
    monkeypatch.setattr("chaosd.live.page.REQUEST_LIMIT_S", 0.05)
    with socket.create_connection(page.address, timeout=10) as slow:
        slow.sendall(b"GET /met")
        assert slow.recv(1) == b""


def test_log_lines_that_were_not_believed_are_counted(page) -> None:
    for count in (1, 727):
        said = {"count": count, "sender": "127.0.0.1:4242"}
        page.event(fake.reading(fake.T0, "proxy.log", "refused", **said))
    assert Page(page)("log_lines_refused_total", arm="main", cell="c1") == 727


def test_questions_of_strangers_are_counted_apart(page) -> None:
    page.event(fake.reading(fake.T0, "dns", "strangers", count=9, sender="127.0.0.1:4242"))
    assert Page(page)("dns_stranger_queries_total", arm="main", cell="c1") == 9
