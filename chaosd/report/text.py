"""A run in sentences: one per cycle while it goes on, a few lines at its end."""
# ruff: noqa: RUF001 - an en dash is how a range is written

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from chaosd.analysis.expected_requests import LOST, Expected, ExpectedTotals, expected
from chaosd.analysis.residuals import Residuals
from chaosd.analysis.slo import FAIL, OK, Objective
from chaosd.analysis.statistics import Estimate, Quantiles, Share
from chaosd.analysis.summary import Report, Totals
from chaosd.analysis.tally import APART
from chaosd.history.cycles import PHASES_OF_NODES, Cycle, CycleOutcome, is_only
from chaosd.report import words
from chaosd.units import Duration, Percent

TOLD_SHARE_MIN = 0.1  # a phase of less than this part of a recovery is not worth a word
LISTED_SHARE_MIN = 0.005  # what rounds to no percent is left out
SECONDS_FROM_S = 0.1  # what is shorter is told in milliseconds
PERCENT_DECIMALS_MAX = 5
P_SHOWN_MIN = 0.01
# From how many seconds on, in which unit, and how many decimals fewer than asked for.
SCALES = (
    (100.0, 1.0, "s", 2),
    (10.0, 1.0, "s", 1),
    (SECONDS_FROM_S, 1.0, "s", 0),
    (0.01, 1e3, "ms", 2),
    (0.001, 1e3, "ms", 1),
    (1e-9, 1e6, "µs", 2),
)


def seconds(value_s: float | None, digits: int = 2) -> str:
    """A duration in the unit that suits it, to three places or so: 12.3 s, 1.04 s, 43 ms."""
    if value_s is None:
        return "unknown"
    if value_s == math.inf:
        return "beyond the limit"
    for least_s, scale, unit, fewer in SCALES:
        if value_s >= least_s:
            return f"{value_s * scale:.{max(0, digits - fewer)}f} {unit}"
    return "0 s"


def percent(part: float | None) -> str:
    """A part of one, to two places of what it lacks to nothing or to all: 0.12%, 39%, 99.953%."""
    if part is None:
        return "unknown"
    rest = min(part, 1 - part) * 100
    decimals = max(0, 1 - math.floor(math.log10(rest))) if rest > 0 else 0
    return f"{part:.{min(decimals, PERCENT_DECIMALS_MAX)}%}"


def band(lower_s: float, upper_s: float) -> str:
    """Two durations in one unit."""
    if upper_s >= SECONDS_FROM_S:
        return f"{lower_s:.2f}–{upper_s:.2f} s"
    return f"{lower_s * 1e3:.1f}–{upper_s * 1e3:.1f} ms"


def sentence(cycle: Cycle, *, wide: bool = False) -> str:
    """What a cycle came to. `wide` names the cell too, for runs that have several."""
    arm = "" if is_only(cycle.arm) else f"{cycle.arm} "
    start = f"{arm}{cycle.cell} cycle {cycle.cycle}" if wide else f"{arm}cycle {cycle.cycle}"
    match cycle.outcome:
        case CycleOutcome.SKIPPED | CycleOutcome.INVALID:
            return f"{start}: {cycle.fault} {cycle.outcome}, {words.reason(cycle)}"
        case CycleOutcome.CONTROL:
            took, parts = cycle.recovery_s, _phases(cycle)
            what = f"app restarted at {cycle.new_ip}" if cycle.new_ip else "nothing was taken away"
            answer = "never answered" if took is None else f"answered after {seconds(took, 3)}"
            answer += f" ({parts})" if took is not None and parts else ""
            return f"{start}: control, {what}: {answer}; {_requests(cycle)}"
        case CycleOutcome.UNAFFECTED:
            what = f"{cycle.fault}{_company(cycle)}, users unaffected{_predicted(cycle)}"
            return f"{start}: {what}; {_requests(cycle)}"
        case CycleOutcome.CENSORED:
            ending = f"not recovered within {cycle.lasted_s:g} s"
        case CycleOutcome.RECOVERED if cycle.recovery_s == 0:
            ending = "no outage was seen"
        case CycleOutcome.RECOVERED:
            ending = f"recovered in {seconds(cycle.recovery_s, 3)}{_fresh(cycle)}{_stable(cycle)}"
    parts = _phases(cycle)
    where = f": {parts}" if parts else ""
    what = f"{_moved(cycle)}{_company(cycle)}"
    return f"{start}: {what}, {ending}{_predicted(cycle)}{where}; {_requests(cycle)}"


