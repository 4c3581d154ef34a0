"""Two runs compared: how often that is right, for samples whose truth is known."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import budget
import fake
import pytest
import yaml

from chaosd import report as reports
from chaosd.analysis.compare import SHARES, Comparison, Reason, ReasonKind, Side, compare
from chaosd.analysis.compare import _difference as difference
from chaosd.analysis.statistics import Estimate
from chaosd.analysis.summary import summarise
from chaosd.cli import main
from chaosd.errors import ConfigError
from chaosd.history.codec import encode_cycle
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.reader import RunReader
from chaosd.history.writer import RunStore
from chaosd.report import compare as files
from chaosd.report import json as report_json
from chaosd.report import words
from chaosd.report.settings import files as texts
from chaosd.report.settings import settings

MANIFEST = {"name": "made", "run": "a", "cells": ["c1"], "end_unix": 1.0}
LIMIT = {"settings": {"recovery_limit_ns": 30 * fake.SECOND, "stable_for_ns": fake.SECOND}}
RATE_HZ = 100


def cycle(recovery_s: float, **changes: Any) -> Cycle:
    """A failover after a poll, probed at 100/s: what failed is most of the recovery."""
    failed = round(0.8 * recovery_s * RATE_HZ)
    samples = round((recovery_s + 1) * RATE_HZ)
    values = {"recovery_s": recovery_s, "failed": failed, "samples": samples, "masked": 0}
    return fake.cycle(**(values | changes))


def censored(limit_s: float = 30.0) -> Cycle:
    gone = dict.fromkeys(("recovery_s", "stable_recovery_s", "outage_gap_s"))
    end_ns = fake.T0 + round(limit_s * fake.SECOND)
    changes = {"outcome": CycleOutcome.CENSORED, "end_ns": end_ns}
    return fake.cycle(**changes, **gone, samples=3000, failed=3000, masked=0)


def side(cycles: Sequence[Cycle], **manifest: Any) -> Side:
    report = summarise("made", MANIFEST | LIMIT | manifest, cycles, (), {})
    said = json.loads(report_json.render(report, {}))
    return Side.of(said, said["total"])


def uniform(random: Random, start_s: float) -> list[Cycle]:
    """What the simulated world gives: a gap, then whatever is left of HAProxy's period."""
    return [cycle(start_s + random.uniform(0, 1.0)) for _ in range(100)]


def longer(cycles: Sequence[Cycle], change: Callable[[float], float]) -> list[Cycle]:
    return [cycle(change(c.recovery_s)) for c in cycles]


@lru_cache
def pairs(start_s: float) -> list[tuple[Side, list[Cycle]]]:
    """Of a hundred cycles each."""
    random = Random(f"pairs {start_s}")
    return [
        (side(uniform(random, start_s)), uniform(random, start_s)) for _ in range(budget.of(5, 100))
    ]


def answers(start_s: float, change: Callable[[float], float]) -> Counter[str]:
    """In percent of the pairs, the second of each changed."""
    found: Counter[str] = Counter()
    for a, b in pairs(start_s):
        found[compare(a, side(longer(b, change))).answer] += 100 // len(pairs(start_s))
    return found


# configs/sim.yaml gives 0.2 to 1.2 s; an app that is slower to start 0.5 to 1.5 s.
@pytest.mark.sized
@pytest.mark.parametrize("start_s", [0.2, 0.5])
def test_runs_of_the_same_settings_are_the_same(start_s) -> None:
    assert answers(start_s, lambda s: s)["same"] >= 95


@pytest.mark.sized
@pytest.mark.parametrize("start_s", [0.2, 0.5])
def test_a_change_of_20_percent_is_found(start_s) -> None:
    mean = start_s + 0.5
    assert answers(start_s, lambda s: 1.2 * s)["worse"] >= 95
    assert answers(start_s, lambda s: s + 0.2 * mean)["worse"] >= 95
    assert answers(start_s, lambda s: s / 1.2)["better"] >= 95


