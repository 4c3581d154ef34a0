"""A design's arms: what each says over the base, its key and its name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from random import Random
from typing import Any

from chaosd import plan
from chaosd.analysis.recovery import DEFINITIONS
from chaosd.config import shape
from chaosd.config.shape import Config
from chaosd.errors import ConfigError, MachineError
from chaosd.plugins.proxy import Proxy, Rewires, TakesOwnFile
from chaosd.sweep import axes
from chaosd.sweep.design import Loaded
from chaosd.sweep.values import SweepArm
from chaosd.system.files import MB, read_bytes

BASELINE = "baseline"
_NOTHING: Mapping[str, Any] = {}
_KEY_CHARS = 12
_VERSION = "proxy.version"
# What changes nothing that is measured.
_RUN_ONLY = ("name", "cells", "seed", "metrics", "runs", "slo", "until", "arms", "faults")
_PROGRAM = ("version", "binary", "image")
_FILE_BYTES_MAX = 16 * MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """A proxy's program, as far as it is known."""

    version: str | None
    sha256: str | None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A combination, and how it is made: `said` are the values that are set over the base."""

    sweep: SweepArm
    said: Mapping[str, Any]
    program: Program

    @property
    def key(self) -> str:
        return self.sweep.key


class Programs:
    """What program each version of the proxy is; asked once for each."""

    def __init__(self, loaded: Loaded, *, needed: bool) -> None:
        self._loaded, self._needed = loaded, needed
        self._known: dict[tuple[Any, ...], Program] = {}
        self.runtime = ""  # its name, once one was asked

    def of(self, config: Config) -> Program:
        """Raises what `chaosd run` raises, if the programs are needed."""
        tree = config.proxy.model_dump(mode="json")
        which = tuple(tree.get(key) for key in _PROGRAM)
        if which not in self._known:
            self._known[which] = self._ask(config)
        return self._known[which]

    def _ask(self, config: Config) -> Program:
        version = config.proxy.model_dump(mode="json").get("version")
        try:
            planned = plan.build(config, self._loaded.complain)
            self.runtime = planned.runtime_name
            (rehearsal,) = plan.rehearse(planned)
        except (MachineError, ConfigError):
            if self._needed:
                raise
            return Program(version=version, sha256=None)
        found = rehearsal.proxy_version or version
        return Program(version=found, sha256=rehearsal.binary_sha256)


class Base:
    """What an arm is that says nothing: its config, and the value at each path.

    With `said` it is one that says so, such as a baseline that is a config of its own.
    """

    def __init__(self, loaded: Loaded, said: Mapping[str, Any] = _NOTHING) -> None:
        self.config = shape.of_data(loaded.with_values(said), loaded.called)
        self.proxy: Proxy = plan.proxy_of(self.config)
        self._tree = self.config.model_dump(mode="json")
        self._own: dict[str, Any] | None = None
        self.digest = own_digest(self.proxy)
        if self.digest and isinstance(self.proxy, TakesOwnFile):
            if problems := self.proxy.problems():
                raise ConfigError(*problems)
            self._own = self.proxy.settings()
            # What the file says may be this machine's variables.
            own = json.dumps([self.digest, self._own], sort_keys=True)
            self.digest = hashlib.sha256(own.encode()).hexdigest()

    def value(self, path: str) -> Any:
        """What holds at a path, where no arm says it; None if nobody knows."""
        head, _, rest = path.partition(".")
        if head == "proxy" and self._own is not None and rest.split(".")[0] in self._own:
            return at(self._own, rest)
        return at(self._tree, path)


def own_digest(proxy: Proxy) -> str:
    """Of the user's own files; empty if there are none. Raises OSError."""
    own = proxy.own_files() if isinstance(proxy, Rewires) else ()
    hashed = hashlib.sha256()
    for path in own:
        inside = sorted(path.iterdir()) if path.is_dir() else [path]
        for each in inside:
            hashed.update(read_bytes(each, _FILE_BYTES_MAX))
    return hashed.hexdigest() if own else ""


def at(tree: Any, path: str) -> Any:
    """The value at a path of plain data; None where there is none."""
    for step in re.findall(r"[^.\[\]]+", path):
        if isinstance(tree, list) and step.isdecimal() and int(step) < len(tree):
            tree = tree[int(step)]
        elif isinstance(tree, dict):
            tree = tree.get(step)
        else:
            return None
    return tree


