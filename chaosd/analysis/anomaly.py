"""Whether a cycle lies outside of what was predicted for it."""

from __future__ import annotations

import math

from chaosd.history.cycles import CycleOutcome, Prediction

ANOMALY_MARGIN_S = 0.010  # what a prediction is not expected to see: the app's and kernel's work


def is_anomaly(
    predicted: Prediction | None,
    outcome: CycleOutcome,
    *,
    recovery_s: float | None,
    lost_s: float,
    lasted_s: float,
    resolution_s: float | None,
) -> bool | None:
    """Whether the recovery lies outside of the predicted band by more than its error bar.

    `recovery_s` is of a fresh request. A censored one does as soon as it `lasted_s` longer than the
    band allows. Where nothing moves the lost requests have a band, too, or users are predicted to
    be unaffected.
    """
    if predicted is None or resolution_s is None:
        return None
    margin_s = resolution_s + ANOMALY_MARGIN_S
    if outcome == CycleOutcome.UNAFFECTED and (share := predicted.unaffected_share) is not None:
        return not share and _failed_s(predicted)[0] > margin_s
    if outcome == CycleOutcome.CENSORED:
        return lasted_s > predicted.upper_s + margin_s or None
    if outcome != CycleOutcome.RECOVERED or recovery_s is None:
        return None
    if not predicted.lower_s - margin_s <= recovery_s <= predicted.upper_s + margin_s:
        return True
    if predicted.unaffected_share is None:
        return False
    low_s, high_s = _failed_s(predicted)
    return predicted.unaffected_share == 1 or not low_s - margin_s <= lost_s <= high_s + margin_s


def _failed_s(predicted: Prediction) -> tuple[float, float]:
    spread = predicted.failed_s or {}
    return spread.get("lower", 0.0), spread.get("upper", math.inf)