def test_too_few_cycles_tell_nothing() -> None:
    random = Random(1)
    a, b = uniform(random, 0.2), uniform(random, 0.2)
    found = compare(side(a[:30]), side(b[:30]))
    assert found.answer == "unknown"
    (reason,) = found.reasons
    assert reason == Reason(kind=ReasonKind.WIDE, number="recovery p95", share=0.2)
    expected = "recovery p95 may differ by more than 20%: more cycles would tell"
    assert words.comparison(reason) == expected
    assert compare(side([]), side([])).answer == "unknown"  # by its doubts


# --- the intervals ---


def wilson(count: int, n: int) -> Estimate:
    z2, p = 1.959964**2, count / n
    middle = (2 * count + z2) / 2 / (n + z2)
    half = math.sqrt(z2) * math.sqrt(z2 + 4 * count * (1 - p)) / 2 / (n + z2)
    return Estimate(p, middle - half, middle + half)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17, 1998, 873-890, table II, method 10.
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
    ],
)
def test_the_interval_of_a_difference_is_the_one_in_the_papers(one, other, low, high) -> None:
    found = difference(wilson(*other), wilson(*one), 0.0, 1.0)
    assert found.value == pytest.approx(one[0] / one[1] - other[0] / other[1])
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_a_missing_bound_leaves_that_side_open() -> None:
    a, b = Estimate(1.0, 0.9, None), Estimate(2.0, 1.8, 2.2)
    found = difference(a, b, 0.0, 1.0)
    assert (found.value, found.low) == (1.0, None)
    assert found.high == pytest.approx(1 + math.hypot(0.2, 0.1))
    found = difference(b, a, 0.0, 1.0)
    assert (found.low, found.high) == (pytest.approx(-1 - math.hypot(0.2, 0.1)), None)


def test_what_is_beyond_all_that_was_observed_differs_if_the_intervals_are_apart() -> None:
    a, beyond = Estimate(1.0, 0.9, 1.1), Estimate(None, 1.5, None, beyond=30.0)
    assert difference(a, beyond, 0.0, 1.0) == Estimate(None, pytest.approx(0.4), None)
    assert difference(beyond, a, 0.0, 1.0) == Estimate(None, None, pytest.approx(-0.4))
    overlapping = Estimate(None, 1.05, None, beyond=30.0)
    assert difference(a, overlapping, 0.0, 1.0) == Estimate(None, None, None)


# --- the answer ---


def differs(*names: str) -> tuple[Reason, ...]:
    return tuple(Reason(kind=ReasonKind.NUMBER, number=name) for name in names)


def rows(found: Comparison) -> dict[str, str]:
    return {row.name: row.answer for row in found.rows}


def numbers(p95_low: float, p95: float, p95_high: float, resolution_s: float = 0.0) -> Side:
    """A run of which only the p95 is known."""
    unknown = Estimate(None, None, None)
    known = dict.fromkeys(["recovery p50", "recovery mean", *SHARES], unknown)
    known |= {"recovery p95": Estimate(p95, p95_low, p95_high)}
    return Side(
        name="x",
        failovers=100,
        numbers=known,
        resolution_s=resolution_s,
        limit_s=30.0,
        stable_for_s=1.0,
        doubts=(),
        config={},
    )


@pytest.mark.parametrize(
    ("b", "answer"),
    [
        (numbers(1.00, 1.00, 1.00), "same"),
        (numbers(1.00, 1.04, 1.04), "same"),  # known, and too small to matter
        (numbers(1.06, 1.06, 1.06), "worse"),
        (numbers(0.94, 0.94, 0.94), "better"),
        (numbers(1.01, 1.04, 1.06), "worse"),
        (numbers(0.90, 1.00, 1.19), "same"),
        (numbers(0.90, 1.00, 1.21), "unknown"),
        (numbers(0.79, 1.00, 1.10), "unknown"),
    ],
)
def test_the_margin_and_the_tolerance(b, answer) -> None:
    assert compare(numbers(1.0, 1.0, 1.0), b).answer == answer