def _moved(cycle: Cycle) -> str:
    if cycle.old_ip and cycle.new_ip:
        return f"app moved {cycle.old_ip} → {cycle.new_ip}"
    if cycle.new_ip:
        return f"app came up at {cycle.new_ip}"
    return f"app taken from {cycle.old_ip}" if cycle.old_ip else cycle.fault


def _company(cycle: Cycle) -> str:
    """The faults that came with the cycle's own, and when."""
    told = []
    for each in cycle.disturbances:
        if each.fault != cycle.fault:
            until = "" if each.ended_s is None else f" to {each.ended_s:.2f} s"
            told.append(f"{each.fault} from {each.began_s:.2f} s{until}")
    return f" with {', '.join(told)}" if told else ""


def _fresh(cycle: Cycle) -> str:
    """Whether it was a retried request that got through first, long before fresh ones did."""
    if not cycle.early_s:
        return ""
    return f" by a retried request, fresh ones from {seconds(cycle.fresh_recovery_s, 3)} on"


def _stable(cycle: Cycle) -> str:
    if cycle.stable_recovery_s is None:
        return ", not known to be stable"
    if cycle.stable_recovery_s == cycle.recovery_s:
        return ""
    return f", stable after {seconds(cycle.stable_recovery_s, 3)}"


def _predicted(cycle: Cycle) -> str:
    if cycle.predicted is None:
        return ""
    said = " " + band(cycle.predicted.lower_s, cycle.predicted.upper_s)
    if cycle.predicted.unaffected_share is not None:
        said = f": {words.foretold(cycle.predicted)}"
    if cycle.residual_s is not None:
        said += f", {cycle.residual_s:+.2f} s vs predicted mean"
    if cycle.anomaly:
        said += ", outside of it"
    return f" (predicted{said})"


def _phases(cycle: Cycle) -> str:
    """The phases that took most of the time, in their order. Unknown ones are left out."""
    known = {
        phase: cycle.phases.get(f"{phase}_s") or 0.0
        for phase in PHASES_OF_NODES
        if phase != "settle"
    }
    whole_s = sum(known.values()) if cycle.recovery_s is None else cycle.recovery_s
    told = [
        f"{phase} {seconds(part_s)}"
        for phase, part_s in known.items()
        if part_s > 0 and part_s >= min(TOLD_SHARE_MIN * whole_s, max(known.values()))
    ]
    return ", ".join(told)


def _requests(cycle: Cycle) -> str:
    known = expected(cycle)
    text = (
        f"{cycle.failed} of {cycle.samples} requests failed{_foretold(known.get('failed'))}, "
        f"{cycle.masked} masked{_foretold(known.get('masked'))}, "
        f"{cycle.misrouted} misrouted{_foretold(known.get('misrouted'))}"
    )
    if cycle.reused:
        text += f" ({cycle.reused} of them over connections kept to the old instance)"
    if cycle.dropped:
        text += f", {cycle.dropped} not sent"
    if cycle.doubt is not None:
        text += f"; poor: {words.doubt(cycle.doubt, cycle.proxy)}"
    return text


def _foretold(one: Expected | None) -> str:
    """What was predicted of a kind of request; nothing where none came and none should have."""
    if one is None or (not one.observed and one.upper < 1):
        return ""
    outside = "" if one.is_inside else ", outside of it"
    return f" (predicted {count_band(one.lower, one.upper)}{outside})"


