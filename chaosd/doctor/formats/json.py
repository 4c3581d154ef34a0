"""A diagnosis as JSON. It is promised: what is there stays, and more may come (docs/doctor.md)."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from chaosd import shown
from chaosd.doctor.examine import Diagnosis, Outlooks, Row
from chaosd.doctor.finding import Change, Cost, Finding, Ms
from chaosd.doctor.formats.costs import remedy_lines
from chaosd.doctor.formats.unknown import why_unknown
from chaosd.doctor.subject import Subject
from chaosd.proxies.haproxy.model.backend import Happening, Outlook, Spread, Unknown

FORMAT = 1


def render(diagnoses: Sequence[Diagnosis], *, everything: bool) -> str:
    """One object. Of several versions the last one's stands at the top, and all in `versions`."""
    found = {"format": FORMAT, **_diagnosis(diagnoses[-1], everything=everything)}
    if len(diagnoses) > 1:
        found["versions"] = [_diagnosis(each, everything=everything) for each in diagnoses]
    return shown.json_text(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False))


def _diagnosis(diagnosis: Diagnosis, *, everything: bool) -> dict[str, Any]:
    findings = diagnosis.all if everything else diagnosis.findings
    return {
        "version": diagnosis.program.version,
        "setting": diagnosis.guess.setting.value,
        "files": [str(source.path) for source in diagnosis.subject.sources],
        "backends": [_row(row) for row in diagnosis.rows],
        "findings": [_finding(diagnosis.subject, finding) for finding in findings],
        "hidden": len(diagnosis.idle) if not everything else 0,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "file": str(row.place.file),
        "line": row.place.line,
        "servers": row.servers,
        "predicted": _outlooks(row.now),
        "predicted_fixed": _outlooks(row.fixed),
        "dns_queries_per_s": _queries(row.now),
        "dns_queries_per_s_fixed": _queries(row.fixed),
        "left_out": [
            {"file": each.file, "line": each.line, "what": each.what, "changes": str(each.changes)}
            for each in row.limits
        ],
    }


def _outlooks(outlooks: Outlooks) -> dict[str, Any]:
    return {happening.value: _outlook(outlook) for happening, outlook in outlooks.items()}


def _outlook(outlook: Outlook | Unknown) -> dict[str, Any]:
    if isinstance(outlook, Unknown):
        return {"unknown": why_unknown(outlook)}
    return {
        "recovery_s": _spread(outlook.recovery_s),
        "stable_s": _spread(outlook.stable_s),
        "failed_s": _spread(outlook.failed_s),
        "masked_s": _spread(outlook.masked_s),
        "misrouted_s": _spread(outlook.misrouted_s),
        "unaffected": _number(outlook.unaffected),
        "slowest_s": _number(outlook.slowest_s),
        "dns_queries_per_s": _number(outlook.queries_in_trouble_per_s),
        "horizon_s": _number(outlook.horizon_s),
        "trials": outlook.trials,
    }


def _queries(outlooks: Outlooks) -> float | None:
    outlook = outlooks[Happening.MOVE]
    return None if isinstance(outlook, Unknown) else _number(outlook.queries_per_s)


def _spread(spread: Spread) -> dict[str, float | None]:
    """What never ends has no number: null, and `never` says how often."""
    return {
        "p05": _number(spread.p05),
        "p50": _number(spread.p50),
        "p95": _number(spread.p95),
        "mean": _number(spread.mean),
        "never": _number(spread.never),
    }


def _number(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None


def _finding(subject: Subject, finding: Finding) -> dict[str, Any]:
    spot = finding.spot
    return {
        "rule": finding.rule,
        "severity": finding.severity.value,
        "confidence": finding.confidence.value,
        "file": str(spot.place.file),
        "line": spot.place.line,
        "column": spot.start or None,
        "end_column": spot.end or None,
        "also": [{"file": str(place.file), "line": place.line} for place in finding.also],
        "said_by": finding.origin.value,
        "backends": list(finding.backends),
        "message": finding.message,
        "facts": {
            f"{name}_ms" if isinstance(fact, Ms) else name: fact
            for name, fact in finding.facts.items()
        },
        "cost": None if finding.cost is None else _cost(finding.cost),
        "remedy": _remedy(subject, finding),
    }


def _cost(cost: Cost) -> dict[str, Any]:
    return {
        "loss_s": _number(cost.loss_s),
        "dns_queries_per_s": _change(cost.queries_per_s),
        "tolls": [
            {
                "happening": toll.happening.value,
                "usual": toll.usual,
                "backend": toll.backend,
                "recovery_p95_s": _change(toll.recovery_s),
                "never": _change(toll.never),
                "failed_s": _change(toll.failed_s),
                "misrouted_s": _change(toll.misrouted_s),
                "masked_s": _change(toll.slow_s),
                "slowest_s": _change(toll.slowest_s),
            }
            for toll in cost.tolls
        ],
    }


def _change(change: Change) -> dict[str, float | None]:
    return {"now": _number(change.now), "fixed": _number(change.fixed)}


def _remedy(subject: Subject, finding: Finding) -> dict[str, Any] | None:
    remedy = finding.remedy
    if remedy is None:
        return None
    lines = [
        {
            "file": str(paste.place.file),
            ("after" if paste.is_new else "line"): paste.place.line,
            "text": paste.text,
        }
        for paste in remedy_lines(subject, finding)
    ]
    return {"lines": lines, "advice": remedy.advice or None, "by_fix": remedy.safe and bool(lines)}