def test_what_the_meter_cannot_see_is_no_difference() -> None:
    a, b = numbers(1.0, 1.0, 1.0), numbers(1.1, 1.1, 1.1)
    assert compare(a, b).answer == "worse"
    coarse = (replace(a, resolution_s=0.11), replace(b, resolution_s=0.11))
    assert compare(*coarse).answer == "same"
    # A coarser meter measures longer recoveries: that much of it may be the meter's doing.
    b = numbers(1.3, 1.3, 1.3)
    assert compare(a, b).answer == "worse"
    assert compare(a, replace(b, resolution_s=0.31), margin=0.7).answer == "same"
    assert compare(a, replace(b, resolution_s=0.29), margin=0.7).answer == "worse"


def test_a_meter_that_is_too_coarse_can_not_say_the_same() -> None:
    a, b = numbers(0.49, 0.50, 0.51, 0.6), numbers(0.94, 0.95, 0.96, 0.6)
    found = compare(a, b)
    (reason,) = found.reasons
    assert (found.answer, reason.kind, reason.seconds) == ("unknown", ReasonKind.COARSE, 0.6)
    told = words.comparison(reason)
    assert told.endswith("by the probes, too coarsely: a higher rate would tell")
    assert compare(a, a).answer == "unknown"
    far = numbers(1.60, 1.70, 1.80, 0.6)
    assert compare(a, far).answer == "worse"
    assert compare(far, a).answer == "better"
    # One badly known recovery of a hundred makes no quantile coarse.
    some = [cycle(0.3 + place / 500) for place in range(100)]
    late = [*some[:50], replace(some[50], resolution_s=0.6), *some[51:]]
    slow = longer(late, lambda s: 1.9 * s)
    assert compare(side(late), side(slow)).answer == "worse"


def test_what_one_run_never_sees_and_the_other_always_is_a_difference() -> None:
    some = [cycle(0.3 + place / 500, failed=0) for place in range(100)]
    for name, found in (("misrouted", "any misrouted"), ("failed", "any failed")):
        spoilt = [replace(c, **{name: 3}) for c in some]
        assert compare(side(some), side(spoilt)).reasons == differs(found)
        assert compare(side(spoilt), side(some)).answer == "better"
        assert compare(side(some), side([*some[:97], *spoilt[:3]])).answer == "same"


def test_a_longer_look_is_no_better_proxy() -> None:
    """What is watched for longer after its recovery has more good requests."""
    random = Random(8)
    some = uniform(random, 0.2)
    longer_look = [replace(c, samples=c.samples + 900) for c in some]
    seen = {"settings": LIMIT["settings"] | {"stable_for_ns": 10 * fake.SECOND}}
    found = compare(side(some), side(longer_look, **seen))
    assert found.answer == "same"
    assert rows(found)["failed"] == "unknown"
    assert compare(side(some), side(longer_look)).reasons == differs("failed")


def test_recoveries_that_never_come_are_worse() -> None:
    a = [cycle(0.5 + place / 100) for place in range(100)]
    found = compare(side(a), side([*a[:80], *[censored()] * 20]))
    assert found.answer == "worse"
    assert rows(found)["censored"] == rows(found)["recovery p95"] == "worse"
    assert found.rows[0].b.beyond == 30.0
    text = "\n".join(files.lines(found))
    assert "unknown, > 30.0 s" in text
    # Given up at different times, they can't be counted against each other.
    limit = {"settings": {"recovery_limit_ns": 10 * fake.SECOND}}
    assert rows(compare(side(a), side([*a, *[censored(10)] * 9], **limit)))["censored"] == "unknown"


def test_a_poor_measurement_makes_everything_unknown() -> None:
    random = Random(2)
    a = uniform(random, 0.2)
    b = longer(a, lambda s: 2 * s)
    poor = [replace(c, doubt=fake.LATE) for c in b[::10]]
    found = compare(side(a), side([*b, *poor]))
    assert rows(found)["recovery p95"] == "worse"
    assert found.answer == "unknown"
    said = "10 of 110 cycles poor (at most 5 % may be)"
    assert found.reasons == (Reason(kind=ReasonKind.DOUBT, side="made", detail=said),)
    assert words.comparison(found.reasons[0]) == f"made: {said}"


