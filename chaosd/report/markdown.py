"""A run for people who were not there: report.md."""
# ruff: noqa: RUF001 - an en dash is how nothing and a range are written

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from chaosd.analysis.summary import Part, Report
from chaosd.report import text, words
from chaosd.report.text import asked, estimate, observed, seconds, share
from chaosd.system.clock import SECOND_NS, utc

HOW_TO_READ = """\
* **recovery**: from taking the instance away to the first good answer of the *new* instance
  through the proxy. In brackets its 95 % interval, free of assumptions about the shape; `?` where
  there were too few cycles for a bound. A cycle that did not recover counts as longer than it was
  observed; a number that depends on how much longer is unknown, and more than what is said.
* **objectives** are judged by the interval: kept if all of it is on the right side of the target,
  broken (fail) if none of it is, unknown in between. Too poor a measurement makes all unknown.
* **outage**: from the last good to the first good probe, less an interval (*gap*), and bad probes
  by their rate (*loss*). Good answers among bad ones make the second smaller.
* **failed** requests got no good answer, **masked** ones got one only after the proxy's own
  retries, **misrouted** ones were answered by somebody who is not the app.
* **phases** are contiguous: *replace* (the new instance listens), *publish* (its name answers with
  the new IP), *discover* (the proxy has it), *rejoin* (the proxy uses it), *serve* (first good
  answer), then *settle* (stable). What nobody reported is unknown, not guessed.
* **in band**: the recovery is what the proxy's algorithm gives for its settings and for when the
  name and the app were really there.
* **control** cycles are no failovers: where nothing is taken away the recovery is the floor below
  which nothing is measured; after a *restart* at the same address no other has to be found.
"""


def render(report: Report, files: Mapping[str, str]) -> str:
    """Everything that a reader needs, with nothing else at hand: `files` by name, as they were."""
    whole = report.total
    blocks = [
        f"# {report.run}",
        "\n".join(f"* {line}" for line in _headlines(report)),
        *(["## Objectives", objectives(report)] if report.objectives else []),
        "## Recovery",
        recovery(report),
        "## Where the seconds went",
        phases(whole),
        "## What users saw",
        requests(report),
        "## How good these numbers are",
        quality(report),
        "## How to read this",
        HOW_TO_READ,
        "## Settings",
        _settings(report, files),
    ]
    return "\n\n".join(block.rstrip() for block in blocks) + "\n"


