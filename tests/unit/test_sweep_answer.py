"""The answer of a sweep: what it recommends, what it promises, what it marks; in text and JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from random import Random
from statistics import fmean

import budget
import pytest
import sweeps

from chaosd.sweep import oddities as module
from chaosd.sweep import text
from chaosd.sweep.answer import Answer, answer
from chaosd.sweep.effects import Direction
from chaosd.sweep.factors import is_baseline_apart
from chaosd.sweep.json import document
from chaosd.sweep.lines import differing
from chaosd.sweep.measures import mean
from chaosd.sweep.oddities import OddityKind, oddities
from chaosd.sweep.recommend import Recommendation, Rule, recommend
from chaosd.sweep.standing import Basis, board
from chaosd.sweep.values import Objective, Results, SweepArm

LAB, TRUTHS, _ = sweeps.lab(blocks=30)  # of 24 arms under two faults


@cache
def chosen() -> Recommendation:
    """What is recommended before there are fresh blocks."""
    found = recommend(board(LAB))
    assert found is not None
    return found


def with_fresh(worse_s: Callable[[str], float] = lambda _key: 0.0) -> Results:
    """Ten fresh blocks of the two that matter; so much later they recover in them."""
    truths = {
        key: replace(truth, least_s=truth.least_s + worse_s(key[0]))
        for key, truth in TRUTHS.items()
    }
    return sweeps.with_fresh(LAB, [chosen().arm.key, "k00"], truths, Random(2), 10)


@cache
def measured() -> Answer:
    return answer(with_fresh())


def test_it_recommends_the_cheapest_of_the_fastest() -> None:
    found = measured().recommendation
    assert found is not None
    values = found.arm.values
    assert values["proxy.resolvers.timeout_resolve"] == "200ms"
    assert values["proxy.redispatch"] is True
    assert values["proxy.version"] == "2.6"  # the baseline's: nothing speaks for another one
    assert found.rule is Rule.CHEAPEST_BY_VALUE  # 30 cycles have no upper bound of a p95
    assert (found.lines, found.without) == (("redispatch True",), ("redispatch False",))


def test_only_fresh_blocks_are_promised_and_they_choose_nothing() -> None:
    assert {gain.basis for gain in chosen().gains} == {Basis.MEASURED}
    # However bad the fresh ones are, the choice stands: only what is promised changes.
    after = recommend(board(with_fresh(lambda _key: 6.0)))
    assert after is not None
    assert after.arm == chosen().arm
    assert {gain.basis for gain in after.gains} == {Basis.FRESH}
    assert after.gains[0].after is not None
    assert after.gains[0].after > 6.0


def test_fresh_blocks_that_were_shown_before_have_intervals_that_hold_at_every_look() -> None:
    """After Ctrl-C somebody has seen a part of them, and has decided to go on."""
    once = recommend(board(with_fresh()))
    again = recommend(board(replace(with_fresh(), fresh_were_shown=True)))
    assert once is not None
    assert again is not None
    for first, second in zip(once.gains, again.gains, strict=True):
        assert first.change.value == pytest.approx(second.change.value)
        assert first.n == second.n
    means = [next(gain for gain in found.gains if gain.of_mean).change for found in (once, again)]
    widths = [(each.high or 0.0) - (each.low or 0.0) for each in means]
    assert widths[1] > 1.2 * widths[0] > 0


def test_fresh_blocks_that_do_not_confirm_it_say_so() -> None:
    worse = with_fresh(lambda key: 3.0 if key == chosen().arm.key else 0.0)
    said = "\n".join(text.lines(answer(worse)))
    assert (
        "Nothing is surely better than with the baseline: keep that, or make more cycles." in said
    )
    assert "The fresh blocks do not confirm it: it recovers later than the baseline." in said
    assert re.search(r"The price: failed 0\.\d+ s → 3\.\d+ s\.", said)


def test_the_first_sentences_say_what_to_set_and_what_for() -> None:
    said = "\n".join(text.lines(measured()))
    assert (
        "Take arm-01: redispatch=true instead of redispatch=false; "
        "version=2.6 timeout_resolve=200ms inter=500ms unchanged."
    ) in said
    assert re.search(r"Better than the baseline: recovery, mean 0\.\d+ s → 0\.\d+ s", said)


def test_lines_to_paste_stand_below_their_section() -> None:
    ours = ("resolvers a", "    timeout resolve 1s", "    timeout retry 1s", "backend b", "    x")
    theirs = (
        "resolvers a",
        "    timeout resolve 1s",
        "backend b",
        "    timeout retry 1s",
        "    y",
    )
    assert differing(ours, theirs) == (
        *("resolvers a", "    timeout retry 1s"),
        *("backend b", "    x"),
    )
    assert differing(ours, ours) == ()


def test_the_model_alone_gives_an_answer_that_says_so() -> None:
    found, _, _ = sweeps.lab(blocks=1)
    foretold = answer(replace(found, seen=()))
    assert foretold.basis is Basis.FORETOLD
    assert foretold.recommendation is not None
    assert foretold.recommendation.basis is Basis.FORETOLD
    assert {gain.basis for gain in foretold.recommendation.gains} == {Basis.FORETOLD}
    said = "\n".join(text.lines(foretold))
    assert "Predicted, not measured: take" in said
    assert "Predicted front:" in said


def test_nothing_known_is_no_recommendation() -> None:
    found, _, _ = sweeps.lab(blocks=2)
    nothing = answer(replace(found, foretold={}))
    assert nothing.recommendation is None
    assert "No recommendation" in "\n".join(text.lines(nothing))
    assert document(nothing)["recommendation"] is None
    never = tuple(replace(each, recovery_s=None) for each in sweeps.lab(blocks=6)[0].seen)
    assert recommend(board(replace(found, seen=never))) is None


def test_main_effects_and_interactions_are_what_was_built_in() -> None:
    found = measured()
    by_name = {(each.name, each.objective): each for each in found.effects}
    recovery, queries = Objective.RECOVERY_P95, Objective.DNS_QUERIES
    assert by_name["timeout_resolve", recovery].direction is Direction.RISES
    assert by_name["timeout_resolve", queries].direction is Direction.FALLS
    assert by_name["inter", queries].direction is Direction.NONE
    assert by_name["version", recovery].direction is Direction.NONE
    pairs = {frozenset((i.name, i.other)) for i in found.interactions}
    assert pairs == {frozenset(("inter", "redispatch"))}
    only = next(i for i in found.interactions if i.name == "inter")
    assert (only.other, only.most_at, only.only) == ("redispatch", "false", True)


def own(**values: object) -> SweepArm:
    return SweepArm(key="own", name="baseline", values=values, baseline=True)


def designed(**levels: list[object]) -> tuple[SweepArm, ...]:
    return tuple(replace(arm, baseline=False) for arm in sweeps.arms(**levels))


@pytest.mark.parametrize(("blocks", "basis"), [(0, Basis.FORETOLD), (12, Basis.MEASURED)])
def test_a_baseline_outside_of_the_product_makes_no_effects(blocks: int, basis: Basis) -> None:
    """Its levels meet its own other values only: what these do was said of `redispatch`."""
    made = designed(resolve=["200ms", "1s", "3s"], redispatch=[False, 1])
    arms = (
        own(resolve="3s", retry="1s", redispatch=True),
        *(replace(a, values={"retry": a.values["resolve"], **a.values}) for a in made),
    )
    rates = {"200ms": 10.0, "1s": 2.0, "3s": 0.67}  # per second; redispatch changes nothing
    truths = {
        (arm.key, "recreate"): sweeps.Truth(
            least_s=0.2, width_s=0.1, queries_per_s=rates[str(arm.values["resolve"])]
        )
        for arm in arms
    }
    truths["own", "recreate"] = replace(truths["own", "recreate"], queries_per_s=1.33)
    found = answer(sweeps.results(arms, truths, Random(4), blocks=blocks))
    assert found.basis is basis
    assert len(found.standings) == len(arms)
    of_dns = {e.name: e for e in found.effects if e.objective is Objective.DNS_QUERIES}
    assert of_dns.keys() == {"retry = resolve", "redispatch"}
    assert of_dns["redispatch"].direction is Direction.NONE
    assert [level.label for level in of_dns["redispatch"].levels] == ["1", "false"]
    values = [level.value for level in of_dns["retry = resolve"].levels]
    assert values == pytest.approx([10.0, 2.0, 0.67], abs=0.05)
    assert not found.interactions


def test_which_baseline_is_no_part_of_the_design() -> None:
    square = designed(a=[1, 2], b=["x", "y"])
    assert is_baseline_apart((own(a=3, b="x"), *square))
    assert is_baseline_apart((own(a=1, b="x"), *square))  # it differs in what does not vary
    tied = designed(a=[1, 2], b=["x", "y"])
    tied = tuple(replace(arm, values={**arm.values, "c": arm.values["a"]}) for arm in tied)
    assert is_baseline_apart((own(a=1, b="x", c=2), *tied))
    assert not is_baseline_apart((own(a=1, b="x"), *square[1:]))
    assert not is_baseline_apart((own(a=3), *designed(a=[1, 2])))
    one_at_a_time = (*designed(a=[1, 2], b=["z"]), *designed(a=[0], b=["x", "y"]))
    assert not is_baseline_apart((own(a=0, b="z"), *one_at_a_time))
    assert not is_baseline_apart(square)


def test_a_version_that_is_slower_is_marked_and_no_other_is() -> None:
    assert measured().oddities == ()
    found = oddities(board(sweeps.lab(blocks=30, off=1.4)[0]))
    assert {o.kind for o in found} == {OddityKind.NEIGHBOUR, OddityKind.MODEL}
    first = found[0]
    assert (first.kind, first.before, first.version) == (OddityKind.NEIGHBOUR, "2.6", "3.4")
    assert {o.version for o in found} == {"3.4"}


def test_text_and_json_say_the_same() -> None:
    found = measured()
    written = json.loads(json.dumps(document(found), allow_nan=False))
    assert written["format"] == 1
    assert written["words"] == text.lines(found)
    assert found.recommendation is not None
    assert written["recommendation"]["arm"] == found.recommendation.arm.key
    assert len(written["arms"]) == 24
    said = "\n".join(text.lines(found))
    for sentence in written["recommendation"]["words"]:
        assert sentence in said
    for part in ("buys", "gains"):
        assert written["recommendation"][part]
    for key in written["front"]:
        assert written["arms"][key]["name"] in said
        assert written["arms"][key]["membership"] > 0


@pytest.mark.sized
def test_the_best_of_many_looks_better_than_it_is_and_fresh_blocks_do_not() -> None:
    """Six arms that are the same: what was chosen for its luck has none in fresh blocks."""
    truth = sweeps.Truth(least_s=0.2, width_s=1.0, queries_per_s=1.0)
    some = sweeps.arms(p=range(6))
    truths = {(arm.key, "recreate"): truth for arm in some}
    rng, looked_at, fresh = Random(8), list[float](), list[float]()
    for _ in range(budget.of(7, 120)):
        found = sweeps.results(some, truths, rng, blocks=8, model=False)
        before = recommend(board(found))
        if before is None or before.arm.baseline:
            continue
        after = recommend(board(sweeps.with_fresh(found, [before.arm.key, "k00"], truths, rng, 8)))
        assert after is not None
        for gains, where in ((before.gains, looked_at), (after.gains, fresh)):
            change = next(gain for gain in gains if gain.of_mean).change.value
            assert change is not None
            where.append(change)
    assert len(fresh) >= 5
    error = 0.29 * (2 / 8 / len(fresh)) ** 0.5  # of a mean of such differences
    assert fmean(looked_at) < -2 * error
    assert abs(fmean(fresh)) < 3 * error


def test_questions_in_trouble_are_not_held_against_what_the_model_says_of_another_time() -> None:
    """It counts until the name is answered again; a cycle lasts until all is calm."""
    objectives = (Objective.RECOVERY_P95, Objective.DNS_TROUBLE)
    far = {
        key: replace(said, trouble_queries_per_s=9 * said.trouble_queries_per_s)
        for key, said in LAB.foretold.items()
    }
    found = answer(replace(LAB, objectives=objectives, foretold=far))
    assert not [o for o in found.oddities if o.objective is Objective.DNS_TROUBLE]
    of_trouble = [e for e in found.effects if e.objective is Objective.DNS_TROUBLE]
    assert of_trouble
    assert all(level.foretold is None for effect in of_trouble for level in effect.levels)
    assert "[" not in text.row(found, found.standings[0])[2]
    assert "[" in text.row(found, found.standings[0])[1]


def test_each_arm_has_its_share_of_the_error_before_it_is_measured(monkeypatch) -> None:
    """Else an early look takes all of it, and later ones take theirs in addition."""
    shares: list[set[float]] = []

    def noted(objective, some, alpha):
        shares[-1].add(alpha)
        return mean(objective, some, alpha)

    monkeypatch.setattr(module, "mean", noted)
    few = replace(LAB, seen=tuple(seen for seen in LAB.seen if seen.arm in ("k00", "k01")))
    for results in (few, LAB):
        shares.append(set())
        oddities(board(results))
    assert shares[0] == shares[1]
    assert len(shares[0]) == 1
