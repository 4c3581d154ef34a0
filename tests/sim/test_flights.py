"""Flight records: only of cycles that are worth it, complete, and limited in number."""

from __future__ import annotations

import json

import pytest

import chaosd.engine.cell
import chaosd.history.flight_record
from chaosd.history.flight_record import Suspicion
from chaosd.report import words


def test_a_misrouted_cycle_has_one_with_all_that_is_known(simulate) -> None:
    imposter = {"type": "recreate", "every": "10s", "old_ip": "imposter"}
    ran = simulate("--cycles", "2", faults=[imposter])
    folder = ran.directory / "flight"
    for cycle in ran.cycles:
        flight = json.loads((folder / f"c1-{cycle.cycle}.json").read_text())
        assert flight["kind"] == Suspicion.MISROUTED
        assert flight["why"] == words.suspicion(Suspicion.MISROUTED)
        assert flight["cycle"]["recovery_s"] == cycle.recovery_s
        whats = [event.get("what") for event in flight["events"]]
        assert {"begin", "address_changed", "published", "end"} <= set(whats)
        times = [event["ms"] for event in flight["events"]]
        assert times == sorted(times)
        samples = [row for rows in flight["samples"].values() for row in rows]
        strangers = [row for row in samples if row[2] == "ok" and "imposter" in row[4]]
        assert len(strangers) >= cycle.misrouted > 0


def test_one_that_lost_other_requests_than_predicted_is_not_only_misrouted(
    simulate, monkeypatch
) -> None:
    """Of the latter 50 are kept: where an imposter is wanted each cycle is one."""
    monkeypatch.setattr(chaosd.engine.cell, "surprises", lambda _: ["misrouted"])
    monkeypatch.setattr(chaosd.history.flight_record, "MISROUTED_MAX", 0)
    imposter = {"type": "recreate", "every": "10s", "old_ip": "imposter"}
    ran = simulate("--cycles", "1", faults=[imposter])
    assert ran.cycles[0].misrouted > 0
    flight = json.loads((ran.directory / "flight/c1-1.json").read_text())
    assert flight["kind"] == Suspicion.REQUESTS


def test_a_good_cycle_has_none(simulate) -> None:
    ran = simulate("--cycles", "2")
    assert [cycle.anomaly for cycle in ran.cycles] == [False] * 2
    assert not (ran.directory / "flight").exists()


def test_their_number_is_limited(simulate, monkeypatch) -> None:
    monkeypatch.setattr(chaosd.history.flight_record, "MISROUTED_MAX", 1)
    imposter = {"type": "recreate", "every": "10s", "old_ip": "imposter"}
    ran = simulate("--cycles", "2", faults=[imposter])
    assert len(list((ran.directory / "flight").iterdir())) == 1


def test_a_long_one_has_every_change_and_says_what_is_left_out(simulate, monkeypatch) -> None:
    monkeypatch.setattr(chaosd.history.flight_record, "SAMPLES_MAX", 400)
    monkeypatch.setattr(chaosd.history.flight_record, "RUN_ENDS", 20)
    imposter = {"type": "recreate", "every": "20s", "old_ip": "imposter", "gap": "6s"}
    probes = [{"type": "http", "rate": "100/s"}]
    ran = simulate("--cycles", "1", faults=[imposter], probes=probes, measure={"slow_after": "1s"})
    [cycle] = ran.cycles
    flight = json.loads((ran.directory / "flight/c1-1.json").read_text())
    rows = flight["samples"]["1"]
    assert sum(map(len, flight["samples"].values())) <= chaosd.history.flight_record.SAMPLES_MAX
    assert flight["left_out"] > 100
    new = next(row for row in rows if row[0] > 0 and row[2] == "ok" and "imposter" not in row[4])
    assert new[0] + new[1] == pytest.approx(cycle.recovery_s * 1000, abs=0.01)
    before = next(row for row in reversed(rows) if row[0] < new[0])
    assert "imposter" in before[4]
    assert new[0] - before[0] < 15
    assert rows[-1][0] > cycle.recovery_s * 1000 + 900  # to the end of the observation
