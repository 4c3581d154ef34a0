"""What was predicted beside what was measured, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaosd.analysis.statistics import Estimate
from chaosd.doctor.formats.costs import happening
from chaosd.doctor.formats.numbers import ARROW, seconds
from chaosd.doctor.proof import LONGER_MAX, Evidence, Experiment, Round
from chaosd.doctor.words import count
from chaosd.proxies.haproxy.model.backend import Happening, Outlook


def plan_line(experiment: Experiment, begun: Round, *, asked: int, have: int) -> str:
    """What is about to be run, and how long it takes."""
    minutes = max(1, round(experiment.every_s * begun.cycles / 60))
    first, second = experiment.sides
    what = f"{happening(experiment.scenario)} of {experiment.backend}"
    if have:
        return f"proving {what}: {have} of {asked} pairs so far, going on for some {minutes} min"
    return (
        f"proving {what}: {first.arm} and {second.arm} side by side, "
        f"{count(asked, 'pair')} of cycles, some {minutes} min (up to {LONGER_MAX} times that on "
        "a small or busy machine)"
    )


def lines(evidence: Sequence[Evidence]) -> Iterator[str]:
    """One sentence for each experiment, and below it three lines with intervals."""
    for first, second in zip(evidence[::2], evidence[1::2], strict=True):
        experiment = first.experiment
        yield f"{experiment.backend}, {happening(experiment.scenario)}: {_summary(first, second)}"
        predicted = [side.side.outlook for side in (first, second)]
        pairs = (
            ("recovery p95", [o.recovery_s.p95 for o in predicted], _p95(first, second)),
            ("recovery, mean", [o.recovery_s.mean for o in predicted], _mean(first, second)),
            ("lost requests", [_lost(o) for o in predicted], _lost_found(first, second)),
        )
        for what, said, found in pairs:
            foretold = ARROW.join(map(seconds, said))
            yield f"  {what}: predicted {foretold}; measured {ARROW.join(map(_measured, found))}"


def _summary(first: Evidence, second: Evidence) -> str:
    """What was measured, in a sentence that can be passed on."""
    experiment = first.experiment
    moves = experiment.scenario.happening is not Happening.DNS_TROUBLE
    pairs = count(first.cycles, "paired failover" if moves else "paired cycle")
    if not first.cycles:
        return f"{pairs}, so nothing is proven"
    sides = (first, second)
    recoveries = ARROW.join(_value(side.recovery_p95_s) for side in sides)
    shares = ARROW.join(
        f"{min(100.0, 100 * (side.lost_s.value or 0.0) / experiment.every_s):.2g} %"
        for side in sides
    )
    return (
        f"recovery p95 {recoveries}, failed requests {shares} of those in "
        f"{experiment.every_s:g} s, {pairs}"
    )


def _value(number: Estimate) -> str:
    if number.value is not None:
        return seconds(number.value)
    return "?" if number.beyond is None else f"more than {seconds(number.beyond)}"


def _p95(*sides: Evidence) -> list[Estimate]:
    return [side.recovery_p95_s for side in sides]


def _mean(*sides: Evidence) -> list[Estimate]:
    return [side.recovery_mean_s for side in sides]


def _lost_found(*sides: Evidence) -> list[Estimate]:
    return [side.lost_s for side in sides]


def _lost(outlook: Outlook) -> float:
    return outlook.failed_s.mean + outlook.misrouted_s.mean


def _measured(number: Estimate) -> str:
    if number.value is None:
        return _value(number)
    low = "?" if number.low is None else seconds(number.low)
    high = "?" if number.high is None else seconds(number.high)
    return f"{seconds(number.value)} [{low} to {high}]"
