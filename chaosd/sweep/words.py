"""The words for what a sweep found: values in, sentences out."""
# ruff: noqa: RUF001 - an en dash is how a range is written

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from chaosd.analysis.statistics import Estimate
from chaosd.sweep.answer import Answer
from chaosd.sweep.effects import Direction, Effect, Interaction
from chaosd.sweep.factors import label, same
from chaosd.sweep.hosts import HostPart
from chaosd.sweep.measures import MEASURES, Measured
from chaosd.sweep.oddities import P50, Oddity, OddityKind
from chaosd.sweep.racing import Stop, StopKind
from chaosd.sweep.recommend import AS_FAST, COSTS, Buy, Gain, Recommendation, Rule
from chaosd.sweep.standing import Basis, Standing
from chaosd.sweep.values import Objective, Results

NAMES = {
    Objective.RECOVERY_P95: "recovery p95",
    Objective.FAILED: "failed",
    Objective.MISROUTED: "misrouted",
    Objective.DNS_QUERIES: "DNS at rest",
    Objective.DNS_TROUBLE: "DNS in trouble",
}
MEANINGS = {
    Objective.RECOVERY_P95: "T0 to the first good answer from the new instance, 95th percentile",
    Objective.FAILED: "failed requests of a cycle, as seconds of all requests; mean",
    Objective.MISROUTED: "answers from another than the app, as seconds of all requests; mean",
    Objective.DNS_QUERIES: "questions per second while nothing happens; mean",
    Objective.DNS_TROUBLE: "questions per second while a cycle lasts; mean",
}
UNNAMED = "a host that was not recorded"
BASES = {
    Basis.FRESH: "fresh blocks",
    Basis.MEASURED: "measured",
    Basis.FORETOLD: "predicted",
}


# --- numbers -------------------------------------------------------------------------------------


def amount(value: float | None, objective: Objective, *, sign: bool = False) -> str:
    """A number with its unit; with `sign` as a difference."""
    if value is None:
        return "?"
    if math.isinf(value):
        return "never"
    return f"{bare(value, sign=sign)}{_unit(objective)}"


def bare(value: float | None, *, sign: bool = False) -> str:
    """A number without its unit: two decimals, one from 10 on and none from 100 on."""
    if value is None:
        return "?"
    size = round(abs(value), 2)
    decimals = 2 if size < 10 else 1 if size < 100 else 0  # noqa: PLR2004 - three places or so
    found = f"{value:{'+' if sign else ''}.{decimals}f}"
    return found.replace("-", "−") if float(found.replace("−", "-")) else found.lstrip("-+")


def _unit(objective: Objective) -> str:
    unit = MEASURES[objective].unit
    return f" {unit}" if unit == "s" else unit


def estimate(found: Estimate, objective: Objective, *, sign: bool = False) -> str:
    """A number and its interval."""
    if found.value is None and found.beyond is not None:
        return f"> {amount(found.beyond, objective)}"
    value = amount(found.value, objective, sign=sign)
    if found.value is None:
        return value
    if found.low is None and found.high is None:
        return f"{value} (?)"
    low, high = bare(found.low, sign=sign), bare(found.high, sign=sign)
    between = " to " if sign else "–"
    return f"{value} ({low}{between}{high})"


def measured(found: Measured | None, objective: Objective) -> str:
    return "" if found is None else estimate(found.estimate, objective)