def count_band(lower: float, upper: float) -> str:
    """Two counts of requests."""
    least, most = math.floor(lower), math.ceil(upper)
    return f"{least:,}" if least == most else f"{least:,}–{most:,}"


# --- the end of a run ---------------------------------------------------------------------------


def closing_lines(
    report: Report, directory: Path | None, side_by_side: Iterable[str] = ()
) -> list[str]:
    """How many failovers, how long, where the seconds went, how good the numbers are.

    And where there is more, if there is a directory in which it is. `side_by_side` has the lines
    of several arms, which are not pooled.
    """
    whole = report.total
    lines = [headline(report), *side_by_side]
    if whole.failovers and not report.arms:
        lines.append(f"recovery: {quantile_words(whole)}")
        lines.append(f"where the seconds went: {where(whole)}")
        if whole.in_band.n:
            lines.append(f"predicted: {in_band(whole.in_band)}{residual(whole.residual)}")
        lines.append(
            f"requests during failovers: {whole.samples:,}; {whole.failed:,} failed, "
            f"{whole.masked:,} masked, {whole.misrouted:,} misrouted"
        )
        lines += [f"predicted requests: {said}" for said in expected_words(whole)]
    if whole.trouble_in_band.n:
        lines.append(f"DNS faults: {as_predicted(whole.trouble_in_band)}")
    if whole.failovers and report.availability.n and not report.arms:
        what = "of all requests of the run"
        if any(probe.idle_interval_s is not None for probe in report.probes):
            what += ", weighted by time (idle_rate)"
        lines.append(f"availability: {share(report.availability)} {what}")
    lines += quality(report)
    lines += [f"slo: {objective(found)}" for found in report.objectives]
    lines += [f"note: {note}" for note in words.notes(report)]
    lines.append(f"verdict: {report.verdict} ({verdict_words(report)})")
    if directory is not None:
        lines.append(f"report: {directory / 'report.html'}")
    return lines


def verdict_words(report: Report) -> str:
    """What makes the verdict so; it is about the measurement alone as long as nothing is asked.

    What is broken comes first: beside it what is only unknown makes no difference.
    """
    kept = len(report.objectives)
    asked = f"all {kept} objectives are kept" if kept > 1 else "its objective is kept"
    good = f"measurement good; {asked if kept else 'no objectives set'}"
    broken = {
        f"{found.name}: {words.objective(found)}"
        for found in report.objectives
        if found.result == FAIL
    }
    reasons = words.reasons(report)
    return "; ".join(sorted(reasons, key=lambda reason: reason not in broken)) or good


def objective(found: Objective) -> str:
    """What was asked, what came of it, and from how many cycles."""
    why = f": {words.objective(found)}" if found.result != OK else ""
    return f"{asked(found)}: {found.result}, {observed(found)} (n {found.n}){why}"


def asked(found: Objective) -> str:
    """An objective's name and target."""
    target = Duration(round(found.target * 1e9)) if found.unit == "s" else Percent(found.target)
    return f"{found.name} {'≥' if found.at_least else '≤'} {target}"


def observed(found: Objective) -> str:
    """An objective's number with its interval."""
    found_out = Estimate(found.value, found.low, found.high, found.beyond)
    return estimate(found_out) if found.unit == "s" else share(found_out)


def share(found: Estimate | Share) -> str:
    """A part of something and its interval."""
    if found.value is None:
        return "unknown"
    least, most = found.low, found.high
    if least is not None and most is not None and 0 < (most - least) * 100 < 1:
        # So many places that the interval's ends differ.
        places = min(PERCENT_DECIMALS_MAX, 1 - math.floor(math.log10((most - least) * 100)))
        return f"{found.value:.{places}%} [{least:.{places}%}–{most:.{places}%}]"
    low, high = ("?" if bound is None else percent(bound) for bound in (least, most))
    return f"{percent(found.value)} [{low}–{high}]"


