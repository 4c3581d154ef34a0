"""Two runs compared: from their files to a table, and to what a CI step reads."""
# ruff: noqa: RUF001 - a minus sign and an en dash are what they are

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from chaosd import shown
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
from chaosd.analysis.recovery import DEFINITIONS
from chaosd.analysis.statistics import Estimate
from chaosd.errors import ConfigError, Exit, MachineError
from chaosd.history import manifest as run_manifest
from chaosd.history import strict
from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.reader import WHOLE_BYTES_MAX, RunReader, lines_of
from chaosd.report import json as report_json
from chaosd.report import load_run, words
from chaosd.report.settings import UNREAD, arm_settings, flat, settings
from chaosd.report.text import SECONDS_FROM_S, estimate, share
from chaosd.system.files import read_utf8

P = TypeVar("P")
POINTS = (100.0, 1, "points")  # of a share: percentage points
ARMS_MAX = 1_000  # of a file: each is summarised by itself
CHANGED_MAX = 12  # then it is another experiment
OWN_FILE = "proxy.config"  # the path of a file of the user's own
KINDS = "a run directory, a report.json or a cycles.jsonl"
EXITS = {SAME: Exit.OK, BETTER: Exit.OK, WORSE: Exit.FAIL, UNKNOWN: Exit.UNKNOWN}


class _Needed(BaseModel):
    """The keys of report.json that are compared; whatever else is in it does not matter."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


# Of a run, whatever it is counted or measured in.
_Real = Annotated[float, Field(ge=-strict.REAL_MAX, le=strict.REAL_MAX)]
_Count = Annotated[int, Field(ge=0, le=strict.WHOLE_MAX)]


class _Number(_Needed):
    value: _Real | None
    low: _Real | None
    high: _Real | None
    beyond: _Real | None = None
    n: _Count | None = None  # of a share: the whole


class _Recovery(_Needed):
    p50: _Number
    p95: _Number
    mean: _Number


class _Totals(_Needed):
    failovers: _Count
    outcomes: dict[str, _Count]
    resolution_s: _Real | None
    recovery_s: _Recovery
    failed_s: _Number | None = None  # not in reports of an earlier chaosd
    misrouted_s: _Number | None = None
    failed_share: _Number
    misrouted_share: _Number
    failed_cycles: _Number | None = None
    misrouted_cycles: _Number | None = None


class _Cell(_Totals):
    faults: dict[str, _Totals] = {}


class _Arm(_Cell):
    doubts: list[str] = []
    config: dict[str, Any] = {}


class _Report(_Needed):
    version: Literal[1]
    run: str
    doubts: list[str]
    manifest: Annotated[dict[str, Any], AfterValidator(run_manifest.check)]
    config: dict[str, Any] = {}
    total: _Totals
    arms: dict[str, _Arm] = {}
    cells: dict[str, _Cell] = {}
    faults: dict[str, _Totals] = {}


def load(
    path: Path, *, arm: str | None = None, fault: str | None = None, cell: str | None = None
) -> Side:
    """What is compared of a run, from its directory or one of its files.

    All of its failovers, or those of one arm, of one fault or of one cell. Raises ConfigError
    if it is no run, or has none of these.
    """
    try:
        found = _Report.model_validate(_report(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"not a report of this version of chaosd ({where}: {first['msg']})"
        raise ConfigError(f"{path}: {what} (`chaosd report RUN_DIR` makes it anew)") from error
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror or error}") from error
    except (ValueError, MachineError) as error:
        raise ConfigError(f"{path}: can't be compared: {error} (it takes {KINDS})") from error
    part: _Totals = found.total
    faults = found.faults
    if arm is not None:
        chosen = _one(path, "arm", arm, found.arms)
        part, faults = chosen, chosen.faults
        found = _narrowed(found, arm)
    elif len(found.arms) > 1 and cell is None:
        what = f"has several arms, which can't be pooled (say --arm: {', '.join(found.arms)})"
        raise ConfigError(f"{path}: {what}")
    if cell is not None:
        part = whole = _one(path, "cell", cell, found.cells)
        faults = whole.faults
    if fault is not None:
        part = _one(path, "fault", fault, faults)
        if not part.failovers and part.outcomes.get(CycleOutcome.CONTROL):
            what = f"fault `{fault}` is a control and makes no failovers: no run of it can tell"
            raise ConfigError(f"{path}: {what}")
    side = Side.of(found.model_dump(), part.model_dump())
    which = ", ".join(
        f"{kind} {name}" for kind, name in (("arm", arm), ("cell", cell), ("fault", fault)) if name
    )
    return replace(side, name=f"{side.name} ({which})") if which else side


def _narrowed(found: _Report, arm: str) -> _Report:
    """The report as if it were of this arm alone: its doubts, its settings."""
    stored = found.manifest.get("arms", {}).get(arm, {})
    settings = stored.get("settings", found.manifest.get("settings", {}))
    config = found.arms[arm].config
    if not config and found.config:  # of a report that does not tell each arm's
        config = found.config | dict(flat("", stored.get("differs", {})))
        config |= {"proxy_version": stored.get("proxy_version", config.get("proxy_version"))}
    manifest = {**found.manifest, "settings": settings}
    narrowed = {"doubts": found.arms[arm].doubts, "manifest": manifest, "config": config}
    return found.model_copy(update=narrowed)


def _one(path: Path, kind: str, name: str, parts: Mapping[str, P]) -> P:
    if name not in parts:
        there = ", ".join(parts) or "none"
        raise ConfigError(f"{path}: has no {kind} `{name}` (there: {there})")
    return parts[name]


def _report(path: Path) -> Any:
    config: dict[str, Any] = {}
    of_arms: dict[str, dict[str, Any]] = {}
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file or directory (it takes {KINDS})")
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
        cycles = load_run.read(reader).cycles
        found = summary.summarise(title, reader.manifest, cycles, (), {})
        config, of_arms = settings(reader), arm_settings(reader)
    elif path.suffix == ".jsonl":
        cycles = list(lines_of(path, decode_cycle))
        found = summary.summarise(str(path), _manifest(cycles), cycles, (), {})
    else:
        try:
            return strict.parse(read_utf8(path, WHOLE_BYTES_MAX))
        except ValueError as error:
            what = "neither a run directory, nor a report.json, nor a cycles.jsonl"
            raise ConfigError(f"{path}: is {what}") from error
    return json.loads(report_json.render(found, config, of_arms))


def _manifest(cycles: Iterable[Cycle]) -> dict[str, Any]:
    """What cycles tell of their run, where nothing else is left of it: its arms.

    Raises ValueError if these are more than any run has.
    """
    cells: dict[str, dict[str, None]] = {}
    for cycle in cycles:
        cells.setdefault(cycle.arm, {})[cycle.cell] = None
    if len(cells) > ARMS_MAX:
        raise ValueError(f"it has {len(cells):,} arms")
    arms = {arm: {"cells": list(some)} for arm, some in cells.items()}
    return {"settings": {"definitions": DEFINITIONS}, "arms": arms if len(arms) > 1 else {}}


def render(found: Comparison) -> str:
    """The comparison for other programs."""
    value = asdict(found)
    for side in ("a", "b"):
        del value[side]["numbers"], value[side]["config"]  # they are in the rows, and in `changed`
    value |= {"reasons": list(map(words.comparison, found.reasons)), "why": value["reasons"]}
    return shown.json_text(json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def lines(found: Comparison) -> Iterator[str]:
    """The comparison for people: a table, and its answer."""
    for letter, side in (("A", found.a), ("B", found.b)):
        count = f"{side.failovers} failover{'' if side.failovers == 1 else 's'}"
        yield f"{letter}: {side.name}, {count}"
    yield from _settings(found)
    rows = [["", "A", "B", "B − A", ""], *map(_cells, found.rows)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()
    yield f"intervals: 95 % for {DECIDING}, and 95 % for all other differences together"
    yield f"{found.answer}: {_why(found)}"


def _settings(found: Comparison) -> Iterator[str]:
    if found.changed is None:
        yield "settings: not known of both"
        return
    changed = {**found.changed}
    own_files = changed.pop(OWN_FILE, None)
    if not found.changed:
        yield "settings: the same"
    for path, (a, b) in list(changed.items())[:CHANGED_MAX]:
        yield f"{path}: {_setting(a)} → {_setting(b)}"
    if (more := len(changed) - CHANGED_MAX) > 0:
        yield f"and {more} more settings differ"
    if own_files is not None:
        differ = any(path.startswith("proxy.") for path in changed)
        yield f"{OWN_FILE}: {_own_files(*own_files, settings_differ=differ)}"


def _own_files(a: str | None, b: str | None, *, settings_differ: bool) -> str:
    """What can be said of two files of the user's own that are not the same."""
    if a is None or b is None:
        return " → ".join("not set" if own is None else "a file of your own" for own in (a, b))
    if a.endswith(UNREAD) or b.endswith(UNREAD):
        return "two different files (not every setting of both is known)"
    which = "their settings that differ are above" if settings_differ else "with the same settings"
    return f"two different files ({which})"


