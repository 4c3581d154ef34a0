"""The recovery that HAProxy's algorithm gives, by trying: the model, run in many phases.

Each trial begins in steady state, with polls and checks at phases that fill their periods evenly,
and goes on until the new instance would answer a fresh request. Nothing is random but the lateness
of timers, and that is seeded: one move under one set of settings has one distribution. The closed
forms of `closed_forms.py` bound it; this says what is likely between those bounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random

from chaosd.history.cycles import Prediction
from chaosd.plugins.proxy import Move
from chaosd.proxies.haproxy.model.algorithm import SECOND_NS, ProxyModel
from chaosd.proxies.haproxy.model.closed_forms import ARP_LATE_S_MAX, ARP_RETRY_S
from chaosd.proxies.haproxy.model.settings import Settings
from chaosd.runtimes.sim.world import FOUND, RCODES, Answer, Connected

OLD, NEW, OTHER = "old", "new", "other"
# What bounds the work: trials, and what the model does in all of them, at some 5 µs each.
TRIALS_MIN, TRIALS_MAX, STEPS_MAX = 32, 256, 1_500
STEPS_OF_A_TRIAL_MAX = 20_000
QUANTILES = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)

# The sequence that fills a cube most evenly, whatever its length (R3, by the plastic number's kin).
_SPREAD = (0.8191725133961645, 0.6710436067037893, 0.5497004779019703)


def recoveries_s(
    settings: Settings, version: str | None, move: Move, *, steps_max: int = STEPS_MAX
) -> list[float]:
    """Seconds from T0 to the first fresh good answer, sorted, a value for each trial.

    Empty where the move's edges are unknown, or where it does not recover in any reasonable time.
    """
    if move.published_s is None or move.listening_s is None:
        return []
    found: list[float] = []
    steps = 0
    for phases in _phases():
        trial = _Trial(settings, version, move, phases)
        recovered_s = trial.run()
        if recovered_s is None:
            return []
        found.append(recovered_s)
        steps += trial.steps
        if len(found) >= TRIALS_MAX or (len(found) >= TRIALS_MIN and steps >= steps_max):
            break
    return sorted(found)


def distribution(
    settings: Settings,
    version: str | None,
    move: Move,
    band: Prediction,
    *,
    steps_max: int = STEPS_MAX,
) -> Prediction:
    """The band of the closed form with what the trials say of its inside: mean and quantiles.

    The band itself stays: it holds for every phase, and trials only come near to its ends.
    """
    found = recoveries_s(settings, version, move, steps_max=steps_max)
    if not found:
        return band
    inside = [min(max(value, band.lower_s), band.upper_s) for value in found]
    return replace(
        band,
        mean_s=math.fsum(inside) / len(inside),
        quantiles_s={f"p{round(p * 100):02}": round(quantile_s(inside, p), 6) for p in QUANTILES},
    )


def quantile_s(ordered: list[float], p: float) -> float:
    """The value at or below which this part of them lies."""
    return ordered[max(0, math.ceil(p * len(ordered)) - 1)]


def _phases() -> Iterator[tuple[float, float, float]]:
    count = 0
    while True:
        count += 1
        poll, check, coin = ((0.5 + count * step) % 1.0 for step in _SPREAD)
        yield poll, check, coin


class _Trial:
    """One move, met in one phase of the polls and one of the checks. A world for the model."""

    def __init__(
        self,
        settings: Settings,
        version: str | None,
        move: Move,
        phases: tuple[float, float, float],
    ) -> None:
        poll, check, coin = phases
        # A vacant IP refuses on loopback and is a black hole on a bridge: half of each.
        old_ip = move.old_ip if move.old_ip != "vacant" else ("refuse", "blackhole")[coin < 1 / 2]
        self.steps = 0
        self._move, self._at_old = move, FOUND[old_ip]
        self._published_ns = _ns(move.published_s)
        self._listening_ns = max(0, _ns(move.listening_s))
        self._missing_ns = self._published_ns
        if move.others:
            self._missing_ns = 0  # when the old IP went is not known: as early as can be
        elif move.missing_s is not None and move.missing_class != "stale":
            self._missing_ns = _ns(move.missing_s)
        self._rng = Random(f"trial {phases}")  # noqa: S311 - repeatable is the point
        self._again_ns = _ns(ARP_RETRY_S + self._rng.random() * ARP_LATE_S_MAX)
        self._asked_ns: int | None = None  # when the first request went to the new host
        self._model = ProxyModel(
            settings,
            version,
            self,
            self._rng,
            start_ns=0,
            poll_at_ns=round(poll * settings.timeout_resolve_ns),
            check_at_ns=round(check * settings.inter_ns),
            servers=2 if move.others else 1,
        )
        self._model.settle(0, [OLD, OTHER] if move.others else [OLD])

    def run(self) -> float | None:
        """The recovery; None if there is none in any reasonable time."""
        model, at_ns = self._model, 0
        while self.steps < STEPS_OF_A_TRIAL_MAX:
            self.steps += 1
            next_ns = model.next_ns()
            if any(server.usable and server.ip == NEW for server in model.servers):
                if self._asked_ns is None:
                    self._asked_ns = at_ns
                arrived_ns = max(at_ns, self._listening_ns, self._reached_ns(self._asked_ns))
                if arrived_ns <= next_ns:
                    return arrived_ns / SECOND_NS
            at_ns = next_ns
            model.advance(at_ns)
        return None

    def _reached_ns(self, asked_ns: int) -> int:
        """When packets arrive at the new host, if the first one was sent at this instant.

        That one asks for the host by ARP. If it does not answer yet, the kernel asks again in its
        own time, and holds back all packets until then.
        """
        reachable_s = self._move.reachable_s
        if reachable_s is None or asked_ns >= _ns(reachable_s):
            return asked_ns
        return asked_ns + self._again_ns

    # --- the world that the model meets ---

    def resolve(self, now_ns: int, qtype: str) -> Answer | None:
        rcode, ips = "NOERROR", [OLD]
        if now_ns >= self._published_ns:
            ips = [NEW]
        elif now_ns >= self._missing_ns:
            ips = []
        if self._move.others:
            ips = [OTHER, *ips]
        if not ips:
            rcode = RCODES.get(self._move.missing_class, "SERVFAIL")
            if not rcode:
                return None
        took_ns = _ns(self._move.dns_s) + self._rng.randrange(50_000, 400_000)
        return Answer(rcode, tuple(ips) if qtype == "A" else (), took_ns)

    def connect(self, now_ns: int, ip: str) -> Connected:
        if ip == NEW:
            return "ok" if now_ns >= self._listening_ns else "refused"
        return self._at_old if ip == OLD else "ok"

    def said(self, at_ns: int, what: str, data: object) -> None:
        """Nobody reads this proxy's log."""


def _ns(seconds: float | None) -> int:
    return round((seconds or 0.0) * SECOND_NS)