OF_KIND = {"dns": "of DNS", "in-place": "in place"}  # cycles in which nothing moves


def headline(report: Report) -> str:
    """The counts of everything that was tried."""
    whole = report.total
    others = [
        f"{whole.outcomes[outcome]} {outcome}"
        for outcome in ("unaffected", "control", "poor", "invalid", "skipped")
        if whole.outcomes[outcome]
    ]
    apart = [(OF_KIND[kind], count) for kind in APART if (count := whole.outcomes.get(kind))]
    others = [f"{count} {said}" for said, count in apart] + others
    count = whole.failovers
    text = f"{count} failover{'' if count == 1 else 's'}"
    if whole.outcomes["censored"]:
        text += f", {whole.outcomes['censored']} of them without a recovery"
    if report.arms:
        text += f" of {len(report.arms)} arms"
    if len(report.cells) > 1:
        text += f" in {len(report.cells)} cells"
    return text + (f" (and {', '.join(others)})" if others else "")


def quantile_words(part: Totals) -> str:
    """p50, p95 and the longest recovery, with their intervals and error bar."""
    found = part.recovery_s
    bar = f"; {probing(part)}" if part.resolution_s is not None else ""
    censored = f", {found.censored} of them censored" if found.censored else ""
    return (
        f"p50 {estimate(found.p50)}, p95 {estimate(found.p95)}, longest {longest(found)} "
        f"(n {found.n}{censored}, 95 % intervals{bar})"
    )


def probing(part: Totals) -> str:
    """What the probes' own interval and lateness may have added to any quantile."""
    return f"resolution {seconds(part.resolution_s)}"


def longest(found: Quantiles) -> str:
    return seconds(found.max) if found.max_beyond is None else beyond(found.max_beyond)


def beyond(least_s: float | None) -> str:
    """What is longer than anybody waited."""
    return "unknown" if least_s is None else f"unknown, > {seconds(least_s)}"


def estimate(value: Estimate) -> str:
    """A quantile and its interval; `?` stands for a bound that so few values don't give."""
    if value.value is None:
        least = "" if value.low is None else f" [{bare(value.low, value.low)}–?]"
        return f"{beyond(value.beyond)}{least}"
    low, high = (bare(bound, value.value) for bound in (value.low, value.high))
    return f"{seconds(value.value)} [{low}–{high}]"


def short(value: Estimate) -> str:
    """The number alone."""
    return seconds(value.value) if value.value is not None else f"> {seconds(value.beyond)}"


def interval(value: Estimate) -> str:
    """Its 95 % interval alone."""
    if value.value is None:
        return "95 % interval unknown"
    low, high = (bare(bound, value.value) for bound in (value.low, value.high))
    return f"95 % interval {low}–{high}"


def bare(bound_s: float | None, like_s: float) -> str:
    """A bound in the unit of the value that it belongs to, without the unit."""
    if bound_s is None:
        return "?"
    if like_s >= SECONDS_FROM_S or like_s == 0:  # `0 s` has its bounds in seconds
        return f"{bound_s:.2f}"
    return f"{bound_s * 1e3:.1f}"


def where(part: Totals) -> str:
    """The phases by their share of all seconds, the largest first."""
    shares = [(phase.share or 0.0, name) for name, phase in part.phases.items()]
    shares.append((part.phases_unknown_share or 0.0, "unknown"))
    told = [(share, name) for share, name in shares if share >= LISTED_SHARE_MIN]
    return (
        ", ".join(f"{name} {share:.0%}" for share, name in sorted(told, reverse=True)) or "unknown"
    )


def in_band(found: Share) -> str:
    if found.low is None or found.high is None:
        return "nothing to compare"
    low, high = f"{found.low:.0%}", f"{found.high:.0%}"
    bounds = f"over {percent(found.low)}" if low == high == "100%" else f"{low}–{high}"
    return f"{found.count} of {found.n} recoveries within their band (95 % interval {bounds})"


