"""What is remarkable about a run as a whole: values. Only report/ makes sentences of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class RemarkKind(StrEnum):
    """A closed list: doubts make the verdict unknown, notes do not."""

    # doubts
    RUN_FAILED = "run-failed"  # `detail` says why
    RUN_BUG = "run-bug"  # it ended with a bug of chaosd
    NO_CYCLE = "no-cycle"  # no valid cycle
    POOR = "poor"  # `count` of `total` cycles
    INVALID_CYCLES = "invalid-cycles"  # `count` of `total`
    SILENT_CONTROLS = "silent-controls"  # `count` of `total` without a good answer
    SILENT_RESTARTS = "silent-restarts"  # `count` of `total` without a recovery
    LOST_SAMPLES = "lost-samples"  # `count` are stored, cycles are made of `total`
    CONTRADICTING = "contradicting"  # `count` cycles whose numbers can't be true together
    LOST_EVENTS = "lost-events"  # the end of cycle `count` is not among them
    # notes
    NOT_ENDED = "not-ended"
    MISROUTED = "misrouted"  # `count` requests
    ANOMALIES = "anomalies"  # `count` cycles
    SURPRISING = "surprising"  # `count` cycles that lost more or fewer requests than predicted
    INVALID = "invalid"  # `count` cycles
    POOR_CYCLES = "poor-cycles"  # `count` cycles
    CUT_OFF = "cut-off"  # `count` cycles, the longest after `seconds`, without a recovery
    STOPPED = "stopped"  # `count` other cycles
    EARLY = "early"  # `count` recovered by a retried request, up to `seconds` before fresh ones
    UNAFFECTED = "unaffected"  # `count` of `total` cycles without an outage
    SKIPPED = "skipped"  # `count` cycles
    EASED = "eased"  # `count` cycles, because the machine was late
    DISAGREEING = "disagreeing"  # `count` of `total`, by up to `seconds`
    ALIKE = "alike"  # serial correlation `value`
    ALARMED_CONTROLS = "alarmed-controls"  # `count` of `total`, with `parts` of `samples`
    MISROUTED_RESTARTS = "misrouted-restarts"  # `count` requests in `total` cycles
    FEWER_CELLS = "fewer-cells"  # `count` of `total` were started: for more it lacked `detail`
    IN_TURNS = "in-turns"  # not all arms ran side by side: for that it lacked `detail`
    LOG_REFUSED = "log-refused"  # `count` lines, the latest from `detail`
    STRANGERS = "strangers"  # asked `count` questions of chaosd's DNS, the latest from `detail`
    WITHIN_FLOOR = "within-floor"  # the median is no longer than `seconds`


# What is true of a run as a whole, and of each of its arms for the same reason.
OF_THE_RUN = frozenset(
    {
        *(RemarkKind.RUN_FAILED, RemarkKind.RUN_BUG, RemarkKind.NOT_ENDED),
        *(RemarkKind.FEWER_CELLS, RemarkKind.IN_TURNS),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """One thing that is remarkable, with where it is and its numbers."""

    kind: RemarkKind
    arm: str | None = None  # where there are several, and it is not of the run as a whole
    cell: str | None = None
    fault: str | None = None
    count: int | None = None
    total: int | None = None
    seconds: float | None = None
    value: float | None = None
    samples: int | None = None
    parts: tuple[tuple[str, int], ...] = ()
    detail: str = ""
