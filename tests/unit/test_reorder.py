"""What the prober delivers comes into order, and who has served is known for long enough."""

from __future__ import annotations

import budget
import fake
import pytest
from fake import T0
from hypothesis import given, settings, strategies

from chaosd.analysis.recovery import (
    IDENTITIES_MAX,
    Identities,
)
from chaosd.analysis.reorder import HELD_MAX, Reorder


@settings(derandomize=True, max_examples=budget.of(12, 300), deadline=None)
@given(
    strategies.permutations(range(30)),
    strategies.lists(strategies.integers(0, 30), max_size=5),
)
def test_reorder_releases_everything_once_in_order(order, moments) -> None:
    reorder, released, promised = Reorder(), [], 0
    for place, number in enumerate(order):
        reorder.push(fake.sample(number))
        if place in moments:
            # The promise that a prober makes: nothing before this is still to come.
            promised = min(set(range(31)) - set(order[: place + 1]))
            batch = reorder.release(promised)
            assert all(s.scheduled_ns < promised for s in batch)
            released += batch
    released += reorder.release(31)
    assert [s.scheduled_ns for s in released] == list(range(30))


def test_a_broken_promise_of_the_prober_is_our_bug() -> None:
    reorder = Reorder()
    reorder.release(T0)
    with pytest.raises(RuntimeError, match="on stream 1"):
        reorder.push(fake.sample(T0 - 1))
    reorder.push(fake.sample(T0))


def test_reorder_is_bounded() -> None:
    reorder, sample = Reorder(), fake.sample(T0)
    reorder._held = [sample] * (HELD_MAX - 1)
    reorder.push(sample)
    with pytest.raises(RuntimeError, match="no complete instant"):
        reorder.push(sample)


def test_identities_forget_the_long_gone_and_never_who_still_serves() -> None:
    identities = Identities()
    identities.event(fake.instance("first", "127.64.0.1"))
    for number in range(2 * IDENTITIES_MAX):
        identities.event(fake.instance(f"app-{number}", "127.64.0.2"))
        identities.event(fake.reading(number, "app", "gone", identity=f"app-{number}"))
    assert "first" in identities
    assert f"app-{2 * IDENTITIES_MAX - 1}" in identities
    assert "app-0" not in identities
    assert len(identities._gone) == IDENTITIES_MAX
