"""The flight record of a cycle that is worth a second look: all that is known of its time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

from chaosd.history import strict
from chaosd.history.codec import encode_event
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.events import AnyEvent
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import unwritable, write_whole
from chaosd.system import files

T = TypeVar("T")
# Of a run: then the events and samples in its directory have to do. Where an imposter is wanted
# each cycle is misrouted, and must not take the place of what is unexpected.
FILES_MAX, MISROUTED_MAX = 200, 50
SAMPLES_MAX = 5_000
RUN_ENDS = (
    100  # samples at each end of a stretch that came to the same: what is between is left out
)
EVENTS_MAX = 2_000
LOG_LINES_MAX, LOG_BYTES_MAX = 50, 20_000
BYTES_MAX = 16 * files.MB  # of one that is read; those that are written have some hundred KB
# Of a sample's row, and what fits each: sent and took in milliseconds, outcome, status, who.
_MS = strict.fitting("", float)
ROW = (_MS, _MS, strict.is_text, strict.fitting("", int), strict.is_text)


class Suspicion(StrEnum):
    """Why a cycle has a flight record. The values are stored."""

    NOT_RECOVERED = "not_recovered"
    ANOMALY = "anomaly"
    MISROUTED = "misrouted"
    REQUESTS = "requests"


def suspicion(cycle: Cycle, *, surprising: bool) -> Suspicion | None:
    """Why it should have one; None if it needs none.

    `surprising`: it lost more or fewer requests than predicted. That it is misrouted comes last: of
    those few are kept.
    """
    if cycle.outcome == CycleOutcome.CENSORED:
        return Suspicion.NOT_RECOVERED
    if cycle.anomaly:
        return Suspicion.ANOMALY
    if surprising:
        return Suspicion.REQUESTS
    if cycle.misrouted:
        return Suspicion.MISROUTED
    return None


def name(cycle: Cycle) -> str:
    """Where its record is in the run directory."""
    return f"flight/{cycle.cell}-{cycle.cycle}.json"


def record(
    cycle: Cycle, kind: Suspicion, events: Iterable[AnyEvent], samples: Iterable[Sample]
) -> dict[str, Any]:
    """Everything around it, by the time since T0 in milliseconds and in its order.

    Samples are [sent, took, outcome, HTTP status, who], stream by stream. Of many, those are
    `left_out` that are in the middle of a long stretch of the same, and if there are still too
    many, those that are far from T0 and the recovery; so it is with events.
    """
    by_stream: dict[str, list[list[Any]]] = {}
    everything = sorted(samples, key=lambda s: (s.stream, s.scheduled_ns))
    telling = _telling(everything, cycle)
    for s in telling:
        took_ms = round((s.done_ns - s.scheduled_ns) / 1e6, 3)
        outcome = Outcome(s.outcome).name.lower()
        row = [_ms(s.scheduled_ns, cycle), took_ms, outcome, s.status, s.who]
        by_stream.setdefault(str(s.stream), []).append(row)
    said = sorted(events, key=lambda event: event.at_ns)
    ordered = _near(said, [event.at_ns for event in said], _instants(cycle), EVENTS_MAX)
    return {
        "kind": kind,
        "cycle": asdict(cycle),
        "events": [
            {"ms": _ms(event.at_ns, cycle), **json.loads(encode_event(event))} for event in ordered
        ],
        "samples": by_stream,
        "left_out": len(everything) - len(telling),
    }


def _telling(ordered: Sequence[Sample], cycle: Cycle) -> Sequence[Sample]:
    """All of them, or as many as there is room for: around changes, T0 and the recovery."""
    if len(ordered) <= SAMPLES_MAX:
        return ordered
    streams: dict[int, list[Sample]] = {}
    for stream, some in groupby(ordered, key=lambda s: s.stream):
        for _, same in groupby(some, key=lambda s: (s.outcome, s.who)):
            stretch = list(same)
            if len(stretch) > 2 * RUN_ENDS:
                stretch = stretch[:RUN_ENDS] + stretch[-RUN_ENDS:]
            streams.setdefault(stream, []).extend(stretch)
    room, instants = SAMPLES_MAX // len(streams), _instants(cycle)
    found: list[Sample] = []
    for kept in streams.values():
        found += _near(kept, [s.scheduled_ns for s in kept], instants, room)
    return found


def _instants(cycle: Cycle) -> list[int]:
    """T0, and the recovery or else the end."""
    return [cycle.t0_ns, cycle.t0_ns + round(cycle.took_at_least_s * 1e9)]


def _near(
    some: Sequence[T], at_ns: Sequence[int], instants: Sequence[int], most: int
) -> Sequence[T]:
    """Those that are nearest to any of these instants, in their order."""
    if len(some) <= most:
        return some
    away = [min(abs(at - instant) for instant in instants) for at in at_ns]
    nearest = sorted(range(len(some)), key=away.__getitem__)[:most]
    return [some[place] for place in sorted(nearest)]


def write(
    directory: Path,
    cycle: Cycle,
    kind: Suspicion,
    events: Iterable[AnyEvent],
    samples: Iterable[Sample],
    *,
    why: str,
) -> None:
    """Write it into the run directory, if there is room. Raises MachineError if it can't.

    `why` says `kind` in words, for who opens the file.
    """
    path = directory / name(cycle)
    folder = path.parent
    try:
        folder.mkdir(exist_ok=True)
        most = MISROUTED_MAX if kind is Suspicion.MISROUTED else FILES_MAX
        full = sum(1 for _ in folder.iterdir()) >= most
    except OSError as error:
        raise unwritable(folder, error) from error
    if not full:
        found = {"why": why, **record(cycle, kind, events, samples)}
        found |= {"log": _log(directory / cycle.cell)}
        text = json.dumps(found, separators=(",", ":"))
        write_whole(path, text + "\n")


def read(path: Path) -> dict[str, Any]:
    """One that was written; empty if there is none, or not a whole one: it is only shown."""
    try:
        found = strict.parse(files.read_bytes(path, BYTES_MAX))
    except (OSError, ValueError):
        return {}
    return found if _is_record(found) else {}


def _is_record(value: Any) -> bool:
    """Whether it has what is shown of it, in this shape."""
    if not isinstance(value, dict) or not strict.is_plain([value]):
        return False
    samples, log = value.get("samples", {}), value.get("log", [])
    return (
        type(value.get("left_out", 0)) is int
        and strict.fitting("", list[str])(log)
        and strict.fitting("", dict[str, list[list[Any]]])(samples)
        and all(
            len(row) == len(ROW) and all(fits(part) for fits, part in zip(ROW, row, strict=True))
            for rows in samples.values()
            for row in rows
        )
    )


def _log(folder: Path) -> list[str]:
    """The last lines that the proxy wrote so far, as it wrote them."""
    found: list[str] = []
    for path in sorted(folder.glob("*.log")):
        try:
            with files.open_regular(path) as file:
                file.seek(max(0, path.stat().st_size - LOG_BYTES_MAX))
                found += (
                    file.read(LOG_BYTES_MAX).decode(errors="replace").splitlines()[-LOG_LINES_MAX:]
                )
        except OSError:
            continue  # a record without it is better than none
    return found


def _ms(at_ns: int, cycle: Cycle) -> float:
    return round((at_ns - cycle.t0_ns) / 1e6, 3)