def membership(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


def count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


# --- arms ----------------------------------------------------------------------------------------


def settings(paths: Sequence[str], values: Sequence[object]) -> str:
    """`timeout_retry=200ms inter=1s`: the last part of each path is enough, as a rule."""
    pairs = zip(paths, values, strict=True)
    return " ".join(f"{path.rpartition('.')[2]}={label(value)}" for path, value in pairs)


def arm_settings(standing: Standing) -> str:
    values = standing.arm.values
    return settings(tuple(values), tuple(values.values()))


def name_of(results: Results, key: str | None) -> str:
    return next((arm.name for arm in results.arms if arm.key == key), str(key))


def stopped(found: Stop, results: Results) -> str:
    """Why an arm is not measured any more."""
    after = f"after {count(found.cycles, 'cycle')}"
    if found.kind is StopKind.PRECISE:
        return f"precise enough {after}: every objective is known to ± {found.share or 0.0:.0%}"
    where = f" under {found.fault}" if found.fault is not None else ""
    objective = found.objective or Objective.RECOVERY_P95
    name = "recovery" if objective is Objective.RECOVERY_P95 else NAMES[objective]
    return (
        f"dominated {after}: {name} certainly worse than {name_of(results, found.by)}'s{where}, "
        "and no objective better"
    )


def status(answer: Answer, standing: Standing) -> str:
    """One word or two for an arm."""
    results, key = answer.results, standing.arm.key
    parts = ["baseline"] if standing.arm.baseline else []
    if answer.recommendation is not None and answer.recommendation.arm.key == key:
        parts.append("recommended")
    if standing.in_front:
        parts.append("front" if answer.basis is Basis.MEASURED else "predicted front")
    if key in results.stopped:
        parts.append("stopped")
    if not standing.is_measured:
        parts.append("not measured" if not standing.cycles else "too few cycles")
    return ", ".join(parts)


# --- the answer ----------------------------------------------------------------------------------


def headline(answer: Answer) -> str:
    """What was done, in a line."""
    results = answer.results
    arms, faults = count(len(results.arms), "arm"), count(len(results.faults), "fault")
    named = f"{faults} ({', '.join(results.faults)})"
    if answer.basis is Basis.FORETOLD:
        seen = f"; {count(len(results.seen), 'cycle')} so far" if results.seen else ""
        return f"{results.name}: {arms}, {named}, predicted by the model, not measured{seen}"
    parts = [
        f"{results.name}: {arms}, {named}",
        f"{len(answer.measured)} measured in {count(answer.blocks, 'block')}",
        f"{count(len(results.seen), 'cycle')}",
    ]
    if answer.fresh_blocks:
        parts.append(f"{count(answer.fresh_blocks, 'fresh block')} at the end")
    if results.poor_blocks:
        parts.append(f"{count(results.poor_blocks, 'poor block')} repeated")
    return ", ".join(parts)


def recommendation(answer: Answer) -> Iterator[str]:
    """Which arm, why, and whether it is promised."""
    found = answer.recommendation
    if found is None:
        yield "No recommendation: nothing can be said yet."
        yield from _why_none(answer)
        return
    chosen = next(s for s in answer.standings if s.arm.key == found.arm.key)
    said = f"take {found.arm.name}: {_change(answer, found)}."
    if found.arm.baseline:
        said = f"keep the baseline ({arm_settings(chosen)})."
    is_foretold = found.basis is Basis.FORETOLD
    yield f"Predicted, not measured: {said}" if is_foretold else said[0].upper() + said[1:]
    if found.gains:
        yield _bought(found)
        yield from _price(found)
    yield _rule(found, answer.results.objectives)
    if found.gains:
        yield _promise(found)


def _change(answer: Answer, found: Recommendation) -> str:
    """What is set, what it is in the baseline, and what stays."""
    baseline, ours = answer.baseline, found.arm.values
    theirs = baseline.arm.values if baseline is not None else {}
    new = [path for path in ours if path not in theirs or not same(ours[path], theirs[path])]
    rest = [path for path in ours if path not in new]
    said = settings(new, [ours[path] for path in new])
    if theirs:
        said += f" instead of {settings(new, [theirs[path] for path in new])}"
    if rest:
        said += f"; {settings(rest, [ours[path] for path in rest])} unchanged"
    return said


def _bought(found: Recommendation) -> str:
    """What is surely better than the baseline's, and what is not."""
    better = [gain for gain in found.gains if _is_better(gain)]
    if not better:
        return "Nothing is surely better than with the baseline: keep that, or make more cycles."
    still = [_gain_name(gain) for gain in found.gains if not _is_better(gain) | _is_worse(gain)]
    said = f"Better than the baseline: {_moves(better)}."
    return f"{said} No sure change: {', '.join(still)}." if still else said


def _moves(gains: Sequence[Gain]) -> str:
    return ", ".join(
        f"{_gain_name(gain)} {amount(gain.before, gain.objective)} → "
        f"{amount(gain.after, gain.objective)}"
        for gain in gains
    )


def _price(found: Recommendation) -> Iterator[str]:
    """What the recommended arm is worse in, and whether that takes the recommendation back."""
    worse = [gain for gain in found.gains if _is_worse(gain)]
    recovery = [gain for gain in worse if gain.objective is Objective.RECOVERY_P95]
    if recovery and recovery[0].basis is Basis.FRESH:
        yield "The fresh blocks do not confirm it: it recovers later than the baseline."
    others = [gain for gain in worse if gain not in recovery]
    if others:
        yield f"The price: {_moves(others)}."


def _why_none(answer: Answer) -> Iterator[str]:
    if answer.standings and not answer.results.seen and not answer.results.foretold:
        yield "Nothing was measured, and the model reaches none of the arms."
    elif answer.basis is Basis.MEASURED:
        yield "Every arm of the front has cycles that did not recover within the limit."
    else:
        yield "No arm has five cycles under each fault, and the model reaches none of them."


def _rule(found: Recommendation, objectives: Sequence[Objective]) -> str:
    if found.rule is Rule.KNEE:
        return "Rule: the knee of the front, the arm whose worst objective is the least bad."
    what = {
        Rule.CHEAPEST_BY_BOUND: "whose upper bound of the recovery p95",
        Rule.CHEAPEST_BY_VALUE: "whose recovery p95 (measured or predicted, the longer one)",
    }[found.rule]
    if found.basis is Basis.FORETOLD:
        what = "whose predicted recovery p95"
    cost = next((each for each in COSTS if each in objectives), None)
    cheapest = "changes the fewest settings" if cost is None else f"has the least {NAMES[cost]}"
    more = count(found.rivals, "other arm")
    are = "is" if found.rivals == 1 else "are"
    rivals = f" {more} of the front {are} as fast." if found.rivals else ""
    return (
        f"Rule: of the arms of the front {what} is within {AS_FAST:.0%} of the best, the one that "
        f"{cheapest}.{rivals}"
    )


def _promise(found: Recommendation) -> str:
    bases = {gain.basis for gain in found.gains}
    if bases == {Basis.FRESH}:
        return (
            f"Promised, from {count(found.fresh_blocks, 'fresh block')} that nobody had looked at "
            "when it was chosen:"
        )
    if bases == {Basis.MEASURED}:
        return (
            "Not promised: these are the blocks by which it was chosen, and such numbers look "
            "better than they are."
        )
    return "Not promised: this is what the model says."


def _is_worse(gain: Gain) -> bool:
    """Surely, and by more than the margin."""
    least = gain.change.low if gain.n else gain.change.value
    return least is not None and least > MEASURES[gain.objective].margin(gain.before or 0.0)


def _is_better(gain: Gain) -> bool:
    """Surely, and by more than the margin."""
    most = gain.change.high if gain.n else gain.change.value
    return most is not None and most < -MEASURES[gain.objective].margin(gain.before or 0.0)


def _gain_name(gain: Gain) -> str:
    return "recovery, mean" if gain.of_mean else NAMES[gain.objective]


def gain_row(gain: Gain) -> tuple[str, str, str, str, str]:
    """Objective, baseline, recommended, difference, n."""
    change = difference(gain)
    return (
        _gain_name(gain),
        amount(gain.before, gain.objective),
        amount(gain.after, gain.objective),
        change,
        f"{gain.n:,}" if gain.n else BASES[gain.basis],
    )


def difference(gain: Gain) -> str:
    """With its interval; what is foretold has none."""
    if not gain.n:
        return amount(gain.change.value, gain.objective, sign=True)
    return estimate(gain.change, gain.objective, sign=True)


GAIN_TITLES = ("objective", "baseline", "recommended", "difference (95 %)", "n")


def buy(found: Buy) -> str:
    """What one setting buys, in a sentence."""
    changes = [f"{_gain_name(gain)} {difference(gain)}" for gain in found.gains if _matters(gain)]
    what = settings(found.paths, found.after)
    instead = settings(found.paths, found.before)
    beside = "the rest as in the baseline" if found.of_baseline else "the rest as recommended"
    basis = BASES[found.gains[0].basis] if found.gains else ""
    said = ", ".join(changes) or "nothing beyond noise and margin"
    return f"{what} instead of {instead} ({beside}; {basis}): {said}"


def _matters(gain: Gain) -> bool:
    """Whether a difference is beyond the margin, and its interval without 0 if it has one."""
    change = gain.change
    if change.value is None or abs(change.value) <= MEASURES[gain.objective].margin(
        min(gain.before or 0.0, gain.after or 0.0)
    ):
        return False
    known = [bound for bound in (change.low, change.high) if bound is not None]
    return not gain.n or (len(known) == 2 and known[0] * known[1] > 0)  # noqa: PLR2004


# --- effects, interactions, oddities -------------------------------------------------------------


def effect(found: Effect) -> str:
    """Which way an objective goes with a setting, and how far."""
    name = NAMES[found.objective]
    if found.direction is Direction.NONE:
        return f"{found.name}: {name} does not change beyond noise and margin"
    first, last = found.levels[0], found.levels[-1]
    if found.direction is Direction.MIXED:
        low = min(found.levels, key=lambda level: level.value)
        high = max(found.levels, key=lambda level: level.value)
        least, most = amount(low.value, found.objective), amount(high.value, found.objective)
        said = f"{name} is {least} at {low.label} and {most} at {high.label}"
        first, last = low, high
    else:
        start, end = amount(first.value, found.objective), amount(last.value, found.objective)
        said = f"{name} {found.direction} from {start} to {end} ({first.label} → {last.label})"
    if first.foretold is None or last.foretold is None:
        return f"{found.name}: {said}"
    ends = (level.foretold for level in (first, last))
    model = " → ".join(amount(end, found.objective) for end in ends)
    return f"{found.name}: {said}; model {model}"


def effects(answer: Answer) -> list[str]:
    """One for each setting and objective that moves, and one for each setting's others."""
    found, still = [], dict[str, list[str]]()
    for each in answer.effects:
        if each.direction is Direction.NONE:
            still.setdefault(each.name, []).append(NAMES[each.objective])
        else:
            found.append(effect(each))
    return found + [
        f"{name}: no change of {', '.join(names)} beyond noise and margin"
        for name, names in still.items()
    ]


def interaction(found: Interaction) -> str:
    """Where a setting matters, and where it does not."""
    name = NAMES[found.objective]
    move = f"{found.before} → {found.after}"
    most = f"{amount(found.most, found.objective, sign=True)} in {name} for {move}"
    at_most = f"{found.other} is {found.most_at}"
    if found.only:
        return f"{found.name} matters only when {at_most}: {most}"
    least = amount(found.least, found.objective, sign=True)
    return f"{found.name} matters more when {at_most}: {most}, {least} when it is {found.least_at}"


def oddity(found: Oddity) -> str:
    """Which version or arm is not as expected."""
    where = f" under {found.fault}" if found.fault is not None else ""
    what = NAMES[found.objective]
    if found.objective is Objective.RECOVERY_P95:
        which = {P50: "p50", None: "mean"}.get(found.quantile, "p95")
        what = f"recovery {which}"
    if found.kind is OddityKind.NEIGHBOUR:
        change = amount(found.found.value, found.objective, sign=True)
        before = amount(found.expected, found.objective)
        return (
            f"{found.version} differs from {found.before}{where}: {what} {change}, from {before}, "
            f"and so in {found.times} of {count(found.n, 'block')} (all else the same)"
        )
    name = "" if found.arm is None else found.arm.name
    version = f" (version {found.version})" if found.version else ""
    return (
        f"{name}{version} differs from the model{where}: {what} "
        f"{estimate(found.found, found.objective)}, predicted "
        f"{amount(found.expected, found.objective)} ({count(found.n, 'cycle')})"
    )


def host(found: HostPart, of: int) -> str:
    """What was made on one of so many hosts, and whether it took longer there."""
    blocks, cycles = count(found.blocks, "block"), count(found.cycles, "cycle")
    parts = [f"{found.name or UNNAMED}: {blocks}, {cycles}"]
    if of > 1:
        change = estimate(found.beyond, Objective.RECOVERY_P95, sign=True)
        verdict = "differs" if found.differs else "no difference beyond noise and margin"
        if found.beyond.low is None:
            verdict = "too few blocks to say"
        parts.append(f"mean recovery {change} against the same arms elsewhere: {verdict}")
    if found.facts is not None:
        parts.append(f"{found.facts.cores:g} cores")
        if found.facts.meter_worst_s is not None:
            worst_ms, n = 1e3 * found.facts.meter_worst_s, found.facts.meter_n
            parts.append(f"meter within {worst_ms:.1f} ms ({count(n, 'outage')})")
    return ", ".join(parts)


def hosts(answer: Answer) -> list[str]:
    """A line for each; none where one machine did it all by itself."""
    if len(answer.hosts) == 1 and answer.hosts[0].facts is None:
        return []
    return [host(each, len(answer.hosts)) for each in answer.hosts]


HOW_TO_READ = """\
Intervals of arms have 95 % and hold at every look: the sweep may be stopped at any time. \
Those of main effects, of interactions and of hosts hold at one look.
Differences of fresh blocks are looked at once; if an earlier answer has shown some of them, their \
intervals hold at every look, too.
A `?` is a bound that takes more cycles; the upper one of a p95 takes 90 or more under each fault.
An interval is wide where there are few cycles, also where nothing was seen: \
12 cycles without a failed request don't prove that there is never one.
Of several faults the worst counts.
Numbers that differ by less than 5 % (or 0.02 s, or 0.05 questions/s) are as good as each other.
An arm is on the front if no other arm is as good in every objective and better in one. \
The percentage is the part of block-bootstrap resamples in which it is.
A block is made on one host: arms are compared within it, and arms are stopped by that alone where \
there are several hosts.
Only numbers of fresh blocks are promised. All others were looked at when the arm was chosen, \
and look better than they are.
""".splitlines()