def _headlines(report: Report) -> Iterator[str]:
    yield f"verdict: **{report.verdict}**: {text.verdict_words(report)}"
    yield text.headline(report)
    if report.total.failovers:
        yield f"recovery: {text.quantile_words(report.total)}"
    yield from map(words.remark, report.notes)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    align = ["---", *("---:" for _ in head[1:])]
    lines = [head, align, *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|").replace("\n", " ")


def _rows(report: Report) -> list[tuple[str, Part]]:
    """A row for each fault of each cell that made failovers, and one for all if there are more."""
    rows = [
        (f"{cell} {label}", part)
        for cell, faults in report.faults.items()
        for label, part in faults.items()
        if part.failovers
    ]
    return rows if len(rows) == 1 else [*rows, ("**all**", report.total)]


def objectives(report: Report) -> str:
    """What was asked, and what came of it."""
    head = ["objective", "observed", "n", "at least", "result", "why"]
    rows = [
        [asked(o), observed(o), o.n, o.min_cycles, f"**{o.result}**", words.objective(o)]
        for o in report.objectives
    ]
    return table(head, rows)


def recovery(report: Report) -> str:
    """The quantiles of each cell and fault."""
    head = [
        "cell, fault",
        "n",
        "p50",
        "p90",
        "p95",
        "p99",
        "longest",
        "mean",
        "stable p50",
        "in band",
    ]
    rows = []
    for name, part in _rows(report):
        found = part.recovery_s
        quantiles = [estimate(q) for q in (found.p50, found.p90, found.p95, found.p99)]
        band = f"{part.in_band.count}/{part.in_band.n}" if part.in_band.n else "–"
        stable = estimate(part.stable_recovery_s.p50)
        n = f"{found.n}, {found.censored} censored" if found.censored else found.n
        ends = [text.longest(found), estimate(found.mean), stable, band]
        rows.append([name, n, *quantiles, *ends])
    return table(head, rows) if report.total.failovers else "No failover was measured."


def phases(part: Part) -> str:
    rows: list[list[object]] = [
        [
            name,
            phase.n,
            seconds(phase.mean_s) if phase.n else "unknown",
            f"{phase.share:.0%}" if phase.share is not None and phase.n else "–",
        ]
        for name, phase in part.phases.items()
    ]
    if part.phases_unknown_share is not None:
        rows.append(["unknown", "", "", f"{part.phases_unknown_share:.0%}"])
    found = table(["phase", "n", "mean", "of all recovery seconds"], rows)
    if part.phases_error_s is not None:
        worst = seconds(part.phases_error_s)
        found += f"\n\nThe edge between two phases that is known worst is known to ± {worst}."
    return found if part.failovers else "No failover was measured."


def requests(report: Report) -> str:
    """What became of the requests."""
    head = [
        "cell, fault",
        "requests",
        "failed",
        "masked",
        "misrouted",
        "outage, gap p50",
        "outage, loss p50",
    ]
    rows = [
        [
            name,
            f"{part.samples:,}",
            f"{part.failed:,}",
            f"{part.masked:,}",
            f"{part.misrouted:,}",
            estimate(part.outage_gap_s.p50),
            estimate(part.outage_loss_s.p50),
        ]
        for name, part in _rows(report)
    ]
    whole = report.total
    kinds = (("failed", whole.failed_share), ("misrouted", whole.misrouted_share))
    shares = [f"{name} {share(found)}" for name, found in (*kinds, ("masked", whole.masked_share))]
    note = (
        "\n\nCounted from T0 to the end of each failover's observation. Of all of them, with 95 % "
        f"intervals: {', '.join(shares)}. Of all requests of the whole run, "
        f"{share(report.availability)} were answered well."
    )
    return table(head, rows) + note if whole.failovers else "No failover was measured."


def quality(report: Report) -> str:
    """How good the numbers are."""
    head = ["cell, probe, via", "every", "sent", "not sent", "lag p50", "lag p99", "lag max"]
    rows = [
        [
            f"{probe.cell} {probe.probe} {probe.via}",
            seconds(probe.interval_s),
            f"{probe.sent:,}",
            f"{probe.dropped:,}",
            *(seconds(lag_s) for lag_s in (probe.lag_p50_s, probe.lag_p99_s, probe.lag_max_s)),
        ]
        for probe in report.probes
    ]
    whole, lines = report.total, []
    if whole.valid:
        cycles = f"{whole.poor} of {whole.valid} valid cycles"
        lines.append(f"* {cycles} poor (probes late or lost)")
    if whole.resolution_s is not None:
        lines.append(f"* {text.probing(whole)} to a quantile of the recovery")
    if whole.compared:
        agree = f"{whole.compared - whole.disagreeing} of {whole.compared} recoveries"
        lines.append(
            f"* the two estimators of the outage agree in {agree}; by its ends it was longer by "
            f"{seconds(whole.disagreement_max_s)} at most"
        )
    if whole.control.cycles:
        lines.append(f"* control cycles: {text.control(whole)}")
    if whole.restart.cycles:
        lines.append(f"* restarts at the same address: {text.restarts(whole)}")
    if whole.in_band.n:
        means = seconds(whole.predicted_mean_s), seconds(whole.predicted_observed_mean_s)
        lines.append(
            f"* predicted mean {means[0]}, observed {means[1]}: {text.in_band(whole.in_band)}"
            f"{text.residual(whole.residual)}"
        )
    for cell, queries in report.queries.items():
        rate = f", {queries.per_second:.2f}/s" if queries.per_second is not None else ""
        lines.append(f"* {cell}: {queries.count:,} DNS queries from the proxy{rate}")
    return "\n\n".join(block for block in ("\n".join(lines), table(head, rows)) if block)


def _settings(report: Report, files: Mapping[str, str]) -> str:
    blocks = [f"`{name}`:\n\n```\n{text.rstrip()}\n```" for name, text in files.items()]
    return "\n\n".join([facts(report), *blocks])


def facts(report: Report) -> str:
    """What the run was: its versions, its time, its machine."""
    known = report.manifest
    start, end = known.get("start_unix"), known.get("end_unix")
    host = known.get("host") or {}
    ended = {} if end is None else {"ended": f"{_date(end)}: {known.get('reason')}"}
    rows = {
        "run": report.run,
        "seed": known.get("seed"),
        "chaosd": known.get("chaosd"),
        "runtime": " ".join(str(known[key]) for key in ("runtime", "runtime_why") if key in known),
        "proxy": " ".join(str(known[k]) for k in ("proxy", "proxy_version") if known.get(k)),
        "started": None if start is None else _date(start),
        **ended,
        "host": ", ".join(f"{key} {value}" for key, value in host.items()),
    }
    return table(["", ""], [[key, value] for key, value in rows.items() if value])


def _date(unix_s: float) -> str:
    return utc(round(unix_s * SECOND_NS)).strftime("%Y-%m-%d %H:%M:%S UTC")
