"""Two runs compared: from their files to a table, and to what a CI step reads."""
# ruff: noqa: RUF001 - a minus sign and an en dash are what they are

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from chaosd.analysis import summary
from chaosd.analysis.compare import (
    BETTER,
    DECIDING,
    SAME,
    UNKNOWN,
    WORSE,
    Comparison,
    Row,
    Side,
)
from chaosd.analysis.statistics import Estimate
from chaosd.errors import ConfigError, Exit, MachineError
from chaosd.events import decode_cycle
from chaosd.report import json as report_json
from chaosd.report.settings import settings
from chaosd.report.text import estimate, percent, seconds
from chaosd.sinks.reader import RunReader

CHANGED_MAX = 12  # then it is another experiment
KINDS = "a run directory, a report.json or a cycles.jsonl"
EXITS = {SAME: Exit.OK, BETTER: Exit.OK, WORSE: Exit.FAIL, UNKNOWN: Exit.UNKNOWN}


def load(path: Path) -> Side:
    """What is compared of a run, from its directory or one of its files.

    Raises ConfigError if it is neither.
    """
    try:
        return Side.of(_report(path))
    except (KeyError, TypeError, AttributeError) as error:
        what = f"not a report of this version of chaosd ({type(error).__name__}: {error})"
        raise ConfigError(f"{path}: {what} (`chaosd report RUN_DIR` makes it anew)") from error
    except (OSError, ValueError, MachineError) as error:
        raise ConfigError(f"{path}: can't be compared: {error} (it takes {KINDS})") from error


def _report(path: Path) -> Any:
    config: dict[str, Any] = {}
    if path.is_dir():
        # A baseline may be no more than one of these files.
        for name in ("run.json", "report.json", "cycles.jsonl"):
            if (path / name).exists():
                path /= name
                break
        else:
            raise ValueError("nothing of a run is in this directory")
    if path.name == "run.json":
        reader = RunReader(path.parent)
        title = f"{reader.manifest.get('name', '?')} {reader.manifest.get('run', '?')}"
        found = summary.summarise(title, reader.manifest, reader.cycles(), (), {})
        config = settings(reader)
    elif path.suffix == ".jsonl":
        lines = path.read_text(encoding="utf-8").splitlines()
        found = summary.summarise(str(path), {}, map(decode_cycle, lines), (), {})
    else:
        return json.loads(path.read_text(encoding="utf-8"))
    return json.loads(report_json.render(found, config))


def render(found: Comparison) -> str:
    """The comparison for other programs."""
    value = asdict(found)
    for side in ("a", "b"):
        del value[side]["numbers"], value[side]["config"]  # they are in the rows, and in `changed`
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)


def lines(found: Comparison) -> Iterator[str]:
    """The comparison for people: a table, and its answer."""
    for letter, side in (("A", found.a), ("B", found.b)):
        count = f"{side.failovers} failover{'' if side.failovers == 1 else 's'}"
        yield f"{letter}: {side.name}, {count}"
    yield from _settings(found)
    rows = [["", "A", "B", "B less A", ""], *map(_cells, found.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()
    yield f"intervals: 95 %; that of all differences but {DECIDING}'s together"
    yield f"{found.answer}: {_why(found)}"


def _settings(found: Comparison) -> Iterator[str]:
    if found.changed is None:
        yield "settings: not known of both"
    elif not found.changed:
        yield "settings: the same"
    for path, (a, b) in list((found.changed or {}).items())[:CHANGED_MAX]:
        yield f"{path}: {_setting(a)} → {_setting(b)}"
    if (more := len(found.changed or {}) - CHANGED_MAX) > 0:
        yield f"and {more} more settings differ"


def _setting(value: Any) -> str:
    return "not set" if value is None else str(value)


def _cells(row: Row) -> list[str]:
    unshown = row.answer == UNKNOWN and row.difference.value is not None
    answer = "no difference shown" if unshown else row.answer
    if row.unit == "share":
        cells = [_share(row.a), _share(row.b), _change(row.difference, percent)]
    else:
        cells = [estimate(row.a), estimate(row.b), _change(row.difference, seconds)]
        if row.difference.value is not None and row.a.value:
            part = row.difference.value / row.a.value
            cells[-1] += f" = {'−' if part < 0 else '+'}{abs(part):.0%}"
    return [row.name, *cells, answer]


def _share(found: Estimate) -> str:
    if found.value is None:
        return "unknown"
    low, high = ("?" if bound is None else percent(bound) for bound in (found.low, found.high))
    return f"{percent(found.value)} [{low}–{high}]"


def _change(found: Estimate, words: Any) -> str:
    def signed(value: float | None) -> str:
        if value is None:
            return "?"
        return f"{'−' if value < 0 else '+'}{words(abs(value))}"

    if found.value is None:
        return "unknown"
    return f"{signed(found.value)} [{signed(found.low)} to {signed(found.high)}]"


def _why(found: Comparison) -> str:
    reasons = ", ".join(found.reasons)
    if found.answer == SAME:
        return f"{DECIDING} is, to within {found.margin:.0%}, and nothing else shows a difference"
    return reasons if found.answer == UNKNOWN else f"in {reasons}"
