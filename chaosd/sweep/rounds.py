"""One round: arms side by side in an ordinary run, in blocks of one fault under one schedule."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from chaosd import plan, report
from chaosd.config import shape, yamlfile
from chaosd.config.shape import Config
from chaosd.engine import session
from chaosd.errors import ChaosdError, MachineError
from chaosd.history.cycles import Cycle
from chaosd.history.endings import EndKind, ending_of
from chaosd.live.console import Console
from chaosd.plan.arms import Plan
from chaosd.plugins.bases import KeyPath, WindowedFaultConfig
from chaosd.sweep.arms import Arm, Program
from chaosd.sweep.design import Loaded
from chaosd.sweep.store import ROUNDS, Round
from chaosd.sweep.values import Foretold, Seen

ARMS_MAX = 32  # of a run
SECONDS_MIN = 5.0  # a round that has less time would end before its first block
_AFTER_S = 1.5  # from the end of an observation to the next fault, at least
_EVERY_S_MIN = 3.0
_UNKNOWN_S = 10.0  # how long a recovery takes of which nobody knows anything
_SPREAD_S_MIN, _SPREAD_S_MAX = 1.0, 5.0  # by which fault times differ: phases must not lock
_DIRECT_RATE = "20/s"  # of the control probe, by which nothing is compared: so more arms fit
_FEW = 3  # cycles below which what was foretold counts, too
# What is said while a round goes on; its cycles are not.
_LOUD = ("stopping", "removed what", "this machine carries")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of a design."""

    place: int  # in the base's list
    label: str
    data: Mapping[str, Any]
    window_s: float
    paced: bool  # the design says its cadence

    @property
    def hash(self) -> str:
        """Of all that it does, whenever it comes."""
        what = {k: v for k, v in self.data.items() if k not in ("every", "cron", "jitter")}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def faults_of(loaded: Loaded, config: Config) -> list[Fault]:
    """Those that every arm meets."""
    found = []
    for place, (part, data) in enumerate(zip(config.faults, loaded.base["faults"], strict=True)):
        parts = [part, *part.companions]
        windows = [p.offset / 1e9 + p.window.s for p in parts if isinstance(p, WindowedFaultConfig)]
        found.append(
            Fault(
                place=place,
                label=part.label,
                data=data,
                window_s=max(windows, default=0.0),
                paced=loaded.paced[place],
            )
        )
    return found


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a round is to make."""

    number: int
    fault: Fault
    arms: Sequence[Arm]  # at most ARMS_MAX
    cycles: int  # of each cell
    replicas: int
    fresh: bool
    seed: int
    time_s: float | None


def slowest_s(
    arms: Sequence[Arm],
    fault: Fault,
    seen: Sequence[Seen],
    foretold: Mapping[tuple[str, str], Foretold],
) -> float:
    """How long a cycle of the slowest of these arms is expected to take until it has recovered."""
    found = [fault.window_s]
    for arm in arms:
        mine = [s for s in seen if s.arm == arm.key and s.fault == fault.label]
        known = foretold.get((arm.key, fault.label))
        found += [s.limit_s if s.recovery_s is None else s.recovery_s for s in mine[-20:]]
        if len(mine) < _FEW:
            found.append(known.recovery_p95_s if known is not None else _UNKNOWN_S)
    return max(found)


def data_of(loaded: Loaded, wanted: Wanted, slow_s: float) -> dict[str, Any]:
    """The config of the run, as plain data; its relative paths belong to the base's directory."""
    data = loaded.with_values({})
    for key in ("until", "slo", "cells", "seed", "arms", "runs"):
        data.pop(key, None)
    data.setdefault("direct", {"rate": _DIRECT_RATE})
    fault = dict(wanted.fault.data)
    if not wanted.fault.paced:
        for key in ("jitter", "cron"):
            fault.pop(key, None)
        fault["every"] = _every(loaded, wanted, slow_s)
    until: dict[str, Any] = {"cycles": wanted.cycles}
    if wanted.time_s is not None:
        until["time"] = _time(wanted.time_s)
    return {
        **data,
        "name": loaded.design.name,
        "faults": [fault],
        "metrics": None,
        "cells": wanted.replicas,
        "seed": wanted.seed,
        "until": until,
        "arms": [
            {"name": arm.sweep.name, **_of_fault(arm.said, wanted.fault.place)}
            for arm in wanted.arms
        ],
    }


def with_time(data: Mapping[str, Any], time_s: float) -> dict[str, Any]:
    """The config of a run that ends after so long at the latest."""
    return {**data, "until": {**data["until"], "time": _time(time_s)}}


def _time(time_s: float) -> str:
    return f"{max(1.0, time_s):.0f}s"


