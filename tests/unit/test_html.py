"""report.html: whole, self-contained, escaped, and small; what its charts show."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from random import Random

import fake
import numpy as np
import pytest

from chaosd.analysis.heat import COLUMNS, KINDS, HeatFold
from chaosd.analysis.summary import summarise
from chaosd.history.codec import decode_event
from chaosd.history.cycles import Cycle, CycleOutcome, Prediction
from chaosd.history.values import Outcome
from chaosd.history.writer import RECORDS
from chaosd.report import html
from chaosd.report.html.charts import Axis, Frame

VOID = {"meta", "br", "line", "path", "rect"}
SECOND = 1_000_000_000


class Whole(HTMLParser):
    """Checks that every element is closed in its turn, and gathers what refers elsewhere."""

    def __init__(self):
        super().__init__()
        self.open, self.elsewhere, self.words, self.scripts = [], [], [], 0

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.elsewhere += [v for k, v in attrs if k in ("src", "href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def cycles(count, *, name="recreate", seed=1):
    rng = Random(seed)
    made_ = []
    for number in range(1, count + 1):
        t0_ns = number * 30 * SECOND
        recovery_s = 0.2 + rng.random()
        quantiles = {f"p{q:02}": 0.2 + q / 100 for q in (5, 50, 95)}
        predicted = Prediction(lower_s=0.2, mean_s=0.7, upper_s=1.21, quantiles_s=quantiles)
        parts = {"replace_s": 0.2, "discover_s": recovery_s - 0.2}
        empty = dict.fromkeys(("publish_s", "rejoin_s", "serve_s", "settle_s"), 0.0)
        made_.append(
            Cycle(
                cycle=number, cell="c1", fault=name, runtime="made", proxy="haproxy",
                outcome=CycleOutcome.RECOVERED, t0_unix=0.0, t0_ns=t0_ns,
                end_ns=t0_ns + 3 * SECOND, recovery_s=recovery_s, stable_recovery_s=recovery_s,
                outage_gap_s=recovery_s, outage_loss_s=recovery_s, resolution_s=0.01,
                samples=100, failed=40, phases=parts | empty, predicted=predicted, anomaly=False,
            )
        )  # fmt: skip
    return made_


def page(some, *, name="a run", config="", events=(), record=None, slo=None):
    manifest = {"name": name, "run": "x", "cells": ["c1"], "end_unix": 1.0, "slo": slo or {}}
    report = summarise(name, manifest, some, [], {})
    heat = HeatFold(some, [fake.opened()], {"c1": {fake.NEW}}, 100_000_000).heat()
    flights = [html.Flight(cycle, events, record or {}) for cycle in html.worst(some)]
    return html.render(report, some, {"": heat}, flights, {"config.yaml": config} if config else {})


def parsed(text) -> Whole:
    found = Whole()
    found.feed(text)
    assert found.open == []
    return found


def test_it_is_whole_and_refers_to_nothing_else():
    text = page(cycles(40))
    found = parsed(text)
    assert found.elsewhere == []
    assert found.scripts == 0
    assert "url(" not in text
    assert "@import" not in text
    assert "://" not in text
    assert "default-src 'none'" in text
    words = " ".join(found.words)
    for part in ("Recovery over time", "How often it took how long", "Where the seconds went"):
        assert part in words
    assert "n 40" in words


def test_what_users_write_is_text_and_nothing_else():
    evil = '<script>alert("x")</script>|**&'
    event = fake.reading(fake.T0, evil, evil, word=evil)
    record = {"samples": {evil: [[1, 2, "ok", 200, evil]]}, "log": [evil], "left_out": 7}
    found = parsed(
        page(cycles(3, name=evil), name=evil, config=evil, events=[event], record=record)
    )
    assert found.scripts == 0
    words = "".join(found.words)
    assert words.count('<script>alert("x")</script>') >= 8


def test_the_worst_have_their_flight_records():
    rows = [[ms, 0.5, "ok", 200, "app-1"] for ms in range(-100, 0, 10)]
    rows += [[ms, 1.5, "http_error", 503, ""] for ms in range(0, 50, 10)]
    record = {"samples": {"1": rows}, "log": ["be/app changed its IP"], "left_out": 7}
    early = fake.reading(fake.T0, "proxy.api", "address_changed", new="x")
    early = replace(early, error_ns=25_000_000)
    words = " ".join(parsed(page(cycles(3), events=[early], record=record)).words)
    assert (
        "stream 1: sent -100 to -10 ms: ok 200 by app-1, 10 of them here, in 0.5 to 0.5 ms" in words
    )
    assert "stream 1: sent 0 to 40 ms: http_error 503, 5 of them here, in 1.5 to 1.5 ms" in words
    assert "(7 that say little are left out)" in words
    assert "be/app changed its IP" in words
    assert "flight/c1-3.json" in words
    assert "± 25.0" in words  # what the API told may have been before


@pytest.mark.parametrize(
    "line",
    [
        {"verb": "poke"},  # found by tests/attack/damaged.py
        {"verb": ["poke"], "edge": None, "data": 3},
        {"source": {}, "what": [], "data": "x"},
        {},
    ],
)
def test_a_line_that_is_kept_as_it_was_is_shown_whatever_it_holds(line):
    head = {"kind": "tomorrow", "at_ns": fake.T0, "cell": "c1", "cycle": 3}
    assert parsed(page(cycles(3), events=[decode_event(json.dumps(head | line))]))


def test_what_was_cut_off_is_in_the_pictures_as_in_the_quantiles():
    from chaosd.report.html import pictures

    some = cycles(40)
    cut = [
        replace(
            c,
            outcome=CycleOutcome.INVALID,
            recovery_s=None,
            cause=fake.STOPPED,
            cut_off=True,
        )
        for c in some[20:]
    ]
    drawn = pictures.over_time([*some[:20], *cut])
    assert drawn.count("h0") == 20
    assert drawn.count("m0-6l5 9h-10z") == 20
    curve = pictures.distribution([*some[:20], *cut])
    # All of them lasted longer than any recovery: half of the curve is not known.
    top = curve[curve.index('class="line observed"') :].split('"')[3].split()[-1]
    assert float(top) > 100
    assert html.worst([*some[:20], *cut])[0].outcome == CycleOutcome.INVALID


@pytest.mark.slow
def test_ten_thousand_cycles_are_a_small_page():
    some = cycles(10_000)
    some[5000] = made_censored(some[5000])
    text = page(some)
    assert len(text.encode()) < 2_000_000
    parsed(text)
    assert text.count("h0") >= 9_999  # none is left out


def made_censored(cycle: Cycle) -> Cycle:
    return replace(cycle, outcome=CycleOutcome.CENSORED, recovery_s=None, stable_recovery_s=None)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_cycles_are_a_page_too(count):
    parsed(page(cycles(count)))


def test_the_worst_are_those_not_recovered_then_anomalies_then_the_longest():
    some = cycles(30)
    some[3] = made_censored(some[3])
    some[7] = replace(some[7], anomaly=True)
    found = html.worst(some)
    assert [c.cycle for c in found[:2]] == [4, 8]
    rest = [c.recovery_s for c in found[2:]]
    assert (
        rest
        == sorted((c.recovery_s for c in some if c not in (some[3], some[7])), reverse=True)[:8]
    )


def test_the_heat_counts_each_request_once_at_its_place():
    some = cycles(2)
    names = [fake.NEW, "somebody"]
    rows = [
        # scheduled, took_us, outcome, who: before T0, failed at 0.3 s, misrouted, masked, outside
        (some[0].t0_ns - SECOND // 4, 900, Outcome.OK, 0),
        (some[0].t0_ns + 300_000_000, 900, Outcome.REFUSED, 0),
        (some[0].t0_ns + 310_000_000, 900, Outcome.OK, 1),
        (some[1].t0_ns + 900_000_000, 200_000, Outcome.OK, 0),
        (some[1].t0_ns + 29 * SECOND, 900, Outcome.OK, 0),
    ]
    records = np.zeros(len(rows), RECORDS)
    records["stream"] = 1
    for place, (at_ns, took_us, outcome, who) in enumerate(rows):
        records[place]["scheduled_ns"], records[place]["took_us"] = at_ns, took_us
        records[place]["outcome"], records[place]["who"] = outcome, who
    fold = HeatFold(some, [fake.opened()], {"c1": {fake.NEW}}, 100_000_000)
    fold.add(records, names)
    heat = fold.heat()
    assert heat.counts.sum() == 4
    assert heat.counts.sum(axis=(0, 1)).tolist() == [1, 1, 1, 1, 0]
    width = (heat.to_s - heat.from_s) / COLUMNS

    def where(kind):
        ((row, column),) = np.argwhere(heat.counts[:, :, KINDS.index(kind)])
        low = heat.from_s + column * width
        return row, low, low + width

    for kind, row, at_s in [
        ("good", 0, -0.25), ("failed", 0, 0.3), ("misrouted", 0, 0.31), ("masked", 1, 0.9)
    ]:  # fmt: skip
        found, low, high = where(kind)
        assert found == row
        assert low - 1e-6 <= at_s <= high + 1e-6


def test_ticks_are_round_and_inside():
    for low, high in [(0, 1), (0, 2.31), (0, 0.042), (3, 317), (40, 7), (0, 9_999)]:
        ticks = Axis(low, high, 0, 100).ticks()
        assert 3 <= len(ticks) <= 8
        assert all(min(low, high) <= tick <= max(low, high) for tick in ticks)
    frame = Frame.of((0, 10), (0, 1))
    assert frame.y(0) > frame.y(1)


@pytest.fixture
def chromium(tmp_path):
    """Have a real browser open a page."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium on this machine")

    def chromium(text, *options):
        file = tmp_path / "report.html"
        file.write_text(text, encoding="utf-8")
        always = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        return subprocess.run(
            [program, *always, f"--user-data-dir={tmp_path}/profile", *options, file.as_uri()],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )

    return chromium


