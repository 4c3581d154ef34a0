"""The predicted front in words, which arms are worth measuring, and an arm's lines to paste."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from chaosd import plan
from chaosd.config import shape
from chaosd.plugins.proxy import ForetellsUsers
from chaosd.sweep import axes, predict
from chaosd.sweep.arms import Arm
from chaosd.sweep.design import Loaded
from chaosd.sweep.predict import Predictions
from chaosd.sweep.values import Objective

_HEADS = {
    Objective.RECOVERY_P95: "recovery p95",
    Objective.FAILED: "failed",
    Objective.MISROUTED: "misrouted",
    Objective.DNS_QUERIES: "DNS/s at rest",
    Objective.DNS_TROUBLE: "DNS/s in trouble",
}
_SECONDS = (Objective.RECOVERY_P95, Objective.FAILED, Objective.MISROUTED)
_REASONS_MAX = 3


def lines(
    loaded: Loaded,
    arms: Sequence[Arm],
    predictions: Predictions,
    faults: Sequence[str],
    *,
    most: int,
) -> list[str]:
    """What the model says, a line each."""
    objectives = loaded.design.minimize
    found = predict.front([arm.key for arm in arms], predictions, faults, objectives)
    by_key = {arm.key: arm for arm in arms}
    reached = len(arms) - len(predictions.unforetold)
    said = [f"predicted: {reached:,} of {len(arms):,} arms under {', '.join(faults)}"]
    reasons = list(dict.fromkeys(predictions.unforetold.values()))
    said += [f"  not predicted: {why}" for why in reasons[:_REASONS_MAX]]
    if not found:
        return said
    said.append(f"predicted front: {_arms(len(found))} that no other arm replaces")
    chosen = [by_key[key] for key in found[:most]]
    baseline = next(arm for arm in arms if arm.sweep.baseline)
    if baseline not in chosen and baseline.key not in predictions.unforetold:
        chosen.append(baseline)
    said += _table(loaded, chosen, predictions, faults, objectives)
    if len(found) > most:
        said.append(f"  and {len(found) - most} more")
    return said


def _arms(count: int) -> str:
    return f"{count:,} arm{'' if count == 1 else 's'}"


def _table(
    loaded: Loaded,
    arms: Sequence[Arm],
    predictions: Predictions,
    faults: Sequence[str],
    objectives: Sequence[Objective],
) -> list[str]:
    free = [path for path, axis in loaded.axes.items() if not isinstance(axis, axes.SameAs)]
    rows = [[*(_short(path) for path in free), *(_HEADS[each] for each in objectives), ""]]
    for arm in arms:
        values = [predictions.worst(arm.key, faults, each) for each in objectives]
        shown = [_number(v, each) for v, each in zip(values, objectives, strict=True)]
        mark = "baseline" if arm.sweep.baseline else ""
        rows.append([*(_value(arm.sweep.values.get(path)) for path in free), *shown, mark])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "  "
        + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _short(path: str) -> str:
    return path.rpartition(".")[2].replace("_", " ")


def _value(value: Any) -> str:
    return {True: "yes", False: "no"}.get(value, "") if isinstance(value, bool) else str(value)


def _number(value: float | None, objective: Objective) -> str:
    if value is None:
        return "?"
    if not math.isfinite(value):
        return "never"
    return f"{value:.2f} s" if objective in _SECONDS else f"{value:.2f}"


# --- which are measured ---


def chosen(
    loaded: Loaded,
    arms: Sequence[Arm],
    predictions: Predictions,
    faults: Sequence[str],
    *,
    most: int,
) -> list[Arm]:
    """The baseline, the predicted front and its neighbours, and arms that nobody can foretell.

    Where these are too many: of the front those that are spread over it, then neighbours, then
    the unforetold, of each kind as many as there is room for.
    """
    front = predict.front([arm.key for arm in arms], predictions, faults, loaded.design.minimize)
    by_key = {arm.key: arm for arm in arms}
    on_front = [by_key[key] for key in front]
    unknown = [arm for arm in arms if arm.key in predictions.unforetold]
    baseline = [arm for arm in arms if arm.sweep.baseline]
    room = most - len(baseline)
    reserved = min(len(unknown), room // 4)
    best = _spread([arm for arm in on_front if arm not in baseline], (room - reserved) * 2 // 3)
    beside = [
        arm
        for arm in arms
        if arm.key not in predictions.unforetold
        and arm not in on_front
        and not arm.sweep.baseline
        and any(axes.neighbours(loaded.axes, arm.sweep.values, b.sweep.values) for b in best)
    ]
    beside = _spread(beside, room - reserved - len(best))
    left = room - len(best) - len(beside)
    return [*baseline, *best, *beside, *_spread(unknown, left)]


def _spread(arms: Sequence[Arm], most: int) -> list[Arm]:
    """At most so many of them, evenly."""
    if len(arms) <= most:
        return list(arms)
    return [arms[place * len(arms) // most] for place in range(max(0, most))]


# --- what is pasted ---


def pasted(loaded: Loaded, arm: Arm) -> tuple[str, ...]:
    """The lines of the proxy's own configuration that depend on what varies; none if unknown."""
    config = shape.of_data(loaded.with_values(arm.said), loaded.called)
    proxy = plan.proxy_of(config)
    if not isinstance(proxy, ForetellsUsers):
        return ()
    prefix = "proxy."
    values = {
        path.removeprefix(prefix): value
        for path, value in arm.sweep.values.items()
        if path.startswith(prefix)
    }
    return tuple(proxy.lines(values))
