"""A design: what varies, which faults it meets, and what is wanted. A file in, a value out.

Every mistake is found in one pass and said as `file:line: path: what is wrong (what would be
right)`, like those of a run's config (`config/shape.py`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from chaosd import plugins
from chaosd.config import shape, yamlfile
from chaosd.config.arms import ArmPart, arm_problems
from chaosd.config.complaints import complaints
from chaosd.config.shape import Config
from chaosd.config.values import Name
from chaosd.config.yamlfile import Problem
from chaosd.dns.presets import PRESETS
from chaosd.errors import ConfigError
from chaosd.plugins.bases import KeyPath, Part
from chaosd.plugins.config_parts import concrete
from chaosd.sweep import baseline
from chaosd.sweep.axes import COMBINATIONS_MAX, AnyAxis, Axis, SameAs, all_of, values_of
from chaosd.sweep.values import Objective
from chaosd.units import Percent, PositiveDuration

CYCLES = 30  # of each arm and fault, where nobody says otherwise
_CADENCE = {"every", "cron"}
CONFIGS = (".yaml", ".yml", ".json")
_ALIKE = "all arms share it"
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
    baseline: dict[str, Any] | str = Field(
        {},
        description="what is held against: values by config path, the name of an arm, or the path "
        "of another config or of your own file; the base itself if not set",
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

    def __init__(
        self,
        design: Design,
        path: Path,
        document: yamlfile.Document,
        problems: Sequence[Problem] = (),
    ) -> None:
        self.design, self.path, self._document = design, path, document
        self._problems = list(problems)
        self._defaults = shape.defaults()
        self.base: dict[str, Any] = {}
        said = design.baseline
        self.baseline: Mapping[str, Any] = {} if isinstance(said, str) else said
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

    @property
    def baseline_file(self) -> Path | None:
        """Where the baseline is a config or a file of its own."""
        said = self.design.baseline
        if not isinstance(said, str):
            return None
        path = self.path.parent / said
        return None if baseline.is_name(said) and not path.exists() else path

    def refuse(self, *others: str) -> None:
        """Raises ConfigError for what is wrong so far, and for other lines, if there is any."""
        lines = [*map(self._line, sorted(self._problems, key=_by)), *others]
        if lines:
            raise ConfigError(*dict.fromkeys(lines))

    def stand_on(
        self,
        base: yamlfile.Document,
        called: Path,
        against: tuple[yamlfile.Document, Path] | None = None,
    ) -> None:
        """Take this as the base. Raises ConfigError for all that is wrong with both.

        `against` is the baseline, if it is a config of its own.
        """
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
        self._problems += problems
        others: Sequence[str] = ()
        try:
            config = shape.of_data(_copy(data), called)
            if against is not None:
                self._hold_against(config, *against)
        except ConfigError as error:
            others = error.problems
        else:
            self._problems += [*self._untied(), *self._shared(), *self._impossible_values()]
            if self.design.how == "product" and not self._problems:
                self.find_baseline(all_of(self.axes))
        self.refuse(*others)

    def find_baseline(self, combinations: Iterable[Mapping[str, Any]]) -> None:
        """If the baseline is the name of an arm, find it. Raises ConfigError if none has it."""
        said = self.design.baseline
        if not isinstance(said, str) or self.baseline_file is not None or self.baseline:
            return
        found = baseline.named(said, self.axes, combinations)
        if isinstance(found, str):
            self._problems.append(self._problem(("baseline",), found))
            self.refuse()
        else:
            self.baseline = found

    def _hold_against(self, base: Config, document: yamlfile.Document, path: Path) -> None:
        is_own_file = path.suffix not in CONFIGS
        document.data.pop("arms", None)
        other = shape.validated(document, path)
        found = [] if is_own_file else [*baseline.shared(base, other)]
        self._problems += [
            self._problem(("baseline",), f"{path}: its `{part}` is not the base's ({_ALIKE})")
            for part in found
        ]
        self.baseline = baseline.values_of(base, other, is_own_file=is_own_file)

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
            yamlfile.assign(document, target, value, place, self._defaults)
        return document

    def _place(self, target: str) -> int | str:
        if isinstance(self.design.baseline, str):
            return self._document.place(("vary", target) if target in self.axes else ("baseline",))
        for part in ("vary", "baseline"):
            if (place := self._document.lines.get((part, target))) is not None:
                return place
        return 1

    def _untied(self) -> Iterator[Problem]:
        for target, axis in self.axes.items():
            if isinstance(axis, SameAs):
                other = self.axes.get(axis.same_as)
                if other is None and axis.same_as in (self.said.get("vary") or ()):
                    continue  # it is wrong itself
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
        return [*dict.fromkeys((*self.axes, *self.baseline))]

    def _impossible_values(self) -> Iterator[Problem]:
        """Each value by itself: what is wrong with it is said once, at its line."""
        tried = [(target, value) for target in self.axes for value in self.values_at(target)]
        for target, value in [*tried, *self.baseline.items()]:
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


def load(path: Path, overrides: Mapping[str, Any] | None = None) -> Loaded:
    """Read a design. Raises ConfigError with every problem there is, if nothing can be made of it.

    Else the loaded design knows them, and `refuse` and `stand_on` raise them with their own.
    """
    document = shape.document(path)
    for key, value in (overrides or {}).items():
        yamlfile.assign(document, key, value, f"--{key.rpartition('.')[2]}", {})
    data, design = document.data, None
    while design is None:
        try:
            design = Design.model_validate_json(json.dumps(data), strict=True)
        except ValidationError as error:
            taken = {problem.path for problem in document.problems}
            found = [
                Problem(document.place(where), where, what)
                for where, what in complaints(error, Design, data, concrete)
                if where not in taken
            ]
            document.problems += found
            rest = _without(data, [problem.path for problem in found])
            if rest is None:
                raise ConfigError(*_lines(path, document.problems)) from None
            data = rest
    missing = [*_missing_files(document, path.parent)]
    return Loaded(design, path, document, [*document.problems, *missing])


def _without(data: dict[str, Any], wrong: Sequence[KeyPath]) -> dict[str, Any] | None:
    """The same without what is wrong, so that the rest can be looked at; None if nothing is left.

    A name that is wrong is another one.
    """
    rest = _copy(data)
    for where in wrong:
        if not where:
            return None
        if where[0] == "name":
            rest["name"] = "x"
        elif where[0] == "vary" and len(where) > 1:
            rest.get("vary", {}).pop(where[1], None)
        else:
            rest.pop(str(where[0]), None)
    return None if rest == data or not rest.get("vary") else rest


def _missing_files(document: yamlfile.Document, here: Path) -> Iterator[Problem]:
    """Paths of the design at which nothing is."""
    for key in ("base", "haproxy", "env", "baseline"):
        said = document.data.get(key)
        for place, each in enumerate(said if isinstance(said, list) else [said]):
            where: KeyPath = (key, place) if isinstance(said, list) else (key,)
            if not isinstance(each, str) or (key == "baseline" and baseline.is_name(each)):
                continue
            if not (here / each).exists():
                what = f"there is no {here / each} (paths are relative to the design's directory)"
                yield Problem(document.place(where), where, what)
            elif key == "base" and (here / each).suffix not in CONFIGS:
                what = f"{each} is no YAML (a file of HAProxy's own: haproxy: {each})"
                yield Problem(document.place(where), where, what)
            elif key == "haproxy" and (here / each).suffix in CONFIGS:
                what = f"{each} is a config of chaosd's (say base: {each})"
                yield Problem(document.place(where), where, what)


def _lines(path: Path, problems: Sequence[Problem]) -> list[str]:
    return [shape.line(path, problem) for problem in sorted(problems, key=_by)]


def _by(problem: Problem) -> int:
    if isinstance(problem.place, int):
        return problem.place
    found = re.search(r":(\d+): ", problem.place)
    return int(found[1]) if found else 0


def _copy(data: dict[str, Any]) -> dict[str, Any]:
    """A copy of plain data; as quick as can be, for there are thousands."""
    copied: dict[str, Any] = json.loads(json.dumps(data))
    return copied
