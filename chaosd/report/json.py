"""A run for other programs: report.json. Its keys are stable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from chaosd import shown
from chaosd.analysis.summary import Report, Totals
from chaosd.report import words

VERSION = 1  # of this shape; keys are only added within one


def render(
    report: Report,
    settings: Mapping[str, Any],
    arm_settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """Unknown numbers are null; durations are seconds. `settings` made the run, and each arm."""
    value = {
        "version": VERSION,
        "run": report.run,
        "verdict": report.verdict,
        "reasons": words.reasons(report),
        "doubts": words.doubts(report),
        "notes": words.notes(report),
        "remarks": _remarks(report),
        "objectives": [
            {**asdict(objective), "reason": words.objective(objective)}
            for objective in report.objectives
        ],
        "availability": asdict(report.availability),
        "total": _totals(report.total),
        "cells": {
            cell: {
                **_totals(part),
                "faults": {label: _totals(p) for label, p in report.faults.get(cell, {}).items()},
                "dns_queries": asdict(report.queries[cell]) if cell in report.queries else None,
            }
            for cell, part in report.cells.items()
        },
        "faults": {label: _totals(part) for label, part in report.of_fault.items()},
        "probes": [asdict(probe) for probe in report.probes],
        "arms": {
            name: _arm(arm) | {"config": dict((arm_settings or {}).get(name, {}))}
            for name, arm in report.arms.items()
        },
        "manifest": {  # an older version stored an arm's values as they were
            key: shown.mask_tree(value) if key == "arms" else value
            for key, value in report.manifest.items()
        },
        "config": dict(settings),
    }
    return shown.json_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)) + "\n"


def _arm(arm: Report) -> dict[str, Any]:
    """One arm among several: the same numbers, of its cells alone."""
    return {
        **_totals(arm.total),
        "verdict": arm.verdict,
        "reasons": words.reasons(arm),
        "doubts": words.remarks(arm.doubts),
        "availability": asdict(arm.availability),
        "faults": {label: _totals(part) for label, part in arm.of_fault.items()},
        "cells": list(arm.cells),
        "dns_queries": {
            cell: asdict(arm.queries[cell]) for cell in arm.cells if cell in arm.queries
        },
        "notes": [words.remark(note) for note in arm.notes],
        "remarks": _remarks(arm),
    }


def _remarks(report: Report) -> dict[str, Any]:
    """Its doubts and notes as values."""
    return {
        "doubts": [asdict(doubt) for doubt in report.doubts],
        "notes": [asdict(note) for note in report.notes],
    }


def _totals(part: Totals) -> dict[str, Any]:
    return {"cycles": sum(part.outcomes.values()), "failovers": part.failovers, **asdict(part)}
