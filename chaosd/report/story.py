"""What a run has found, in sentences for somebody who was not there."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.analysis.slo import OK
from chaosd.analysis.summary import Report
from chaosd.analysis.tally import Totals
from chaosd.report import text

_UNTIL = {
    "replace": "until the new instance answered",
    "publish": "until its name answered with the new address",
    "gossip": "until the DNS of the proxy's node had heard of that",
    "discover": "until the proxy had the new address",
    "rejoin": "until the proxy used the server again",
    "serve": "until a request was answered by it",
}
_FEW = 2  # recoveries, of which no half can be spoken


def sentences(report: Report) -> Iterator[str]:
    """Nothing where nothing was measured; several arms are not pooled."""
    whole = report.total
    if not whole.failovers or report.arms:
        return
    yield _how_long(whole)
    known = {name: phase.share for name, phase in whole.phases.items() if name in _UNTIL}
    share, name = max(((share or 0.0, name) for name, share in known.items()), default=(0.0, ""))
    if share:
        yield f"The largest part of that time, {share:.0%}, is {name}: {_UNTIL[name]}."
    yield _requests(whole)
    yield _predicted(whole)
    if report.verdict == OK and not report.objectives:
        yield (
            "The verdict says how good this measurement is, and not whether that is good enough "
            "for you: no objectives are set."
        )


def _how_long(whole: Totals) -> str:
    found = whole.recovery_s
    n = f"{whole.failovers} failover{'s' * (whole.failovers != 1)}"
    lost = f"; {found.censored} had no recovery" if found.censored else ""
    took = text.longest(found)
    if found.n >= _FEW:
        took = f"{text.short(found.p50)} (median), and {took} at most"
    return f"In {n} the new instance gave its first good answer after {took}{lost}."


def _requests(whole: Totals) -> str:
    share = whole.failed_share.value
    said = "unknown" if share is None else text.percent(share)
    kinds = [(whole.masked, "answered only by the proxy's own retries")]
    kinds.append((whole.misrouted, "answered by another application"))
    more = "".join(f", {count:,} were {what}" for count, what in kinds if count)
    return (
        f"Of {whole.samples:,} requests in their time {whole.failed:,} ({said}) got no good answer"
        f"{more}."
    )


def _predicted(whole: Totals) -> str:
    if not whole.in_band.n:
        return "None of them had a prediction; the reason is in what was run, below."
    within = f"{whole.in_band.count} of {whole.in_band.n}"
    lost = whole.expected.get("failed")
    requests = ""
    if lost is not None:
        requests = f", and {lost.inside.count} of {lost.n} failed as many requests,"
    return f"{within} took as long{requests} as the proxy's algorithm gives for these settings."
