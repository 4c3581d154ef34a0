"""Cycles whose fault goes on for a while: nothing is over before all of it is done."""

from __future__ import annotations

import fake
import pytest
from fake import INTERVAL, MS, NEW, OLD, SECOND, T0

from chaosd.analysis.recovery import RecoveryFold
from chaosd.history.values import Outcome

OURS = {OLD, NEW}


def test_what_is_bad_while_a_fault_goes_on_is_a_relapse_however_late() -> None:
    """As of `keep` and `with:`: five seconds after the recovery, and stable was one second."""
    fold = RecoveryFold(T0, NEW, OURS, fake.settings(), waits=True)
    done_ns, bad_ns = T0 + 6 * SECOND, T0 + 5 * SECOND

    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        bad = at_ns < T0 + SECOND or at_ns == bad_ns
        return (MS, Outcome.REFUSED, "") if bad else (MS, Outcome.OK, NEW)

    for sample in fake.row(T0, T0 + 8 * SECOND, answer):
        if sample.scheduled_ns == done_ns:
            fold.injected(done_ns)
        fold.add(sample)
    assert fold.recovered_ns == T0 + SECOND + MS
    assert fold.over_at_ns(T0 + 8 * SECOND) == done_ns + SECOND
    assert fold.stable_ns(done_ns + SECOND) == bad_ns + INTERVAL + MS


@pytest.mark.parametrize(
    ("bad_until_s", "injected_s", "outlasted"),
    [
        (0, 5, False),  # done in time, and nobody noticed
        (0, 31, True),  # nobody noticed until the limit: who knows what came then
        (0, None, True),
        (4, 31, True),  # well again at the limit, and it still went on
        (99, 31, False),  # not well at the limit: it takes longer, whatever it did later
        (4, 5, False),
    ],
)
def test_what_goes_on_at_the_limit_has_no_recovery(bad_until_s, injected_s, outlasted) -> None:
    fold = RecoveryFold(T0, None, OURS, fake.settings(), unknown=True)
    limit_ns = T0 + 30 * SECOND

    def answer(at_ns: int) -> tuple[int, Outcome, str]:
        bad = T0 <= at_ns < T0 + bad_until_s * SECOND
        return (MS, Outcome.REFUSED, "") if bad else (MS, Outcome.OK, OLD)

    done_ns = None if injected_s is None else T0 + injected_s * SECOND
    for sample in fake.row(T0 - SECOND, limit_ns, answer):
        if done_ns is not None and sample.scheduled_ns == done_ns:
            fold.injected(done_ns)
        fold.add(sample)
    if done_ns is not None and done_ns > limit_ns:
        fold.injected(done_ns)
    assert fold.is_outlasted is outlasted