def key_of(config: Config, said: Mapping[str, Any], program: Program, digest: str) -> str:
    """The hash of all that decides what an arm does, but for the faults that all arms meet."""
    tree = {k: v for k, v in config.model_dump(mode="json").items() if k not in _RUN_ONLY}
    tree["proxy"] = {k: v for k, v in tree["proxy"].items() if k not in _PROGRAM}
    own_faults = {path: value for path, value in said.items() if path.startswith("faults")}
    what = [tree, own_faults, program.version, program.sha256, digest, DEFINITIONS]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:_KEY_CHARS]


# --- all of them ---


def combinations(loaded: Loaded, base: Base, seed: int) -> Sequence[axes.Combination]:
    """What varies, each combination once; not the baseline. Raises ConfigError."""
    design = loaded.design
    count = 1
    for axis in loaded.axes.values():
        count *= 1 if isinstance(axis, axes.SameAs) else len(axes.values_of(axis))
    if design.how == "product" and count > axes.COMBINATIONS_MAX:
        what = f"vary: {count:,} combinations (at most {axes.COMBINATIONS_MAX:,}; or how: lhs)"
        raise ConfigError(f"{loaded.path}: {what}")
    if design.how == "lhs":
        rng = Random(f"{seed} design")  # noqa: S311 - repeatable is the point
        found: Iterator[axes.Combination] = axes.latin(loaded.axes, design.samples or 0, rng)
    elif design.how == "one_at_a_time":
        found = axes.one_at_a_time(loaded.axes, {p: base.value(p) for p in loaded.axes})
    else:
        found = axes.all_of(loaded.axes)
    distinct = list({json.dumps(each, sort_keys=True): each for each in found}.values())
    loaded.find_baseline(distinct)
    return distinct


class Maker:
    """Makes arms of combinations."""

    def __init__(self, loaded: Loaded, base: Base, programs: Programs) -> None:
        self.loaded, self.base, self.programs = loaded, base, programs
        self._latest: tuple[Mapping[str, Any], Config] | None = None

    def config(self, said: Mapping[str, Any]) -> Config:
        """The base's config with these values over it; that of the latest arm is known still."""
        if self._latest is None or self._latest[0] is not said:
            data = self.loaded.with_values(said)
            self._latest = said, shape.of_data(data, self.loaded.called)
        return self._latest[1]

    def baseline(self) -> Arm:
        """The arm that others are held against."""
        return self.arm(self.loaded.baseline, BASELINE)

    def arm(self, values: Mapping[str, Any], name: str = "") -> Arm:
        """Raises ConfigError for values that can't be together."""
        loaded, base = self.loaded, self.base
        config = self.config(values)
        tree = config.model_dump(mode="json")
        # What the base has anyway is not said: the same settings are the same arm.
        said = {p: v for p, v in values.items() if _text(at(tree, p)) != _text(base.value(p))}
        if len(said) < len(values):
            config = self.config(said)
            tree = config.model_dump(mode="json")
        self._latest = said, config
        program = self.programs.of(config)
        if "proxy" in said:  # another config altogether
            base = Base(loaded, said)
        held = {path: at(tree, path) if path in said else base.value(path) for path in loaded.axes}
        if held.get(_VERSION, "") is None:
            held[_VERSION] = _line_of(program.version, loaded.values_at(_VERSION))
        name = name or axes.name_of(loaded.axes, held)
        key = key_of(config, said, program, base.digest)
        arm = SweepArm(key=key, name=name, values=held, baseline=name == BASELINE)
        return Arm(sweep=arm, said=said, program=program)

    def ask_programs(self) -> None:
        """Know the program of each version before there are many arms."""
        paths = [f"proxy.{name}" for name in _PROGRAM if f"proxy.{name}" in self.loaded.axes]
        for each in product(*(self.loaded.values_at(path) for path in paths)):
            self.arm(dict(zip(paths, each, strict=True)))
        self.baseline()


def distinct(arms: Iterable[Arm]) -> list[Arm]:
    """Each arm once, with a name of its own; the first of those that are the same stays."""
    found: dict[str, Arm] = {}
    names: set[str] = set()
    for arm in arms:
        if arm.key in found:
            continue
        name = arm.sweep.name
        if name in names:
            name = f"{name[:34]}-{arm.key[:5]}"
        names.add(name)
        found[arm.key] = replace(arm, sweep=replace(arm.sweep, name=name))
    return list(found.values())


def _line_of(version: str | None, tried: Sequence[Any]) -> str | None:
    """The version that is tried of which this one is, as 2.6.12 is of 2.6; else itself."""
    lines = [str(each) for each in tried if f"{version}.".startswith(f"{each}.")]
    return max(lines, key=len, default=version)


def _text(value: Any) -> str:
    """For comparing: to Python, true and 1 are equal."""
    return json.dumps(value, sort_keys=True)