def test_worse_outranks_better() -> None:
    random = Random(3)
    a = uniform(random, 0.2)
    quicker = [replace(c, misrouted=20) for c in longer(a, lambda s: s / 2)]
    found = compare(side(a), side(quicker))
    assert (rows(found)["recovery p95"], rows(found)["misrouted"]) == ("better", "worse")
    assert (found.answer, found.reasons) == ("worse", differs("misrouted", "any misrouted"))


# --- files and exit codes ---


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three run directories: two alike, and one that is half as long again."""
    random = Random(4)
    for name, factor in (("a", 1.0), ("b", 1.0), ("slow", 1.5)):
        (directory := tmp_path / name).mkdir()
        cycles = longer(uniform(random, 0.2), lambda s, factor=factor: factor * s)
        (directory / "cycles.jsonl").write_text("".join(f"{encode_cycle(c)}\n" for c in cycles))
        manifest = MANIFEST | LIMIT | {"run": name}
        (directory / "run.json").write_text(json.dumps(manifest))
        report = summarise(f"made {name}", manifest, cycles, (), {})
        slow = {"timeout_resolve": "200ms"} if name == "slow" else {"timeout_resolve": "1s"}
        config = {"name": name, "proxy": {"resolvers": slow}, "faults": [{"type": "recreate"}]}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        said = report_json.render(report, settings(RunReader(directory)))
        (directory / "report.json").write_text(said)
    return tmp_path


def test_exit_codes(runs, capsys) -> None:
    def code(*arguments: str) -> int:
        return main(["compare", *(str(runs / a) if a[0] != "-" else a for a in arguments)])

    assert code("a", "b") == 0
    out = capsys.readouterr().out
    assert "\nsettings: the same\n" in out
    assert "\nsame: recovery p95 is, to within 20%" in out
    assert code("a", "slow") == 1
    out = capsys.readouterr().out
    assert out.startswith(
        "A: made a, 100 failovers\nB: made slow, 100 failovers\n"
        "proxy.resolvers.timeout_resolve: 1s → 200ms\n"
    )
    assert "\nworse: in recovery p95, recovery p50, recovery mean, failed\n" in out
    assert code("slow", "a") == 0
    assert "\nbetter: in recovery p95" in capsys.readouterr().out
    assert code("a", "b", "--margin=2%") == 4
    assert code("a", "nothing") == 2
    assert code("a", "b", "--margin=2") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "chaosd: --margin: not a share (write it like 99.9% or 0.1%, or 0 for none)"
    )


def test_a_baseline_knows_its_settings(runs) -> None:
    """A committed report.json has them, and an own file counts by what is in it."""
    for name, text in (("a", "one"), ("b", "other")):
        config = {"name": name, "proxy": {"type": "haproxy", "config": "/etc/own.cfg"}}
        (runs / name / "config.yaml").write_text(yaml.safe_dump(config))
        (runs / name / "c1").mkdir()
        (runs / name / "c1/haproxy.cfg").write_text(text)  # its name where run.json says none
    reports.write(runs / "a")
    baseline = runs / "baseline.json"
    (runs / "a/report.json").rename(baseline)
    found = compare(files.load(baseline), files.load(runs / "b"))
    assert list(found.changed) == ["proxy.config"]
    assert found.changed["proxy.config"][0] != found.changed["proxy.config"][1]
    told = "proxy.config: two different files (not every setting of both is known)"
    assert told in files.lines(found)
    assert compare(files.load(baseline), files.load(runs / "a")).changed == {}


OWN = {"server": {"inter": "2s", "slowstart": "10s"}, "retries": 3}


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        (
            OWN,
            OWN | {"server": {"inter": "500ms"}},
            [
                "proxy.server.inter: 2s → 500ms",
                "proxy.server.slowstart: 10s → not set",
                "proxy.config: two different files (their settings that differ are above)",
            ],
        ),
        (OWN, OWN, ["proxy.config: two different files (with the same settings)"]),
        (OWN, {}, ["proxy.config: two different files (not every setting of both is known)"]),
    ],
)
def test_two_own_files_differ_by_their_settings(runs, a, b, said) -> None:
    for name, stored in (("a", a), ("b", b)):
        directory = runs / name
        config = {"name": name, "proxy": {"type": "haproxy", "config": "/etc/own.cfg"}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        (directory / "c1").mkdir()
        (directory / "c1/haproxy.cfg").write_text(name)
        manifest = json.loads((directory / "run.json").read_text()) | {"proxy_settings": stored}
        (directory / "run.json").write_text(json.dumps(manifest))
    told = list(files.lines(compare(files.load(runs / "a"), files.load(runs / "b"))))
    settings_told = [line for line in told if line.startswith("proxy.")]
    assert settings_told[-len(said) :] == said


@pytest.mark.parametrize(
    ("digests", "said"),
    [
        (("text 1", "text 1"), []),
        (
            ("text 1", "text 2"),
            ["proxy.config: two different files (with the same settings)"],
        ),
    ],
)
def test_copies_of_one_file_are_one_file(runs, digests, said) -> None:
    """Each run's copy has other addresses in it."""
    for name, digest in zip(("a", "b"), digests, strict=True):
        directory = runs / name
        config = {"name": name, "proxy": {"type": "haproxy", "config": [f"/{name}/own.cfg"]}}
        (directory / "config.yaml").write_text(yaml.safe_dump(config))
        (directory / "c1").mkdir()
        (directory / "c1/haproxy.cfg").write_text(f"bind {name}")
        stored = {**OWN, "config": digest}
        manifest = json.loads((directory / "run.json").read_text()) | {"proxy_settings": stored}
        (directory / "run.json").write_text(json.dumps(manifest))
    told = list(files.lines(compare(files.load(runs / "a"), files.load(runs / "b"))))
    assert [line for line in told if line.startswith("proxy.config")] == said


