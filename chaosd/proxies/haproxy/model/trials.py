"""The recovery that HAProxy's algorithm gives, by trying: the model, run in many phases.

Each trial begins in steady state, with polls and checks at phases that fill their periods evenly,
and goes on until the new instance answers fresh requests for good. Nothing is random but the
lateness of timers, and that is seeded: one timeline under one set of settings has one distribution.
The closed forms of `closed_forms.py` bound it; this says what is likely between those bounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha512
from random import Random
from typing import NamedTuple

from chaosd.history.cycles import Prediction
from chaosd.plugins.timeline import Timeline, Unreached
from chaosd.proxies.haproxy.model.algorithm import ProxyModel
from chaosd.proxies.haproxy.model.backend import CheckKind
from chaosd.proxies.haproxy.model.closed_forms import ARP_LATE_S_MAX, ARP_RETRY_S
from chaosd.proxies.haproxy.model.moves import Move, recognise
from chaosd.proxies.haproxy.model.server import SECOND_NS
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.proxies.haproxy.model.timeline_world import Tracks, TrackWorld, whole_ns

# What bounds the work: trials, and what the model does in all of them, at some 5 µs each.
TRIALS_MIN, TRIALS_MAX, STEPS_MAX = 32, 256, 1_500
STEPS_OF_A_TRIAL_MAX = 20_000
QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

# The sequence that fills a cube most evenly, whatever its length (R3, by the plastic number's kin).
_SPREAD = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


class Phases(NamedTuple):
    """Where a trial begins: parts of the periods of polls and of checks, and what chance does."""

    poll: float
    check: float
    coin: float
    seed: int


class Recovery(NamedTuple):
    """What one trial came to, in seconds after T0."""

    first_s: float  # the first fresh good answer
    stable_s: float  # the first one after which all are good: later only where it relapsed


def recoveries(
    settings: Settings, version: str | None, timeline: Timeline, *, steps_max: int = STEPS_MAX
) -> list[Recovery] | Unreached:
    """A recovery for each trial, the soonest first; or why there is none."""
    move = recognise(timeline, settings.prefers)
    if isinstance(move, Unreached):
        return move
    tracks = Tracks(timeline)
    found: list[Recovery] = []
    steps = 0
    for number in range(TRIALS_MAX):
        trial = _Trial(settings, version, move, tracks, phases_of(number))
        recovery = trial.run()
        if recovery is None:
            return Unreached.NO_RECOVERY
        found.append(recovery)
        steps += trial.steps
        if len(found) >= TRIALS_MIN and steps >= steps_max:
            break
    return sorted(found)


def distribution(band: Prediction, found: Sequence[Recovery]) -> Prediction:
    """The band of the closed form with what the trials say of its inside: mean and quantiles.

    The band itself stays: it holds for every phase, and trials only come near to its ends. Where
    some relapse, there is a distribution of the stable recovery, too, which has no band.
    """
    inside = [min(max(value.first_s, band.lower_s), band.upper_s) for value in found]
    stable = sorted(value.stable_s for value in found)
    relapses = sum(value.stable_s > value.first_s for value in found)
    return replace(
        band,
        mean_s=math.fsum(inside) / len(inside),
        quantiles_s=_quantiles(inside),
        stable_mean_s=math.fsum(stable) / len(stable),
        stable_quantiles_s=_quantiles(stable),
        relapse_share=relapses / len(found),
    )


def _quantiles(ordered: list[float]) -> dict[str, float]:
    return {f"p{round(p * 100):02}": round(quantile_s(ordered, p), 6) for p in QUANTILES}


def quantile_s(ordered: list[float], p: float) -> float:
    """The value at or below which this part of them lies."""
    return ordered[max(0, math.ceil(p * len(ordered)) - 1)]


@lru_cache(maxsize=1024)
def phases_of(number: int) -> Phases:
    """The phases of this trial, counted from 0: the same in each prediction."""
    poll, check, coin = ((0.5 + (number + 1) * step) % 1.0 for step in _SPREAD)
    # What `Random` would make of this text itself, each time anew.
    text = f"trial {(poll, check, coin)}".encode()
    return Phases(poll, check, coin, int.from_bytes(text + sha512(text).digest()))


class _Trial:
    """One move, met in one phase of the polls and one of the checks."""

    def __init__(
        self,
        settings: Settings,
        version: str | None,
        move: Move,
        tracks: Tracks,
        phases: Phases,
    ) -> None:
        self.steps = 0
        self._move = move
        self._listening_ns = whole_ns(move.listening_s)
        rng = Random(phases.seed)  # noqa: S311 - repeatable is the point
        self._again_ns = whole_ns(ARP_RETRY_S + rng.random() * ARP_LATE_S_MAX)
        self._asked_ns: int | None = None  # when the first request went to the new host
        # A vacant IP refuses on loopback and is a black hole on a bridge: half of each.
        self._world = TrackWorld(tracks, rng, vacant_refuses=phases.coin < 1 / 2)
        self._model = ProxyModel(
            settings,
            version,
            self._world,
            rng,
            start_ns=0,
            poll_at_ns=round(phases.poll * settings.timeout_resolve_ns),
            check_at_ns=round(phases.check * settings.inter_ns),
            servers=1 + len(move.others),
        )
        self._model.settle(0, [move.old, *move.others])

    def run(self) -> Recovery | None:
        """The recovery; None if there is none in any reasonable time."""
        model, at_ns = self._model, 0
        next_ns = model.next_ns()
        while self.steps < STEPS_OF_A_TRIAL_MAX:
            self.steps += 1
            if self._is_usable():
                if self._asked_ns is None:
                    self._asked_ns = at_ns
                arrived_ns = max(at_ns, self._listening_ns, self._reached_ns(self._asked_ns))
                if arrived_ns <= next_ns:
                    stable_ns = self._stable_ns(arrived_ns)
                    return Recovery(arrived_ns / SECOND_NS, stable_ns / SECOND_NS)
            at_ns = next_ns
            next_ns = model.advance_to_next(at_ns)
        return None

    def _is_usable(self) -> bool:
        new = self._move.new
        for server in self._model.servers:  # noqa: SIM110 - `any` takes twice the time
            if server.ip == new and server.usable:
                return True
        return False

    def _stable_ns(self, recovered_ns: int) -> int:
        """When it recovered for good, if it first did at this instant.

        A check that began at the old address may still take the server DOWN. The first one that the
        new instance passes makes it whole again, from then on nothing changes.
        """
        model, stable_ns = self._model, recovered_ns
        if model.backend.servers[0].check is CheckKind.NONE:
            return stable_ns
        was_usable, next_ns = True, model.next_ns()
        for _ in range(STEPS_OF_A_TRIAL_MAX):
            at_ns = next_ns
            self._world.passed = None
            next_ns = model.advance_to_next(at_ns)
            usable = self._is_usable()
            if usable and not was_usable:
                stable_ns = at_ns
            was_usable = usable
            if usable and self._world.passed == self._move.new:
                break
        return stable_ns

    def _reached_ns(self, asked_ns: int) -> int:
        """When packets arrive at the new host, if the first one was sent at this instant.

        That one asks for the host by ARP. If it does not answer yet, the kernel asks again in its
        own time, and holds back all packets until then.
        """
        reachable_s = self._move.reachable_s
        if reachable_s is None or asked_ns >= whole_ns(reachable_s):
            return asked_ns
        return asked_ns + self._again_ns
