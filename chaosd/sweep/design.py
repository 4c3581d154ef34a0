"""A design: what varies, which faults it meets, and what is wanted. A file in, a value out.

Every mistake is found in one pass and said as `file:line: path: what is wrong (what would be
right)`, like those of a run's config (`config/shape.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from chaosd import plugins
from chaosd.config import shape, yamlfile
from chaosd.config.arms import ArmPart, arm_problems
from chaosd.config.complaints import complaints
from chaosd.config.values import Name
from chaosd.config.yamlfile import Problem
from chaosd.dns.presets import PRESETS
from chaosd.errors import ConfigError
from chaosd.plugins.bases import KeyPath, Part
from chaosd.plugins.parts import concrete
from chaosd.sweep.axes import COMBINATIONS_MAX, AnyAxis, Axis, SameAs, values_of
from chaosd.sweep.values import Objective
from chaosd.units import Percent, PositiveDuration

CYCLES = 30  # of each arm and fault, where nobody says otherwise
_CADENCE = {"every", "cron"}
ROUND_EVERY = "10s"  # stands for a cadence that a sweep chooses itself


class Until(Part):
    """When an arm, or all of the sweep, has had enough."""

    cycles: int = Field(CYCLES, ge=1, le=10_000, description="of each arm under each fault")
    time: PositiveDuration | None = Field(None, description="of measuring, in all")
    precision: Percent | None = Field(
        None, description="an arm whose numbers are known so well is not measured any more"
    )


class Design(Part):
    """What a sweep tries."""

    name: Name = Field(description="what the sweep and its directory are called: a-z, 0-9 and -")
    base: Path | None = Field(
        None, description="the config that the arms are variants of, relative to this file"
    )
    haproxy: Path | tuple[Path, ...] | None = Field(
        None, description="or your own files as they are, relative to this file"
    )
    backend: str | None = Field(None, description="of your own files: the backend that moves")
    env: Path | None = Field(None, description="of your own files: NAME=value lines")
    host: str | None = Field(None, description="of your own files: the host to ask for")
    path: str | None = Field(None, description="of your own files: the path to ask for")
    vary: dict[str, AnyAxis] = Field(
        min_length=1, max_length=20, description="by config path: the values that are tried"
    )
    how: Literal["product", "lhs", "one_at_a_time"] = Field(
        "product", description="all combinations, a Latin hypercube, or one change at a time"
    )
    samples: int | None = Field(None, ge=2, le=COMBINATIONS_MAX, description="for `how: lhs`")
    faults: tuple[str | dict[str, Any], ...] = Field(
        (), max_length=8, description="what each arm meets; not set: the faults of the base"
    )
    baseline: dict[str, Any] = Field(
        {}, description="by config path: what is held against; the base itself if not set"
    )
    minimize: tuple[Objective, ...] = Field(
        (Objective.RECOVERY_P95, Objective.FAILED, Objective.MISROUTED, Objective.DNS_QUERIES),
        min_length=1,
        description="what the best arm has little of; of several faults the worst counts",
    )
    seed: int | None = Field(None, ge=0, description="repeats the schedules of an earlier sweep")
    until: Until = Until()

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.base is not None and self.haproxy is not None:
            raise ValueError(
                "`base` and `haproxy` don't go together (in a base it is proxy.config)"
            )
        if (self.how == "lhs") != (self.samples is not None):
            raise ValueError("`how: lhs` and `samples` go together (such as samples: 30)")
        return self


class Loaded:
    """A design and what it is a variant of: the plain data of the base, with its faults."""

    def __init__(self, design: Design, path: Path, document: yamlfile.Document) -> None:
        self.design, self.path, self._document = design, path, document
        self.base: dict[str, Any] = {}
        self.called = path  # whose directory relative paths of the base belong to
        self.paced: tuple[bool, ...] = ()  # of each fault: whether the design says its cadence

    @property
    def axes(self) -> Mapping[str, Axis]:
        return self.design.vary

    @property
    def said(self) -> Mapping[str, Any]:
        """What the file says, as plain data."""
        data: Mapping[str, Any] = self._document.data
        return data

    def stand_on(self, base: yamlfile.Document, called: Path) -> None:
        """Take this as the base. Raises ConfigError for all that is wrong with both."""
        data = base.data
        data.pop("arms", None)
        self.called = called
        faults = [self._fault(n, said, data) for n, said in enumerate(self.design.faults)]
        problems = [each for each in faults if isinstance(each, Problem)]
        if faults and not problems:
            data["faults"] = faults
        listed = data.setdefault("faults", [{"type": "recreate", "every": ROUND_EVERY}])
        says = [isinstance(said, dict) and said.keys() & _CADENCE for said in self.design.faults]
        self.paced = tuple(map(bool, says or [False] * len(listed)))
        self.base = data
        try:
            shape.of_data(_copy(data), called)
        except ConfigError as error:
            raise ConfigError(*map(self._line, problems), *error.problems) from None
        problems += [*self._untied(), *self._shared(), *self._impossible_values()]
        self._refuse(problems)

    def with_values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The data of an arm's config. Raises ConfigError."""
        document = self._assigned(values)
        if document.problems:
            raise ConfigError(*(self._line(problem) for problem in document.problems))
        data: dict[str, Any] = document.data
        return data

    def values_at(self, path: str) -> Sequence[Any]:
        """All values that are tried at a path that varies."""
        axis = self.axes.get(path)
        if isinstance(axis, SameAs):
            other = self.axes.get(axis.same_as)
            return [] if other is None or isinstance(other, SameAs) else values_of(other)
        return [] if axis is None else values_of(axis)

    def complain(self, where: KeyPath, what: str) -> str:
        """A problem of a whole config, which has no line of its own in a design."""
        return f"{self.called}: {yamlfile.show(where)}: {what}"

    # --- what is wrong ---

    def _assigned(self, values: Mapping[str, Any]) -> yamlfile.Document:
        document = yamlfile.Document(_copy(self.base))
        for target, value in values.items():
            place = f"{self.path}:{self._place(target)}"
            yamlfile.assign(document, target, value, place, shape.defaults())
        return document

    def _place(self, target: str) -> int | str:
        for part in ("vary", "baseline"):
            if (place := self._document.lines.get((part, target))) is not None:
                return place
        return 1

    def _untied(self) -> Iterator[Problem]:
        for target, axis in self.axes.items():
            if isinstance(axis, SameAs):
                other = self.axes.get(axis.same_as)
                if other is None or isinstance(other, SameAs):
                    what = f"`{axis.same_as}` has no values of its own in `vary`"
                    yield self._problem(("vary", target), what)

    def _shared(self) -> Iterator[Problem]:
        part = ArmPart.model_validate({"name": "x", **dict.fromkeys(self._targets())})
        for problem in arm_problems((part,), 0, self._document):
            target = str(problem.path[-1])
            section = "vary" if target in self.axes else "baseline"
            yield self._problem((section, target), problem.what)

    def _targets(self) -> list[str]:
        return [*dict.fromkeys((*self.axes, *self.design.baseline))]

    def _impossible_values(self) -> Iterator[Problem]:
        """Each value by itself: what is wrong with it is said once, at its line."""
        tried = [(target, value) for target in self.axes for value in self.values_at(target)]
        for target, value in [*tried, *self.design.baseline.items()]:
            document = self._assigned({target: value})
            try:
                shape.validated(document, self.called)
            except ConfigError as error:
                for line in error.problems:
                    yield Problem(line, (), "")

    def _fault(self, place: int, said: str | dict[str, Any], base: Any) -> Any:
        """A fault's part of the config: one of the base, by its plugin's name, or a preset's."""
        if isinstance(said, dict):
            return {"every": ROUND_EVERY, **said} if "cron" not in said else said
        listed = base.get("faults")
        for fault in listed if isinstance(listed, list) else ():
            if isinstance(fault, dict) and said == (fault.get("name") or fault.get("type")):
                return fault
        if said in plugins.available("faults"):
            return {"type": said, "every": ROUND_EVERY}
        if said in PRESETS:
            return {"type": "dns", "preset": said, "name": said, "every": ROUND_EVERY}
        known = ", ".join(plugins.available("faults"))
        what = f"there is no fault `{said}` (known: {known}, and the presets of docs/dns-faults.md)"
        return self._problem(("faults", place), what)

    def _problem(self, where: KeyPath, what: str) -> Problem:
        return Problem(self._document.place(where), where, what)

    def _line(self, problem: Problem) -> str:
        return str(problem.place) if not problem.what else shape.line(self.path, problem)

    def _refuse(self, problems: list[Problem]) -> None:
        if problems:
            raise ConfigError(*dict.fromkeys(map(self._line, problems)))


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Read a design. Raises ConfigError with every problem there is."""
    document = shape.document(path)
    for key, value in (overrides or {}).items():
        yamlfile.assign(document, key, value, f"--{key.rpartition('.')[2]}", {})
    try:
        text = json.dumps(document.data)
        design = Design.model_validate_json(text, strict=True)
    except ValidationError as error:
        taken = {problem.path for problem in document.problems}
        document.problems += [
            Problem(document.place(where), where, what)
            for where, what in complaints(error, Design, document.data, concrete)
            if where not in taken
        ]
    if document.problems:
        raise ConfigError(*(shape.line(path, problem) for problem in document.problems))
    return Loaded(design, path, document)


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    """A copy of plain data; as quick as can be, for there are thousands."""
    copied: dict[str, Any] = json.loads(json.dumps(data))
    return copied