def as_predicted(found: Share) -> str:
    """Of the cycles in which nothing moves: how often users saw what was predicted."""
    return f"{found.count} of {found.n} cycles were as predicted"


def residual(found: Residuals) -> str:
    """What is observed less what is predicted, and whether the distribution holds."""
    if found.mean_s is None or found.low_s is None or found.high_s is None:
        return ""
    mean, low, high = (f"{value * 1e3:+.0f}" for value in (found.mean_s, found.low_s, found.high_s))
    said = f"; {mean} ms [{low} to {high}] mean residual"
    if found.uniform_p is not None:
        fits = found.uniform_p >= P_SHOWN_MIN
        p = f"fits the predicted distribution (p {found.uniform_p:.2f})"
        said += f"; it {p if fits else f'does not fit its distribution (p < {P_SHOWN_MIN})'}"
    return said


def expected_words(whole: Totals) -> list[str]:
    """For each kind of lost requests, what was predicted of it beside what was observed."""
    return [
        f"{kind}, mean of a cycle: predicted {_count(found.predicted_mean)}, observed "
        f"{_count(found.observed_mean)}{_difference(found)}; {found.inside.count} of "
        f"{found.inside.n} cycles as predicted"
        for kind in LOST
        if (found := whole.expected.get(kind)) is not None
        and (found.observed_mean or found.predicted_mean)
    ]


def _count(mean: float | None) -> str:
    return "unknown" if mean is None else f"{mean:,.1f}"


def _difference(found: ExpectedTotals) -> str:
    if found.difference_low is None or found.difference_high is None:
        return ""
    return f" (difference {found.difference_low:+,.1f} to {found.difference_high:+,.1f})"


def quality(report: Report) -> Iterable[str]:
    """How well the probes themselves did."""
    whole = report.total
    measuring = [probe for probe in report.probes if probe.via == "proxy"]
    if measuring:
        worst = max(measuring, key=lambda probe: probe.lag_p99_s or 0.0)
        sent, dropped = (sum(getattr(p, n) for p in measuring) for n in ("sent", "dropped"))
        # Lags of several cells are not pooled: each cell may be late for reasons of its own.
        whose = " in the worst cell" if len({probe.cell for probe in measuring}) > 1 else ""
        poor = f"; {whole.poor} of {whole.valid} cycles poor" if whole.valid else ""
        yield (
            f"probes: {sent:,} sent, {dropped:,} not sent in time; schedule lag p50 "
            f"{seconds(worst.lag_p50_s)}, p99 {seconds(worst.lag_p99_s)}{whose}{poor}"
        )
    if whole.compared:
        agree = whole.compared - whole.disagreeing
        yield f"outage, first-to-last failure vs lost probes: agree in {agree} of {whole.compared}"
    if whole.control.cycles and not report.arms:
        yield f"control: {control(whole)}"
    if whole.restart.cycles and not report.arms:
        yield f"restarts at the same address: {restarts(whole)}"


def control(part: Totals) -> str:
    """The meter's own floor: what cycles come to in which nothing is taken away."""
    alarms, cycles = part.control.alarmed, part.control.cycles
    floor = f"an undisturbed cycle's recovery is {estimate(part.control_s.p50)}"
    return f"{floor}; false alarms in {alarms} of {cycles}"


def restarts(part: Totals) -> str:
    """What a recovery takes that has no address to find."""
    found = part.restart
    wait = ""
    if found.wait_s.p50.value is not None:
        wait = f", {estimate(found.wait_s.p50)} of it after the app listened again"
    censored = f", {found.recovery_s.censored} never answered" if found.recovery_s.censored else ""
    median = estimate(found.recovery_s.p50)
    return f"recovery p50 {median}{wait}; n = {found.cycles:,}{censored}"