def test_of_two_arms_one_may_have_a_file_of_its_own(runs) -> None:
    """What differs is said by settings, and not by a path; from a report.json as well."""
    directory = runs / "a"
    config = {"name": "a", "proxy": {"type": "haproxy", "server": {"inter": "2s"}, "retries": 3}}
    (directory / "config.yaml").write_text(yaml.safe_dump(config))
    common = LIMIT | {"proxy": "haproxy", "proxy_version": "3.0.11", "proxy_config": "haproxy.cfg"}
    arms = {
        "yaml": {**common, "cells": ["c1"], "proxy_settings": {}, "differs": {}},
        "own": {
            **common,
            "cells": ["c2"],
            "proxy_settings": {"server": {"inter": "500ms"}, "retries": 3},
            "differs": {"proxy.config": "/etc/own.cfg"},
        },
    }
    (directory / "c2").mkdir()
    (directory / "c2/haproxy.cfg").write_text("own")
    manifest = json.loads((directory / "run.json").read_text()) | {"arms": arms}
    (directory / "run.json").write_text(json.dumps(manifest | {"cells": ["c1", "c2"]}))
    reports.write(directory)
    for source in (directory, directory / "report.json"):
        found = compare(files.load(source, arm="yaml"), files.load(source, arm="own"))
        assert list(found.changed) == ["proxy.server.inter", "proxy.config"]
        assert "proxy.server.inter: 2s → 500ms" in files.lines(found)
        assert "proxy.config: not set → a file of your own" in files.lines(found)


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, ["c1/haproxy.cfg"]),
        ({"proxy_config": "nginx.conf"}, ["c1/nginx.conf"]),
        ({"proxy_config": None}, []),
        ({"proxy_config": "../b/config.yaml"}, []),
    ],
)
def test_a_run_directory_says_what_its_proxys_file_is_called(runs, said, found) -> None:
    (runs / "a/c1").mkdir()
    for name in ("haproxy.cfg", "nginx.conf"):
        (runs / "a/c1" / name).write_text("text")
    manifest = json.loads((runs / "a/run.json").read_text())
    manifest.pop("proxy_config", None)
    (runs / "a/run.json").write_text(json.dumps(manifest | said))
    shown = texts(RunReader(runs / "a"))
    assert [name for name in shown if name != "config.yaml"] == found
    assert compare(files.load(runs / "slow/cycles.jsonl"), files.load(runs / "a")).changed is None