def _setting(value: Any) -> str:
    return "not set" if value is None else str(value)


def _cells(row: Row) -> list[str]:
    unshown = row.answer == UNKNOWN and row.difference.value is not None
    answer = "no difference shown" if unshown else row.answer
    if row.unit == "share":
        change = _change(row.difference, *POINTS)
        return [row.name, share(row.a), share(row.b), change, answer]
    change = _change(row.difference, *_unit(row.difference))
    if row.difference.value is not None and row.a.value:
        change += f" = {_signed(100 * row.difference.value / row.a.value, 0)}%"
    return [row.name, estimate(row.a), estimate(row.b), change, answer]


def _unit(found: Estimate) -> tuple[float, int, str]:
    """One unit for a difference and its interval: how many in a second, decimals, its name."""
    largest = max(abs(value or 0.0) for value in (found.value, found.low, found.high))
    return (1.0, 2, "s") if largest >= SECONDS_FROM_S else (1e3, 0, "ms")


def _change(found: Estimate, scale: float, decimals: int, unit: str) -> str:
    if found.value is None:
        return "unknown"
    value, low, high = (
        "?" if number is None else _signed(number * scale, decimals)
        for number in (found.value, found.low, found.high)
    )
    return f"{value} [{low} to {high}] {unit}"


def _signed(value: float, decimals: int) -> str:
    text = f"{abs(value):.{decimals}f}"
    sign = "" if float(text) == 0 else "−" if value < 0 else "+"
    return f"{sign}{text}"


def _why(found: Comparison) -> str:
    reasons = ", ".join(map(words.comparison, found.reasons))
    if found.answer == SAME:
        return f"{DECIDING} is, to within {found.margin:.0%}, and nothing else shows a difference"
    return reasons if found.answer == UNKNOWN else f"in {reasons}"
