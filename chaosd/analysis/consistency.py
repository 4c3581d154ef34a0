"""Whether a cycle's own numbers can be true together. Pure.

Each line of cycles.jsonl has one measurement in several numbers. A line that was edited, or came to
harm, seldom has all of them changed alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from chaosd.analysis.anomaly import ANOMALY_MARGIN_S
from chaosd.analysis.remarks import Remark, RemarkKind
from chaosd.history.cycles import PHASES, PHASES_OF_NODES, Cycle

UNTIL_RECOVERY = PHASES_OF_NODES[: PHASES_OF_NODES.index("settle")]
ROUNDED_S = 0.002  # what rounding and clocks may do to a sum


def contradicts_itself(cycle: Cycle) -> bool:
    """Whether its recovery can't be that of its length, its band, its residual and its phases."""
    recovery_s = cycle.recovery_s
    fresh_s = cycle.fresh_recovery_s if cycle.fresh_recovery_s is not None else recovery_s
    if recovery_s is None or fresh_s is None:
        return False
    bar_s = (cycle.resolution_s or 0.0) + ROUNDED_S
    if not -bar_s <= recovery_s <= fresh_s + bar_s or recovery_s > cycle.lasted_s + bar_s:
        return True
    if (predicted := cycle.predicted) is not None:
        said_s, residual_s = cycle.residual_s, fresh_s - predicted.mean_s
        if said_s is not None and abs(residual_s - said_s) > ROUNDED_S:
            return True
        margin_s = bar_s + ANOMALY_MARGIN_S
        below, above = predicted.lower_s - margin_s, predicted.upper_s + margin_s
        if cycle.anomaly is False and not below <= fresh_s <= above:
            return True
    phases = [
        cycle.phases.get(f"{phase}_s")
        for phase in UNTIL_RECOVERY
        if phase in PHASES or f"{phase}_s" in cycle.phases
    ]
    known = [seconds for seconds in phases if seconds is not None]
    if not known or len(known) < len(phases):
        return False
    off_s = min(abs(sum(known) - recovery_s), abs(sum(known) - fresh_s))
    return off_s > bar_s + (cycle.phases_error_s or 0.0)


def contradictions(cycles: Iterable[Cycle]) -> Iterator[Remark]:
    """A doubt for each cell that has such cycles."""
    counts: dict[str, int] = {}
    for cycle in cycles:
        if contradicts_itself(cycle):
            counts[cycle.cell] = counts.get(cycle.cell, 0) + 1
    for cell, count in counts.items():
        yield Remark(kind=RemarkKind.CONTRADICTING, cell=cell, count=count)
