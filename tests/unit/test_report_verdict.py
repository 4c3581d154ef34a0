"""The verdict of a run, and the doubts and notes beside it."""

from __future__ import annotations

import re
from dataclasses import replace

import fake
import pytest
from fake import MS, SECOND
from reported import CUT_OFF, INVALID, LONGER, MANIFEST, Made, summarised, verdict

from chaosd import report
from chaosd.analysis.remarks import Remark, RemarkKind
from chaosd.analysis.statistics import Estimate, Share
from chaosd.analysis.summary import summarise
from chaosd.history.cycles import CycleOutcome
from chaosd.report import words, write
from chaosd.report.text import estimate, longest

POOR = fake.cycle(doubt=fake.LATE)
STOPPED = replace(INVALID, cause=fake.STOPPED)
CENSORED = fake.cycle(
    outcome=CycleOutcome.CENSORED, recovery_s=None, stable_recovery_s=None, outage_gap_s=None
)

RESTART = fake.restart(phases={"replace_s": 1.0})


@pytest.mark.parametrize(
    ("cycles", "manifest", "reasons"),
    [
        ([fake.cycle()], {}, []),
        ([CENSORED], {}, []),
        ([], {}, ["cell c1: no valid cycle"]),
        ([INVALID], {}, ["cell c1: no valid cycle"]),
        ([fake.cycle()], {"cells": ["c1", "c2"]}, ["cell c2: no valid cycle"]),
        ([], {"cells": []}, ["no valid cycle"]),
        ([POOR], {}, ["1 of 1 cycle poor (at most 5 % may be)"]),
        ([fake.cycle()] * 2 + [POOR, INVALID], {}, []),  # one of each is allowed to any run
        ([fake.cycle()] * 38 + [POOR] * 2, {}, []),
        (
            [fake.cycle()] * 37 + [POOR] * 2,
            {},
            ["2 of 39 cycles poor (at most 5 % may be)"],
        ),
        ([fake.cycle()] * 38 + [INVALID] * 2, {}, []),
        (
            [fake.cycle()] * 37 + [INVALID] * 2,
            {},
            ["2 of 39 cycles invalid (at most 5 % may be)"],
        ),
        ([fake.cycle()] * 2 + [STOPPED, CUT_OFF], {}, []),
        ([CUT_OFF], {}, ["cell c1: no valid cycle"]),
        (
            [fake.cycle()] * 80
            + [replace(cycle, cell="c2") for cycle in (POOR, POOR, INVALID, INVALID, CENSORED)],
            {"cells": ["c1", "c2"]},
            [
                "cell c2: 2 of 3 cycles poor (at most 5 % may be)",
                "cell c2: 2 of 5 cycles invalid (at most 5 % may be)",
            ],
        ),
        (
            [fake.cycle()],
            {"exit": 70, "reason": "a bug of chaosd"},
            ["the run ended with an error: a bug of chaosd"],
        ),
        (
            [fake.cycle(outcome=CycleOutcome.CONTROL, recovery_s=None)],
            {},
            ["1 of 1 cycle of control without a good answer"],
        ),
        ([fake.cycle(outcome=CycleOutcome.CONTROL, recovery_s=0.001)], {}, []),
        # What a fault comes to must not drown among control cycles.
        (
            [INVALID, *[fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")] * 400],
            {},
            ["cell c1: fault recreate: no valid cycle"],
        ),
        (
            [INVALID] * 20 + [fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")] * 400,
            {},
            [
                "cell c1: fault recreate: no valid cycle",
            ],
        ),
        (
            [fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")] * 400
            + [INVALID, INVALID, fake.cycle()],
            {},
            ["cell c1: fault recreate: 2 of 3 cycles invalid (at most 5 % may be)"],
        ),
        ([STOPPED, fake.cycle(outcome=CycleOutcome.CONTROL, fault="noop")], {}, []),
        (
            [fake.cycle(), *[RESTART] * 3, replace(RESTART, recovery_s=None)],
            {},
            ["1 of 4 cycles at the same address without a recovery"],
        ),
        (
            [fake.cycle(fault="command", recovery_s=0.0)] * 8,
            {},
            [],
        ),
        ([fake.cycle(fault="command", recovery_s=0.0), fake.cycle(fault="command")], {}, []),
    ],
)
def test_unknown_outranks_ok_and_says_why(cycles, manifest, reasons) -> None:
    assert verdict(*cycles, **manifest) == ("unknown" if reasons else "ok", tuple(reasons))


@pytest.mark.parametrize(
    ("cycles", "notes"),
    [
        ([INVALID, INVALID], ["2 cycles invalid: not counted in any number"]),
        ([STOPPED], ["1 cycle cut off: not counted in any number"]),
        (
            [CUT_OFF],
            [f"1 cycle cut off after 50.1 s {LONGER}"],
        ),
        (
            [CUT_OFF, replace(CUT_OFF, end_ns=fake.T0 + SECOND), STOPPED, INVALID],
            [
                "1 cycle invalid: not counted in any number",
                f"2 cycles cut off, the longest after 50.1 s {LONGER}",
                "1 cycle cut off: not counted in any number",
            ],
        ),
    ],
)
def test_what_is_not_among_the_numbers_is_noted(cycles, notes) -> None:
    found = summarise("made", MANIFEST | {"end_unix": 1.0}, [fake.cycle(), *cycles], [], {})
    assert list(map(words.remark, found.notes)) == notes


def test_log_lines_of_others_are_noted(tmp_path) -> None:
    run = Made(tmp_path)
    for count in (1, 727):
        said = {"count": count, "sender": "127.0.0.1:4242"}
        run.say(fake.reading(run.at_ns, "proxy.log", "refused", cycle=0, **said))
    run.store.close()
    line = "727 log lines came from another sender than the proxy (127.0.0.1:4242) and were not "
    notes = list(map(words.remark, write(tmp_path).notes))
    assert f"cell c1: {line}believed" in notes
    assert "727 log lines" in (tmp_path / "report.md").read_text()


def test_seconds_of_requests_that_a_failover_lost() -> None:
    def lost(*cycles) -> Estimate:
        return summarise("made", MANIFEST, cycles, [], {}).total.failed_s

    some = [fake.cycle(failed=n, samples=200, interval_s=0.02) for n in (50, 70, 60)]
    found = lost(*some)
    assert found.value == pytest.approx(1.2)
    assert found.low < 1.2 < found.high
    unaffected = replace(some[0], outcome=CycleOutcome.UNAFFECTED, failed=0)
    assert lost(*some, unaffected).value == pytest.approx(0.9)
    # What was asked twice as often lost twice as many requests of half the time each.
    dense = [replace(c, failed=2 * c.failed, samples=400, interval_s=0.01) for c in some]
    assert lost(*dense).value == pytest.approx(1.2)
    nothing = lost(*[replace(c, failed=0) for c in some])
    assert (nothing.value, nothing.low) == (0.0, 0.0)
    assert estimate(nothing) == f"0 s [0.00–{nothing.high:.2f}]"
    # A cycle of before does not say it: then it is the run's, 10 ms here.
    assert lost(*[replace(c, interval_s=None) for c in some]).value == pytest.approx(0.6)


def test_censored_cycles_stay_in_the_quantiles() -> None:
    censored = replace(CENSORED, end_ns=fake.T0 + 30 * SECOND, outage_loss_s=29.0)
    found = summarise("made", MANIFEST, [fake.cycle()] * 3 + [censored] * 2, [], {}).total
    assert (found.recovery_s.n, found.recovery_s.censored) == (5, 2)
    assert found.recovery_s.p50.value == 1.043
    assert found.recovery_s.p90.value is found.recovery_s.max is None
    assert (found.recovery_s.p90.beyond, found.recovery_s.max_beyond) == (30.0, 30.0)
    assert estimate(found.recovery_s.p90) == "unknown, > 30.0 s [1.04–?]"
    assert longest(found.recovery_s) == "unknown, > 30.0 s"
    # What a cycle had lost when it was given up is not what it would have lost.
    assert (found.outage_loss_s.n, found.outage_loss_s.p90.beyond) == (5, 29.0)
    never_stable = fake.cycle(stable_recovery_s=None, end_ns=fake.T0 + 30 * SECOND)
    found = summarise("made", MANIFEST, [fake.cycle(), never_stable, censored], [], {}).total
    assert (found.recovery_s.censored, found.stable_recovery_s.censored) == (1, 2)
    # It takes `stable_for` to be called stable, so a later one could not have been seen.
    assert found.stable_recovery_s.p50.beyond == 29.0


def test_what_was_cut_off_by_a_stop_was_longer_than_that() -> None:
    """Else a daemon that is stopped now and then would forget its longest recoveries."""
    cut_off = replace(CUT_OFF, end_ns=fake.T0 + 1_500 * MS)
    cycles = [fake.cycle(recovery_s=second / 10) for second in range(1, 21)]
    found = summarise("made", MANIFEST, [*cycles, *[cut_off] * 5], [], {}).total
    plain = summarise("made", MANIFEST, cycles, [], {}).total
    assert (found.failovers, found.recovery_s.n, found.recovery_s.censored) == (20, 25, 5)
    assert (plain.recovery_s.p50.value, plain.recovery_s.p90.value) == (1.0, 1.8)
    assert (found.recovery_s.p50.value, found.recovery_s.p90.value) == (1.3, 1.9)


def test_an_outage_without_an_end_is_at_least_what_was_lost() -> None:
    """It answered for a moment, and then no more: the longest outages must not be left out."""
    short = [fake.cycle(outage_gap_s=0.5, outage_loss_s=0.5)] * 80
    relapsed = fake.cycle(
        recovery_s=0.6, stable_recovery_s=None, outage_gap_s=None, outage_loss_s=29.9,
        end_ns=fake.T0 + 30 * SECOND,
    )  # fmt: skip
    cut_off = replace(CUT_OFF, outage_loss_s=12.0)
    found = summarised(*short, *[relapsed] * 80, cut_off).total
    assert (found.outage_gap_s.n, found.outage_gap_s.censored) == (161, 81)
    assert found.outage_gap_s.p95.value is None
    assert found.outage_gap_s.p95.beyond == 29.9
    assert (found.outage_loss_s.n, found.outage_loss_s.censored) == (161, 1)


def test_a_share_is_shown_so_that_its_interval_is_seen() -> None:
    def shown(*numbers: float | None) -> str:
        return report.text.share(Estimate(*numbers))

    assert shown(0.84, 0.73, 0.925) == "84% [73%–92.5%]"
    assert shown(0.8399, 0.8391, 0.8407) == "83.99% [83.91%–84.07%]"
    assert shown(0.0, 0.0, 0.036) == "0% [0%–3.6%]"
    assert shown(0.5, None, None) == "50% [?–?]"
    assert report.text.in_band(
        Share(count=9_999, n=10_000, value=0.9999, low=0.9994, high=1.0)
    ) == ("9999 of 10000 recoveries within their band (95 % interval over 99.940%)")


def test_recoveries_that_are_alike_are_noted_with_what_it_means() -> None:
    """As where checks and polls keep their phase: docs/findings.md, 6."""
    locked = [fake.cycle(recovery_s=0.5 + 0.3 * (place // 10 % 2)) for place in range(60)]
    [note] = map(words.remark, summarised(*locked).notes)
    assert note.startswith("recreate: successive recoveries are alike (serial corr")
    assert note.endswith(" times as wide, or the run longer")
    # Two cells that are constant, each in its way, must not end the analysis.
    constant = [
        fake.cycle(cell=f"c{1 + place % 2}", recovery_s=1.0 + place % 2) for place in range(60)
    ]
    assert "serial correlation 1.00" in words.remark(summarised(*constant).notes[0])
    # Of two faults that take turns each is looked at by itself.
    turns = [
        fake.cycle(recovery_s=1.0 + 0.01 * (place % 7), fault=f"f{place % 2}")
        for place in range(60)
    ]
    assert summarised(*turns).notes == ()


def test_flapping_outages_are_noted() -> None:
    flapping = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.7)
    found = summarise("made", MANIFEST | {"end_unix": 1.0}, [flapping, fake.cycle()], [], {})
    assert found.total.disagreeing == 1
    note = words.remark(found.notes[0])
    assert note.startswith("1 cycle of 2 had good answers between bad ones")
    assert note.endswith("(by 0.200 s at most)")
    quality = list(report.text.quality(found))
    assert "outage, first-to-last failure vs lost probes: agree in 1 of 2" in quality
    # To within twice the error bar they agree, and what could not be sent is no difference.
    bar = flapping.resolution_s
    near = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.9 - 1.9 * bar)
    far = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.9 - 2.1 * bar)
    unsent = fake.cycle(outage_gap_s=0.9, outage_loss_s=0.85, dropped=4)
    for cycle, flaps in ((near, 0), (far, 1), (unsent, 0)):
        assert summarised(cycle).total.disagreeing == flaps


def test_a_restart_with_requests_for_somebody_else_is_a_false_alarm() -> None:
    restart = fake.restart(phases={"replace_s": 1.0})
    silent = replace(restart, recovery_s=None, phases={})
    cycles = [fake.cycle(), *[restart] * 3, silent, replace(restart, misrouted=3)]
    found = summarised(*cycles)
    assert list(map(words.remark, found.notes)) == [
        (
            "3 requests were answered by another app (misrouted) in 5 cycles in which nobody else "
            "had its address"
        )
    ]
    again = found.total.restart
    assert (again.cycles, again.recovery_s.n, again.recovery_s.censored) == (5, 5, 1)
    assert again.wait_s.p50.value == pytest.approx(0.043)


def test_what_is_so_in_many_cells_is_said_once() -> None:
    none = [Remark(kind=RemarkKind.NO_CYCLE, cell=f"c{n}") for n in range(1, 61)]
    assert words.remarks(none) == ["60 cells (c1, c2, c3 and 57 more): no valid cycle"]
    assert words.remarks(none[:2]) == ["2 cells (c1, c2): no valid cycle"]
    assert words.remarks(none[:1]) == ["cell c1: no valid cycle"]
    poor = [Remark(kind=RemarkKind.POOR, cell=f"c{n}", count=n, total=99) for n in range(2, 62)]
    assert words.remarks([*none, *poor]) == [
        "60 cells (c1, c2, c3 and 57 more): no valid cycle",
        "cell c2: 2 of 99 cycles poor (at most 5 % may be)",
        "cell c3: 3 of 99 cycles poor (at most 5 % may be)",
        "cell c4: 4 of 99 cycles poor (at most 5 % may be)",
        "57 more cells: the like, with other numbers",
    ]


@pytest.mark.parametrize("kind", RemarkKind)
def test_no_kind_of_remark_fills_the_screen_however_many_cells_have_it(kind) -> None:
    found = [
        Remark(
            kind=kind,
            cell=f"c{n}",
            fault=f"f{n % 3}",
            count=n,
            total=2 * n,
            samples=n,
            detail=f"d{n}",
        )
        for n in range(1, 61)
    ]
    said = words.remarks(found)
    assert len(said) <= words.LIKE_MAX + 1, said
    # Each of the 60 is in one of the lines.
    counted = [int(line.split()[0]) for line in said if re.match(r"\d+ (more )?cells", line)]
    assert sum(counted) + sum(line.startswith("cell ") for line in said) == 60
