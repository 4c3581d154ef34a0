"""What the model says of all arms, before anything runs: thousands of them, on all cores."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any, NamedTuple

from chaosd import plan, plugins
from chaosd.analysis.front import front as undominated
from chaosd.plan.fitting import fitted_to_files
from chaosd.plan.foretelling import circumstances, clients, planned
from chaosd.plugins.proxy import ForetellsUsers
from chaosd.plugins.runtime import Pace
from chaosd.plugins.timeline import Unreached
from chaosd.report import words
from chaosd.sweep.arms import Arm, Base, Maker, Programs, distinct
from chaosd.sweep.axes import Combination
from chaosd.sweep.design import Loaded
from chaosd.sweep.measures import MARGIN_SHARE, MEASURES, foretold
from chaosd.sweep.values import Foretold, Objective
from chaosd.system import usage

ALONE_MAX = 60  # arms for which starting processes takes longer than it saves
CHUNK = 40  # arms that are given to a process at once
AUTO = "auto"
USUAL_RUNTIME = "local"

Said = Callable[[int, int], None]  # so many of so many are done


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """By arm and fault; of arms that the model does not reach, why."""

    foretold: Mapping[tuple[str, str], Foretold]
    unforetold: Mapping[str, str]

    def worst(self, key: str, faults: Sequence[str], objective: Objective) -> float | None:
        """Of several faults the worst counts; None where one is not known."""
        return foretold(self.foretold, key, faults, objective)


class Predicted(NamedTuple):
    """An arm, what is foretold of it by fault, and why there is nothing."""

    arm: Arm
    foretold: dict[str, Foretold]
    why: str = ""


def predict(
    maker: Maker, wanted: Sequence[Combination], runtime: str, said: Said
) -> tuple[list[Arm], Predictions]:
    """Make the arms, the baseline first, and ask the model about each under every fault.

    `runtime` is where they would run. Raises ConfigError for combinations that can't be.
    """
    maker.ask_programs()
    order = _alike_together(wanted)
    made: list[Predicted] = []
    said(0, len(wanted))
    for some in _chunks(maker, [wanted[place] for place in order], pace_of(runtime)):
        made += some
        said(len(made), len(wanted))
    by_place = dict(zip(order, made, strict=True))
    baseline = _one(maker, maker.baseline(), pace_of(runtime))
    found = [baseline, *(by_place[place] for place in range(len(wanted)))]
    arms = distinct(each.arm for each in found)
    return arms, Predictions(
        foretold={(p.arm.key, fault): each for p in found for fault, each in p.foretold.items()},
        unforetold={each.arm.key: each.why for each in found if each.why},
    )


def _alike_together(wanted: Sequence[Combination]) -> list[int]:
    """The places of all combinations, in an order in which those beside each other are alike.

    Those that differ in versions alone stand together: most versions are alike to a model, and what
    one process has looked at another one has not.
    """

    def without_versions(place: int) -> str:
        values = wanted[place]
        return json.dumps([v for path, v in values.items() if not path.endswith("version")])

    firsts: dict[str, int] = {}
    keys = [firsts.setdefault(without_versions(place), place) for place in range(len(wanted))]
    return sorted(range(len(wanted)), key=lambda place: (keys[place], place))


def pace_of(runtime: str) -> Pace:
    """How long the steps of a runtime take, about."""
    kind: Any = plugins.find("runtimes", USUAL_RUNTIME if runtime in ("", AUTO) else runtime)
    pace: Pace = kind.pace
    return pace


def _chunks(maker: Maker, wanted: Sequence[Combination], pace: Pace) -> Iterator[list[Predicted]]:
    cores = max(1, round(usage.limits().cores))
    if len(wanted) <= ALONE_MAX or cores == 1:
        for values in wanted:
            yield [_one(maker, maker.arm(values), pace)]
        return
    parts = [wanted[first : first + CHUNK] for first in range(0, len(wanted), CHUNK)]
    own = maker.loaded, maker.programs, pace
    with ProcessPoolExecutor(cores, get_context("spawn"), _begin, own) as pool:
        try:
            yield from pool.map(_several, parts)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_HERE: list[tuple[Maker, Pace]] = []  # of a process of the pool


def _begin(loaded: Loaded, programs: Programs, pace: Pace) -> None:
    _HERE[:] = [(Maker(loaded, Base(loaded), programs), pace)]


def _several(some: Sequence[Combination]) -> list[Predicted]:
    ((maker, pace),) = _HERE
    return [_one(maker, maker.arm(values), pace) for values in some]


def _one(maker: Maker, arm: Arm, pace: Pace) -> Predicted:
    config = maker.config(arm.said)
    proxy = plan.proxy_of(config)
    if not isinstance(proxy, ForetellsUsers):
        return Predicted(arm, {}, f"there is no model of {config.proxy.type}")
    config = fitted_to_files(config, proxy)
    known, asking = circumstances(config, pace), clients(config)
    found: dict[str, Foretold] = {}
    for part in config.faults:
        happening = planned(part, plugins.find("faults", part.type)(part), known)
        if isinstance(happening, str):
            return Predicted(arm, {}, f"{part.label}: {happening}")
        foretold = proxy.foretell(happening, asking, version=arm.program.version)
        if isinstance(foretold, Unreached):
            return Predicted(arm, {}, f"{part.label}: {words.unreached(foretold)}")
        found[part.label] = foretold
    return Predicted(arm, found)


# --- the front ---


def front(
    keys: Sequence[str],
    predictions: Predictions,
    faults: Sequence[str],
    objectives: Sequence[Objective],
) -> list[str]:
    """The arms that no other one is as good as in all objectives and better in one; best p95 first.

    It is the front of the answer (`analysis/front.py`), with the same margins; but of arms that are
    foretold the same only the first is taken.
    """
    points: dict[tuple[float, ...], str] = {}
    for key in keys:
        values = [predictions.worst(key, faults, objective) for objective in objectives]
        if all(each is not None for each in values):
            points.setdefault(tuple(_coarse(each) for each in values if each is not None), key)
    ordered = sorted(points)
    floors = [MEASURES[objective].floor for objective in objectives]
    return [points[ordered[place]] for place in undominated(ordered, floors, MARGIN_SHARE)]


def _coarse(number: float) -> float:
    """Three digits: what differs by less is the same for people, and for trials."""
    return float(f"{number:.3g}")
