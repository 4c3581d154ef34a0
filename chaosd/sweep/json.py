"""The answer for other programs: its keys are stable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from chaosd.sweep import text, words
from chaosd.sweep.answer import Answer
from chaosd.sweep.factors import label
from chaosd.sweep.standing import Standing
from chaosd.sweep.values import SweepArm

FORMAT = 1  # of this shape; keys are only added within one


def document(answer: Answer) -> dict[str, Any]:
    """Unknown numbers are null; durations are seconds, and DNS is questions per second.

    `words` are the sentences of the text.
    """
    results, found = answer.results, answer.recommendation
    return {
        "format": FORMAT,
        "name": results.name,
        "basis": answer.basis,
        "objectives": list(results.objectives),
        "faults": list(results.faults),
        "blocks": answer.blocks,
        "fresh_blocks": answer.fresh_blocks,
        "poor_blocks": results.poor_blocks,
        "cycles": len(results.seen),
        "recommendation": None
        if found is None
        else {
            **_plain(asdict(found)),
            "arm": found.arm.key,
            "name": found.arm.name,
            "is_baseline": found.arm.baseline,
            "words": list(words.recommendation(answer)),
            "buys": [{**_plain(asdict(buy)), "words": words.buy(buy)} for buy in found.buys],
        },
        "front": [standing.arm.key for standing in answer.front],
        "predicted_front": [s.arm.key for s in answer.standings if s.in_foretold_front],
        "arms": {s.arm.key: _arm(answer, s) for s in answer.standings},
        "effects": [{**_plain(asdict(e)), "words": words.effect(e)} for e in answer.effects],
        "interactions": [
            {**_plain(asdict(i)), "words": words.interaction(i)} for i in answer.interactions
        ],
        "not_as_expected": [
            {**_plain(asdict(o)), "arm": o.arm.key if o.arm else None, "words": words.oddity(o)}
            for o in answer.oddities
        ],
        "hosts": [
            {**_plain(asdict(h)), "words": words.host(h, len(answer.hosts))} for h in answer.hosts
        ],
        "words": text.lines(answer),
    }


def _arm(answer: Answer, standing: Standing) -> dict[str, Any]:
    results, arm = answer.results, standing.arm
    return {
        "name": arm.name,
        "baseline": arm.baseline,
        "values": _values(arm),
        "cycles": standing.cycles,
        "measured": standing.is_measured,
        "in_front": standing.in_front,
        "in_predicted_front": standing.in_foretold_front,
        "membership": standing.membership,
        "objectives": {
            objective: {
                "predicted": _plain(number.foretold),
                **({} if number.measured is None else _plain(asdict(number.measured.estimate))),
                "n": 0 if number.measured is None else number.measured.n,
                "fault": None if number.measured is None else number.measured.fault,
            }
            for objective, number in standing.numbers.items()
        },
        "stopped": results.stopped.get(arm.key),
        "unpredicted": results.unforetold.get(arm.key),
        "lines": list(results.lines.get(arm.key, ())),
        "reports": list(results.links.get(arm.key, ())),
    }


def _values(arm: SweepArm) -> dict[str, Any]:
    return {path: _plain(value) for path, value in arm.values.items()}


def _plain(value: Any) -> Any:
    """As JSON has it: what is infinite or of a type of ours is a text or null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and type(value) is float:
        return value if math.isfinite(value) else None
    return value if value is None or type(value) in (bool, int, str) else label(value)
