"""Some arms of a sweep once more, by `chaosd run`: for the benchmarks that check its numbers."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chaosd.cli import sweep as command
from chaosd.errors import ConfigError
from chaosd.sweep import rounds, seeing
from chaosd.sweep.arms import Arm, Base
from chaosd.sweep.design import Loaded
from chaosd.sweep.rounds import Fault
from chaosd.sweep.store import Round
from chaosd.sweep.values import Seen

EVERY = {"min": "5s", "max": "8s"}


def chaosd(*words: str, cwd: Path, limit_s: float) -> tuple[int, str, float]:
    """Its exit code, what it says, and how long it took; 124 if it was stopped at the limit."""
    began_s = time.monotonic()
    running = subprocess.Popen(
        [sys.executable, "-m", "chaosd", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = running.communicate(timeout=limit_s)
        code = running.returncode
    except subprocess.TimeoutExpired:
        running.terminate()  # it ends as after Ctrl-C: nothing is left
        said, code = running.communicate()[0], 124
    return code, said, time.monotonic() - began_s


def loaded(design: Path, own: Sequence[str] = ()) -> Loaded:
    """A design as the command reads it; `own` are its options for the user's own files."""
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    return command._loaded(parser.parse_args([str(design), *own]))


@dataclass(frozen=True, kw_only=True)
class Made:
    """What a run has shown."""

    seen: tuple[Seen, ...]
    blocks: int
    poor: int
    took_s: float


def run(
    design: Loaded,
    fault: Fault,
    arms: Sequence[Arm],
    *,
    cycles: int,
    where: Path,
    limit_s: float,
    cells: int = 1,
) -> Made:
    """Arms side by side in an ordinary run of its own, by `chaosd run`. `where` is a new place.

    Each arm has so many cells, and its cycles are shared out among them.
    """
    where.mkdir(parents=True)
    data = design.with_values({})
    happens = dict(fault.data)
    if not fault.paced:
        happens = {k: v for k, v in happens.items() if k not in ("jitter", "cron")}
        happens["every"] = EVERY
    said = [(arm, rounds._of_fault(arm.said, fault.place)) for arm in arms]
    data |= {
        "name": "afresh",
        "faults": [happens],
        "metrics": None,
        "runs": {"directory": str(where / "runs")},
        "cells": cells,
        "until": {"cycles": -(-cycles // cells), "time": f"{limit_s:.0f}s"},
        "arms": [{"name": arm.sweep.name, **values} for arm, values in said],
    }
    for key in ("seed", "slo"):
        data.pop(key, None)
    path = (where / "afresh.json").absolute()
    path.write_text(json.dumps(data))
    code, text, _ = chaosd("run", str(path), cwd=where, limit_s=limit_s + 120)
    found = [
        each.parent for each in (where / "runs").glob("*/run.json") if not each.parent.is_symlink()
    ]
    if not found:
        raise ConfigError(f"{path}: exit code {code}: {text[-2000:]}")
    begun = Round(
        number=1,
        directory=found[0].name,
        fault=fault.label,
        fault_hash=fault.hash,
        cycles=cycles,
        replicas=cells,
        arms={arm.sweep.name: arm.key for arm in arms},
        fresh=True,
    )
    shown = seeing.look(found[0].parent, begun, 0)
    return Made(seen=shown.seen, blocks=shown.blocks, poor=shown.poor, took_s=shown.took_s)


def faults_of(design: Loaded) -> list[Fault]:
    return rounds.faults_of(design, Base(design).config)
