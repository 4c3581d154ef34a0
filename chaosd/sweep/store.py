"""The directory of a sweep, safe from kill -9 at any moment.

    sweep.json      the design, the seed, and all arms by their keys; replaced as a whole
    blocks.jsonl    appended: each round before it begins, each arm that is stopped, each answer
                    with fresh cycles, and of a sweep over machines each host, and each round that
                    was brought here
    rounds/0001-…/  a round: an ordinary run directory
    answer.json, answer.html
    lock            held by the process that measures

What was seen is read from the rounds themselves, so that a round that was cut off counts as far as
it came.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from math import inf, isfinite
from pathlib import Path
from typing import Any, TypeVar

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
LOCK = "lock"  # has nothing in it
OWN = {ROUNDS, LOCK, f"{SWEEP}.tmp"}  # what one that was killed before it had begun leaves
_BYTES_MAX = 64 * files.MB

T = TypeVar("T")


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
    """An arm that is not measured any more, and what that stands on.

    Another design may want more of it: other faults or objectives (`basis`), a better precision
    than its share, or the arm that dominates it may be gone.
    """

    key: str
    why: str
    basis: str = ""  # `Plan.basis`; empty: by a version of chaosd that did not say
    by: str | None = None  # the key of the arm that dominates it
    share: float | None = None  # of its value, to which each objective is known

    def stands(self, plan: Plan) -> bool:
        """Whether it is a reason for this plan, too."""
        keys = {arm.key for arm in plan.arms}
        if self.key not in keys or (self.by is not None and self.by not in keys):
            return False
        precision = plan.precision
        if self.share is not None and (precision is None or self.share > precision):
            return False
        return self.basis in ("", plan.basis)


@dataclass(frozen=True, kw_only=True)
class Brought:
    """A round that was made elsewhere and is here now."""

    number: int
    host: str
    took_s: float  # from the moment it was given to the host until it was here
    run_s: float  # of that the run itself, from its begin to its end
    bytes: int  # that came over the network
    given_unix: float = 0.0  # when it was given, by the clock of who collects; 0: not known


@dataclass(frozen=True, kw_only=True)
class Answered:
    """An answer that was shown, and how many fresh cycles were in it."""

    fresh: int


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
    precision: float | None = None  # at which an arm is known well enough

    @property
    def basis(self) -> str:
        """A hash of all by which arms are held against each other."""
        what = [sorted(self.faults.items()), sorted(self.objectives)]
        return sha256(json.dumps(what).encode()).hexdigest()[:12]


_Line = Round | Stopped | Host | Brought | Answered


class Store:
    """One sweep's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def is_there(self) -> bool:
        return (self.directory / SWEEP).exists()

    def prepare(self) -> None:
        """Make it, unless it is there, and have it alone as long as this process lives.

        Raises ConfigError for a directory of something else, in which nothing is made.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            others = {path.name for path in self.directory.iterdir()} - OWN
            if others and not self.is_there():
                what = "is no sweep's directory (name another: --dir)"
                raise ConfigError(f"{self.directory}: {what}")
            self.rounds_directory.mkdir(exist_ok=True)
            self._lock()
        except OSError as error:
            raise MachineError(f"{self.directory}: can't be made: {error.strerror}") from None

    def _lock(self) -> None:
        """Two at once would take each other's numbers. Raises MachineError if somebody has it.

        It stays open: the kernel lets go of it with this process, however that ends.
        """
        held = os.open(self.directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Others say that this kind of file can't be locked.
            if error.errno in (errno.EACCES, errno.EAGAIN):
                what = "another chaosd measures this sweep (wait for it, or name another: --dir)"
                raise MachineError(f"{self.directory}: {what}") from None

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
            "precision": plan.precision,
            "arms": {arm.key: _arm_tree(arm, plan) for arm in plan.arms},
        }
        write_whole(self.directory / SWEEP, json.dumps(tree, indent=1) + "\n")

    def seed(self) -> int | None:
        """The seed that it was begun with. Raises MachineError for what is damaged."""
        return self.read().seed if self.is_there() else None

    def read(self) -> Plan:
        """Raises MachineError for what is damaged."""
        try:
            return _plan(self._tree())
        except KeyError as error:
            raise unreadable(self.directory / SWEEP, ValueError(f"no {error}")) from error
        except (TypeError, ValueError, AttributeError) as error:
            raise unreadable(self.directory / SWEEP, error) from error

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

    def answer(self, fresh: int) -> None:
        """An answer with so many fresh cycles is about to be shown."""
        if fresh and fresh not in self.answered():
            self._append({"answered": asdict(Answered(fresh=fresh))})

    def answered(self) -> list[int]:
        """How many fresh cycles were in each answer. Raises MachineError for what is damaged."""
        return [line.fresh for line in self._lines() if isinstance(line, Answered)]

    def rounds(self) -> list[Round]:
        """In their order; of one that was begun again after its host was lost, the last try.

        Raises MachineError for what is damaged.
        """
        every = (line for line in self._lines() if isinstance(line, Round))
        return list({begun.number: begun for begun in every}.values())

    def hosts(self) -> dict[str, Host]:
        """By their names, as they were last. Raises MachineError for what is damaged."""
        return {line.name: line for line in self._lines() if isinstance(line, Host)}

    def brought(self) -> list[Brought]:
        """Raises MachineError for what is damaged."""
        return [line for line in self._lines() if isinstance(line, Brought)]

    def stopped(self, plan: Plan) -> dict[str, str]:
        """Why arms of this plan are not measured any more. Raises MachineError for what is damaged.

        A stop of an earlier design counts as far as this one has the same reasons.
        """
        every = (line for line in self._lines() if isinstance(line, Stopped))
        return {line.key: line.why for line in every if line.stands(plan)}

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

    def _lines(self) -> Iterator[_Line | None]:
        path = self.directory / BLOCKS
        if path.exists():
            yield from lines_of(path, _line)


def _line(text: str) -> _Line | None:
    """Raises ValueError for what no version writes."""
    try:
        found = strict.parse(text)
    except ValueError:  # torn, and something was appended later
        return None
    if not isinstance(found, dict):
        return None
    if "round" in found:
        begun = _checked(Round, found["round"])
        # A round's own name: a directory that somebody sends must not lead elsewhere.
        parts = Path(begun.directory).parts
        if len(parts) != 2 or parts[0] != ROUNDS or parts[1] == "..":  # noqa: PLR2004
            raise ValueError(f"directory can't be {strict.shown(begun.directory)}")
        return begun
    if "host" in found:
        return _checked(Host, found["host"])
    if "brought" in found:
        return _checked(Brought, found["brought"])
    if "answered" in found:
        return _checked(Answered, found["answered"])
    return _checked(Stopped, found["stopped"]) if "stopped" in found else None


def _checked(kind: type[T], values: Any) -> T:
    """The dataclass of these stored values. Raises ValueError for any that is of another type."""
    if not isinstance(values, dict) or not strict.is_plain([values]):
        raise ValueError(f"a {kind.__name__.lower()} can't be {strict.shown(values)}")
    strict.check(kind, values)
    try:
        return kind(**values)
    except TypeError as error:
        raise ValueError(str(error).partition(") ")[2]) from error


def _arm_tree(arm: Arm, plan: Plan) -> dict[str, Any]:
    foretold = {
        fault: {name: value if isfinite(value) else None for name, value in asdict(each).items()}
        for (key, fault), each in plan.foretold.items()
        if key == arm.key
    }
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
    arms = {key: _arm_values(each) for key, each in _mapping(tree["arms"]).items()}
    return _checked_plan(
        name=tree["name"],
        seed=tree["seed"],
        design=tree["design"],
        faults=tree["faults"],
        objectives=tuple(Objective(each) for each in tree["objectives"]),
        arms=tuple(_arm(key, each) for key, each in arms.items()),
        lines={key: tuple(each["lines"]) for key, each in arms.items()},
        foretold={
            (key, fault): _foretold(found)
            for key, each in arms.items()
            for fault, found in _mapping(each["foretold"]).items()
        },
        unforetold={key: each["unforetold"] for key, each in arms.items() if each["unforetold"]},
        precision=tree.get("precision"),
    )


def _checked_plan(**values: Any) -> Plan:
    strict.check(Plan, values)
    if not strict.is_plain([values["design"]]) or not values["objectives"] or not values["arms"]:
        raise ValueError("no sweep has such a design, no objective, or no arm")
    return Plan(**values)


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{strict.shown(value)} has no names")
    return value


def _arm_values(tree: Any) -> dict[str, Any]:
    values = _mapping(tree)
    if not strict.is_plain([values]):
        raise ValueError("a value that can't be written again")
    shape = {"lines": list[str], "unforetold": str | None, "said": dict[str, Any]}
    for name, hint in shape.items():
        if not strict.fitting(name, hint)(values[name]):
            raise ValueError(f"{name} can't be {strict.shown(values[name])}")
    return values


def _arm(key: str, tree: Mapping[str, Any]) -> Arm:
    arm = {name: tree[name] for name in ("name", "values", "baseline")}
    program = _checked(Program, tree["program"])
    return Arm(sweep=_checked(SweepArm, {"key": key, **arm}), said=tree["said"], program=program)


def _foretold(values: Any) -> Foretold:
    """What never comes is stored as null: JSON has no infinity."""
    said = {name: inf if value is None else value for name, value in _mapping(values).items()}
    strict.check(Foretold, {name: value for name, value in said.items() if value != inf})
    return Foretold(**said)