@pytest.mark.chromium
def test_a_real_browser_shows_it_without_complaints(chromium):
    done = chromium(page(cycles(300)), "--dump-dom")
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count("<svg") >= 4
    assert "How to read this" in done.stdout


@pytest.mark.chromium
def test_on_paper_nothing_is_folded_away_or_cut_off(chromium, tmp_path):
    if shutil.which("pdftotext") is None:
        pytest.skip("no pdftotext on this machine")
    event = fake.reading(fake.T0, "proxy.api", "folded_away", long=f"{'word ' * 40}end-of-event")
    record = {"log": [f"{'word ' * 60}end-of-log"]}
    config = "".join(f"{'word ' * 60}end-of-line-{number}\n" for number in range(60))
    text = page(cycles(3), config=config, events=[event], record=record)
    chromium(text, f"--print-to-pdf={tmp_path}/report.pdf")
    command = ["pdftotext", "-bbox", tmp_path / "report.pdf", "-"]
    words = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    width = float(re.search(r'<page width="([0-9.]+)"', words)[1])
    shown = set()
    for sheet in words.split("<page ")[1:]:
        lines = {}
        for x, y, right, word in re.findall(
            r'xMin="([0-9.]+)" yMin="([0-9.]+)" xMax="([0-9.]+)".*>(.*)</word>', sheet
        ):
            shown.add(word)
            lines.setdefault(y, []).append((float(x), float(right), word))
        for line in map(sorted, lines.values()):
            assert line[-1][1] < width
            assert not [after for before, after in pairwise(line) if after[0] < before[1] - 1]
    assert {"folded_away", "end-of-log", "end-of-line-0", "end-of-line-59"} <= shown


@pytest.mark.chromium
def test_on_a_narrow_screen_the_reason_has_room(chromium):
    slo = {"recovery_p95": {"target": 1.0, "min_cycles": 20}}
    text = page(cycles(3), slo=slo).replace(html.POLICY, "")
    script = "document.title = document.querySelector('.objectives td:last-child').offsetWidth"
    text = text.replace("</body>", f"<script>{script}</script></body>")
    shown = chromium(text, "--window-size=420,900", "--dump-dom").stdout
    assert "too few cycles: 3 of 20" in shown
    assert int(re.search(r"<title>([0-9]+)</title>", shown)[1]) > 300