def _every(loaded: Loaded, wanted: Wanted, slow_s: float) -> dict[str, str]:
    """Time enough for the slowest arm, and for any phase of the longest of the proxies' timers."""
    configs = [shape.of_data(loaded.with_values(arm.said), loaded.called) for arm in wanted.arms]
    measure = configs[0].measure
    longest = max((t for c in configs for t in plan.proxy_of(c).timers_s()), default=0.0)
    slow_s = min(slow_s, measure.recovery_limit.s)
    first_s = max(_EVERY_S_MIN, slow_s + measure.stable_for.s + _AFTER_S)
    spread_s = min(max(longest, _SPREAD_S_MIN), _SPREAD_S_MAX)
    first_ms, last_ms = (math.ceil(1000 * s) for s in (first_s, first_s + spread_s))
    return {"min": f"{first_ms}ms", "max": f"{last_ms}ms"}


def _of_fault(said: Mapping[str, Any], place: int) -> dict[str, Any]:
    """The values of an arm for a run that has only the fault of this place."""
    found: dict[str, Any] = {}
    for path, value in said.items():
        steps = path.replace("[", ".").replace("]", "").split(".")
        if steps[0] != "faults":
            found[path] = value
        elif steps[1] == str(place):
            found[".".join(("faults", "0", *steps[2:]))] = value
    return found


class _Quiet(Console):
    """Says what a person must know of a round, and on a terminal how far it is."""

    def __init__(self, called: str, cells: int, cycles: int, stream: TextIO) -> None:
        super().__init__(stream)
        self._called, self._wanted, self._made = called, cells * cycles, 0
        self._said = set[str]()  # a machine that carries little would say so again and again

    def say(self, text: str) -> None:
        loud = next((word for word in _LOUD if text.startswith(word)), None)
        if loud is not None and loud not in self._said:
            self._said.add(loud)
            super().say(text)

    def cycle(self, cycle: Cycle) -> None:
        self._made += 1
        self._draw()

    def _status(self) -> str:
        return f"{self._called}: {self._made} of {self._wanted} cycles"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A round that can be made on any machine that has the same programs and files."""

    begun: Round  # without its host
    data: Mapping[str, Any]  # its config
    called: Path  # whose directory the config's relative paths belong to
    programs: Mapping[str, Program]  # by the arm's name in the run
    cells: int
    time_s: float | None  # that is left for it, if nothing is made before


def prepare(loaded: Loaded, wanted: Wanted, slow_s: float) -> Prepared:
    """A round as plain data; nothing is touched. Raises ConfigError."""
    name = f"{wanted.number:04}-{wanted.fault.label}{'-fresh' if wanted.fresh else ''}"
    begun = Round(
        number=wanted.number,
        directory=f"{ROUNDS}/{name}",
        fault=wanted.fault.label,
        fault_hash=wanted.fault.hash,
        cycles=wanted.cycles,
        replicas=wanted.replicas,
        arms={arm.sweep.name: arm.key for arm in wanted.arms},
        fresh=wanted.fresh,
    )
    return Prepared(
        begun=begun,
        data=data_of(loaded, wanted, slow_s),
        called=loaded.called.absolute(),
        programs={arm.sweep.name: arm.program for arm in wanted.arms},
        cells=wanted.replicas * len(wanted.arms),
        time_s=wanted.time_s,
    )


def planned(data: Mapping[str, Any], called: Path) -> Plan:
    """What a round's config means. Raises ConfigError and MachineError."""

    def complain(where: KeyPath, what: str) -> str:
        return f"{called}: {yamlfile.show(where)}: {what}"

    return plan.build(shape.of_text(json.dumps(data), called), complain)


def console_of(prepared: Prepared, stream: TextIO) -> Console:
    """What people are shown while it is made."""
    begun = prepared.begun
    called = f"round {begun.number}, {begun.fault}"
    return _Quiet(called, prepared.cells, begun.cycles, stream)


def make(
    built: Plan, rehearsals: Sequence[plan.Rehearsal], directory: Path, console: Console
) -> bool:
    """Run it in a directory of its own, and write its report.

    Returns whether it was stopped by somebody. Raises what `chaosd run` raises.
    """
    try:
        directory.mkdir(parents=True)
    except OSError as failure:
        raise MachineError(f"{directory}: can't be made: {failure.strerror}") from None
    done, error = session.measured(built, rehearsals, directory, console)
    console.close()
    try:
        report.save(report.analyse(directory), directory)
    except ChaosdError as unwritten:
        raise error or unwritten from None
    if error is not None:
        raise error
    ending = ending_of(done.manifest)
    return ending is not None and ending.kind is EndKind.STOPPED
