"""Run directories of format 0, which had no format in run.json and said reasons in words.

Read for ever, written no more: here, and nowhere else, words become values.
"""

from __future__ import annotations

import re
from typing import Any

from chaosd.history import events as ev
from chaosd.history.causes import CauseKind, DoubtKind
from chaosd.history.cycles import CycleKind

SAID: dict[tuple[str, str], type[Any]] = {("docker", "disturbed"): ev.Disturbed}
UNRECOVERED = "without a recovery"
_CAUSES: tuple[tuple[str, CauseKind, str], ...] = (
    (r"chaosd was stopped", CauseKind.STOPPED, ""),
    (r"the run ended with an error", CauseKind.RUN_FAILED, ""),
    (r"the app did not answer steadily before it", CauseKind.NOT_STEADY, ""),
    (r"it never began", CauseKind.NEVER_BEGAN, ""),
    (r"(?P<detail>.*) is not a fresh IP", CauseKind.NOT_FRESH, "detail"),
    (r"it could not be undone: (?P<detail>.*)", CauseKind.NOT_UNDONE, "detail"),
    (r"the fault took more than (?P<seconds>[\d.]+) s", CauseKind.TOO_LONG, "seconds"),
    (r"the fault never said when it began", CauseKind.NO_BEGINNING, ""),
    (r"the prober delivers nothing any more", CauseKind.NO_SAMPLES, ""),
    (r"the Docker engine went away", CauseKind.ENGINE_AWAY, ""),
    (r"the Docker engine was restarted", CauseKind.ENGINE_RESTARTED, ""),
    (r"cycle (?P<cycle>\d+) had not settled", CauseKind.NOT_SETTLED, "cycle"),
    (r"its time had passed by (?P<seconds>[\d.]+) s", CauseKind.TIME_PASSED, "seconds"),
)


def cause(reason: str) -> dict[str, Any]:
    """The stored form of the cause that these words meant."""
    for pattern, kind, name in _CAUSES:
        if (found := re.match(pattern, reason, re.DOTALL)) is not None:
            value: Any = found[name] if name else None
            if name in ("seconds", "cycle"):
                value = float(value) if name == "seconds" else int(value)
            return {"kind": kind.value} | ({name: value} if name else {})
    return {"kind": CauseKind.MACHINE.value, "detail": reason}


def doubt(reason: str) -> dict[str, Any]:
    """The stored form of the doubt that these words meant."""
    if (found := re.match(r"(\d+) of (\d+) probes could not be sent", reason)) is not None:
        kind = DoubtKind.PROBES_DROPPED
        return {"kind": kind.value, "count": int(found[1]), "total": int(found[2])}
    if (found := re.search(r"by more than ([\d.]+) ms", reason)) is not None:
        return {"kind": DoubtKind.PROBES_LATE.value, "seconds": float(found[1]) / 1e3}
    return {"kind": DoubtKind.NO_PROBES.value}


def translated(source: str, what: str, data: dict[str, Any]) -> dict[str, Any]:
    """The data of a reading as it is stored today."""
    if (source, what) == ("engine", "begin") and "kind" not in data:
        return data | {"kind": _kind(data["control"], data["new_ip"])}
    if (source, what) == ("engine", "end") and "invalid" in data:
        told = data["invalid"]
        return data | {"cause": None if told is None else cause(told)}
    told = what in ("skipped", "disturbed") and "cause" not in data and "reason" in data
    return data | {"cause": cause(data["reason"])} if told else data


def translated_cycle(value: dict[str, Any]) -> dict[str, Any]:
    """A cycle's line as it is stored today."""
    if "kind" in value:
        return value
    reason, outcome = value["valid_reason"], value["outcome"]
    control = outcome == "control"
    found = value | {"kind": _kind(control, value.get("new_ip")), "arm": ""}
    if reason is None:
        return found
    if outcome in ("invalid", "skipped"):
        return found | {"cause": cause(reason), "cut_off": reason.endswith(UNRECOVERED)}
    return found | {"doubt": doubt(reason)}


def _kind(control: Any, new_ip: Any) -> str:
    if not control:
        return CycleKind.FAILOVER.value
    return (CycleKind.RESTART if new_ip is not None else CycleKind.CONTROL).value
