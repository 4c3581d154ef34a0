"""The directory of a sweep, safe from kill -9 at any moment.

    sweep.json      the design, the seed, and all arms by their keys; replaced as a whole
    blocks.jsonl    appended: each round before it begins, each arm that is stopped, and of a sweep
                    over machines each host, and each round that was brought here
    rounds/0001-…/  a round: an ordinary run directory
    answer.json, answer.html

What was seen is read from the rounds themselves, so that a round that was cut off counts as far as
it came.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from chaosd import __version__
from chaosd.errors import ConfigError, MachineError
from chaosd.history import strict
from chaosd.history.reader import lines_of, unreadable
from chaosd.history.writer import write_whole
from chaosd.sweep.arms import Arm, Program
from chaosd.sweep.values import Foretold, Host, Objective, SweepArm
from chaosd.system import files

FORMAT = 1
SWEEP, BLOCKS, ROUNDS = "sweep.json", "blocks.jsonl", "rounds"
_BYTES_MAX = 64 * files.MB


@dataclass(frozen=True, kw_only=True)
class Round:
    """What a round was begun with: so many cycles of one fault, in each cell of each arm."""

    number: int
    directory: str  # relative to the sweep's
    fault: str  # its label
    fault_hash: str  # of all that it does
    cycles: int
    replicas: int
    arms: Mapping[str, str]  # name in the run → key
    fresh: bool
    host: str = ""  # where it was made; empty: by a version of chaosd that did not say


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """An arm that is not measured any more."""

    key: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A round that was made elsewhere and is here now."""

    number: int
    host: str
    took_s: float  # from the moment it was given to the host until it was here
    run_s: float  # of that the run itself, from its begin to its end
    bytes: int  # that came over the network


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a sweep is about, as sweep.json has it."""

    name: str
    seed: int
    design: Mapping[str, Any]
    faults: Mapping[str, str]  # label → the hash of what it does
    objectives: tuple[Objective, ...]
    arms: tuple[Arm, ...]
    lines: Mapping[str, tuple[str, ...]]
    foretold: Mapping[tuple[str, str], Foretold] = field(default_factory=dict)
    unforetold: Mapping[str, str] = field(default_factory=dict)


class Store:
    """One sweep's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def is_there(self) -> bool:
        return (self.directory / SWEEP).exists()

    def prepare(self) -> None:
        """Make it, unless it is there. Raises ConfigError for a directory of something else."""
        try:
            self.rounds_directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"{self.directory}: can't be made: {error.strerror}") from None
        others = {path.name for path in self.directory.iterdir()} - {ROUNDS}
        if others and not self.is_there():
            raise ConfigError(f"{self.directory}: is no sweep's directory (name another: --dir)")

    @property
    def rounds_directory(self) -> Path:
        return self.directory / ROUNDS

    # --- what it is about ---

    def write(self, plan: Plan) -> None:
        tree = {
            "format": FORMAT,
            "chaosd": __version__,
            "name": plan.name,
            "seed": plan.seed,
            "design": plan.design,
            "faults": plan.faults,
            "objectives": plan.objectives,
            "arms": {arm.key: _arm_tree(arm, plan) for arm in plan.arms},
        }
        write_whole(self.directory / SWEEP, json.dumps(tree, indent=1) + "\n")

    def seed(self) -> int | None:
        """The seed that it was begun with."""
        return int(self._tree["seed"]) if self.is_there() else None

    def read(self) -> Plan:
        """Raises MachineError for what is damaged."""
        try:
            return _plan(self._tree)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise unreadable(self.directory / SWEEP, error) from error

    @cached_property
    def _tree(self) -> dict[str, Any]:
        path = self.directory / SWEEP
        try:
            tree = strict.parse(files.read_bytes(path, _BYTES_MAX))
        except (OSError, ValueError) as error:
            raise unreadable(path, error) from error
        if not isinstance(tree, dict) or tree.get("format") != FORMAT:
            raise MachineError(f"{path}: is of another version of chaosd")
        return tree

    # --- what has happened ---

    def begin(self, begun: Round) -> None:
        """Said before it is done."""
        self._append({"round": asdict(begun)})

    def stop(self, stopped: Stopped) -> None:
        self._append({"stopped": asdict(stopped)})

    def admit(self, host: Host) -> None:
        """A machine that makes rounds from now on."""
        self._append({"host": asdict(host)})

    def bring(self, brought: Brought) -> None:
        self._append({"brought": asdict(brought)})

    def rounds(self) -> list[Round]:
        """In their order; of one that was begun again after its host was lost, the last try."""
        every = (Round(**line["round"]) for line in self._lines() if "round" in line)
        return list({begun.number: begun for begun in every}.values())

    def hosts(self) -> dict[str, Host]:
        """By their names, as they were last."""
        every = (Host(**line["host"]) for line in self._lines() if "host" in line)
        return {host.name: host for host in every}

    def brought(self) -> list[Brought]:
        return [Brought(**line["brought"]) for line in self._lines() if "brought" in line]

    def stopped(self) -> dict[str, str]:
        lines = (line["stopped"] for line in self._lines() if "stopped" in line)
        return {line["key"]: line["why"] for line in lines}

    def _append(self, line: Mapping[str, Any]) -> None:
        path = self.directory / BLOCKS
        try:
            with path.open("ab+") as file:
                size = file.seek(0, os.SEEK_END)
                if size and (file.seek(size - 1), file.read(1))[1] != b"\n":
                    file.write(b"\n")  # torn by a crash: that line never counts
                file.write(json.dumps(line).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise MachineError(f"{path}: can't be written: {error.strerror}") from None

    def _lines(self) -> Iterator[dict[str, Any]]:
        path = self.directory / BLOCKS
        if path.exists():
            yield from (line for line in lines_of(path, _line) if line is not None)


def _line(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:  # torn, and something was appended later
        return None
    return found if isinstance(found, dict) else None


def _arm_tree(arm: Arm, plan: Plan) -> dict[str, Any]:
    foretold = {f: asdict(each) for (key, f), each in plan.foretold.items() if key == arm.key}
    return {
        "name": arm.sweep.name,
        "baseline": arm.sweep.baseline,
        "values": arm.sweep.values,
        "said": arm.said,
        "program": asdict(arm.program),
        "lines": plan.lines.get(arm.key, ()),
        "foretold": foretold,
        "unforetold": plan.unforetold.get(arm.key),
    }


def _plan(tree: Mapping[str, Any]) -> Plan:
    arms: Mapping[str, Mapping[str, Any]] = tree["arms"]
    return Plan(
        name=str(tree["name"]),
        seed=int(tree["seed"]),
        design=tree["design"],
        faults=tree["faults"],
        objectives=tuple(Objective(each) for each in tree["objectives"]),
        arms=tuple(_arm(key, each) for key, each in arms.items()),
        lines={key: tuple(each["lines"]) for key, each in arms.items()},
        foretold={
            (key, fault): Foretold(**found)
            for key, each in arms.items()
            for fault, found in each["foretold"].items()
        },
        unforetold={key: each["unforetold"] for key, each in arms.items() if each["unforetold"]},
    )


def _arm(key: str, tree: Mapping[str, Any]) -> Arm:
    arm = SweepArm(
        key=key, name=tree["name"], values=tree["values"], baseline=bool(tree["baseline"])
    )
    return Arm(sweep=arm, said=tree["said"], program=Program(**tree["program"]))
