"""The answer of a sweep: all that text, JSON and the page say. Pure; made from Results alone."""

from __future__ import annotations

from dataclasses import dataclass

from chaosd.sweep.effects import Effect, Interaction, effects
from chaosd.sweep.hosts import HostPart, hosts
from chaosd.sweep.oddities import Oddity, oddities
from chaosd.sweep.recommend import Recommendation, recommend
from chaosd.sweep.standing import Basis, Standing, board
from chaosd.sweep.values import Results


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`recommendation` is None if nothing can be said: the command's exit code is 4 then."""

    results: Results
    basis: Basis  # of the front: what was measured, or the model alone
    standings: tuple[Standing, ...]  # of all arms, in the order of the design
    recommendation: Recommendation | None
    effects: tuple[Effect, ...]
    interactions: tuple[Interaction, ...]
    oddities: tuple[Oddity, ...]
    blocks: int  # that are not fresh
    fresh_blocks: int
    hosts: tuple[HostPart, ...] = ()

    @property
    def front(self) -> tuple[Standing, ...]:
        return tuple(standing for standing in self.standings if standing.in_front)

    @property
    def measured(self) -> tuple[Standing, ...]:
        return tuple(standing for standing in self.standings if standing.is_measured)

    @property
    def baseline(self) -> Standing | None:
        return next((s for s in self.standings if s.arm.baseline), None)


def answer(results: Results) -> Answer:
    """What the results say: as measured, or where nothing was measured, as foretold."""
    found = board(results)
    of_effects, interactions = effects(found)
    return Answer(
        results=results,
        basis=found.basis,
        standings=found.standings,
        recommendation=recommend(found),
        effects=of_effects,
        interactions=interactions,
        oddities=oddities(found),
        blocks=len({seen.block for seen in results.seen if not seen.fresh}),
        fresh_blocks=len({seen.block for seen in results.seen if seen.fresh}),
        hosts=hosts(results),
    )