def test_json_is_for_programs(runs, capsys) -> None:
    assert main(["compare", str(runs / "a"), str(runs / "slow"), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    keys = ["a", "b", "margin", "tolerance", "rows", "answer", "reasons", "changed", "why"]
    assert list(found) == keys
    assert found["reasons"][0] == found["why"][0]["number"] == "recovery p95"
    assert found["why"][0]["kind"] == "number"
    assert found["changed"] == {"proxy.resolvers.timeout_resolve": ["1s", "200ms"]}
    assert (found["answer"], found["margin"]) == ("worse", 0.2)
    row = found["rows"][0]
    assert (row["name"], row["unit"], row["answer"]) == ("recovery p95", "s", "worse")
    assert row["difference"]["value"] == pytest.approx(row["b"]["value"] - row["a"]["value"])


def test_a_run_that_was_killed_and_its_report_are_one(runs) -> None:
    """What was going on when it was killed is in neither's cycles.jsonl, and counts in both."""
    directory = runs / "killed"
    settings_ = {"settings": asdict(fake.settings())}
    store = RunStore(directory, MANIFEST | settings_, "", threads=False)
    store.event(fake.stream())
    store.event(fake.instance(fake.OLD, fake.OLD_IP))
    for place in range(99):
        store.cycle(cycle(0.5 + place / 1000, cycle=place + 1))
    store.event(fake.begin(cycle=100))
    answer = fake.failover(60 * fake.SECOND)
    store.samples(fake.row(fake.T0 - fake.SECOND, fake.T0 + 29 * fake.SECOND, answer))
    store.tick()
    reports.write(directory)
    here, there = files.load(directory), files.load(directory / "report.json")
    assert here.numbers == there.numbers
    assert here.numbers["recovery mean"].value is None


def test_a_baseline_may_be_one_file(runs) -> None:
    """Of a run directory in a repository, report.json is enough; or its cycles."""
    expected = files.load(runs / "a")
    assert files.load(runs / "a" / "run.json") == expected
    assert files.load(runs / "a" / "report.json") == expected
    (runs / "b" / "report.json").write_text("{}")  # of a run, its cycles count, not an old report
    assert files.load(runs / "b").failovers == 100
    (kept := runs / "kept").mkdir()
    shutil.copy(runs / "a" / "report.json", kept)
    assert files.load(kept) == expected
    cycles = files.load(runs / "a" / "cycles.jsonl")
    assert cycles.numbers == expected.numbers
    assert (cycles.limit_s, cycles.doubts) == (None, ())


def test_a_report_of_another_shape_is_told_by_its_key(runs) -> None:
    """Keys may come in addition within a version; wrong ones are named."""
    report = json.loads((runs / "a/report.json").read_text())
    other = runs / "other.json"
    more = {**report, "news": 1, "total": {**report["total"], "more": {}}}
    more["total"]["recovery_s"]["p95"]["sd"] = 0.1
    other.write_text(json.dumps(more))
    assert files.load(other) == files.load(runs / "a")
    for path, value in (("version", 2), ("total.recovery_s.p95.value", "x"), ("doubts", None)):
        wrong = json.loads((runs / "a/report.json").read_text())
        *parents, last = path.split(".")
        place = wrong
        for key in parents:
            place = place[key]
        place[last] = value
        other.write_text(json.dumps(wrong))
        with pytest.raises(ConfigError, match=rf"this version of chaosd \({path}: "):
            files.load(other)


def test_what_is_torn_at_the_end_of_a_ledger_is_left_out(runs) -> None:
    ledger = runs / "a/cycles.jsonl"
    with ledger.open("a") as file:
        file.write('{"cycle":101,"cell":"c1"')
    assert files.load(ledger).failovers == 100
    with ledger.open("a") as file:
        file.write("\n")
    with pytest.raises(ConfigError, match=r"cycles.jsonl:101: "):
        files.load(ledger)


def test_one_fault_or_one_cell_can_be_compared(runs, capsys) -> None:
    random = Random(9)
    for name, factor in (("a", 1.0), ("b", 1.3)):
        cycles = [replace(c, fault="blue") for c in uniform(random, 0.2)]
        cycles += [replace(cycle(factor * c.recovery_s), fault="green") for c in cycles]
        lines = "".join(f"{encode_cycle(c)}\n" for c in cycles)
        (runs / name / "cycles.jsonl").write_text(lines)
    here, there = str(runs / "a"), str(runs / "b")
    assert main(["compare", here, there, "--fault", "blue"]) in (0, 4)
    assert "A: made a (fault blue), 100 failovers\n" in capsys.readouterr().out
    assert main(["compare", here, there, "--fault", "green", "--cell", "c1"]) == 1
    assert "B: made b (cell c1, fault green), 100 failovers\n" in capsys.readouterr().out
    assert main(["compare", here, there, "--fault", "red"]) == 2
    assert "has no fault `red` (there: blue, green)" in capsys.readouterr().err


def test_a_control_has_nothing_to_compare(runs, capsys) -> None:
    for name in ("a", "b"):
        with (runs / name / "cycles.jsonl").open("a") as file:
            undone = cycle(0.001, fault="noop", outcome=CycleOutcome.CONTROL)
            file.write(f"{encode_cycle(undone)}\n")
    here, there = str(runs / "a"), str(runs / "b")
    assert main(["compare", here, there]) == 0
    assert main(["compare", here, there, "--fault", "noop"]) == 2
    said = "fault `noop` is a control and makes no failovers: no run of it can tell"
    assert capsys.readouterr().err == f"chaosd: {here}: {said}\n"


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("/nowhere", "there is no such file or directory ("),
        ("/dev/zero", "can't be read: it is no regular file"),
        ("/dev/null", "can't be read: it is no regular file"),
        ("/proc/self/mem", "can't be read: Input/output error"),
    ],
)
def test_what_is_no_file_is_not_read(path, what) -> None:
    with pytest.raises(ConfigError) as caught:
        files.load(Path(path))
    assert str(caught.value).startswith(f"{path}: {what}")


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("x.json", "{}", "not a report of this version of chaosd (version: Field required)"),
        ("x.json", "[]", "not a report of this version of chaosd (: Input should be"),
        ("x.json", "{", "is neither a run directory, nor a report.json, nor a cycles.jsonl"),
        ("README.md", "# x\n", "is neither a run directory, nor a report.json, nor a cycles.jsonl"),
        ("x.jsonl", "{}\n", "can't be compared: "),
        ("run.json", "{", "can't be compared: "),
    ],
)
def test_what_can_not_be_compared_is_said(tmp_path, name, content, what) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigError) as caught:
        files.load(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: {what}")


def test_whoever_looks_at_many_numbers_asks_more_of_each() -> None:
    """One of eight decides; each of the others gets its part of what may be wrong in all."""
    a, b = side(uniform(Random(1), 0.2)), side(uniform(Random(2), 0.2))
    rows = {row.name: row for row in compare(a, b).rows}
    alone = {name: difference(rows[name].a, rows[name].b, 0.0, 1.0) for name in rows}

    def width(found: Estimate) -> float:
        return found.high - found.low

    assert width(rows["recovery p95"].difference) == width(alone["recovery p95"])
    for name in ("recovery p50", "recovery mean"):
        # The two-sided 95 % point of seven tests together, by that of one: 2.690 / 1.960.
        assert width(rows[name].difference) / width(alone[name]) == pytest.approx(1.3726, abs=0.001)


def test_a_coarser_meter_makes_every_difference_less_sure() -> None:
    a, b = numbers(0.9, 1.0, 1.1), numbers(0.9, 1.0, 1.1)
    for row in compare(a, b).rows[:1]:
        alike = row.difference
    for row in compare(a, replace(b, resolution_s=a.resolution_s + 0.05)).rows[:1]:
        apart = row.difference
    assert apart.low == pytest.approx(alike.low - 0.05)
    assert apart.high == pytest.approx(alike.high + 0.05)
