"""What a report says, section by section: the blocks of report.md and of report.html."""
# ruff: noqa: RUF001 - an en dash is how nothing and a range are written

from __future__ import annotations

from collections.abc import Iterator, Mapping

from chaosd.analysis.samples import Probe
from chaosd.analysis.statistics import Estimate, Quantiles
from chaosd.analysis.summary import Report, Totals
from chaosd.analysis.tally import APART
from chaosd.history.endings import ending_of
from chaosd.history.reader import PLAN
from chaosd.report import arms, story, text, words
from chaosd.report.document import (
    Block,
    Bullets,
    Code,
    CodeSpan,
    Emphasis,
    Line,
    Said,
    Strong,
    Table,
    Text,
    bullets,
    line,
    number_columns,
    paragraph,
    table,
    word_columns,
)
from chaosd.report.settings import flat
from chaosd.report.text import asked, estimate, observed, seconds, share
from chaosd.system.clock import SECOND_NS, utc

NO_FAILOVER = paragraph("No failover was measured.")
HOW_TO_READ = bullets(
    [
        line(
            Strong("recovery"),
            ": from taking the instance away to the first good answer of the ",
            Emphasis("new"),
            " instance through the proxy. In brackets its 95 % interval, free of assumptions about "
            "the shape; ",
            CodeSpan("?"),
            " where there were too few cycles for a bound. A cycle that did not recover counts as "
            "longer than it was observed; a number that depends on how much longer is unknown, and "
            "more than what is said.",
        ),
        line(
            Strong("objectives"),
            " are judged by the interval: kept if all of it is on the right side of the target, "
            "broken (fail) if none of it is, unknown in between. If the measurement is too poor, "
            "all are unknown.",
        ),
        line(
            Strong("outage"),
            ": from the last good to the first good probe, less an interval (",
            Emphasis("gap"),
            "), and bad probes by their rate (",
            Emphasis("loss"),
            "). Good answers among bad ones make the second smaller.",
        ),
        line(
            Strong("failed"),
            " requests got no good answer, ",
            Strong("masked"),
            " ones got one only after the proxy's own retries, ",
            Strong("misrouted"),
            " ones were answered by somebody who is not the app.",
        ),
        line(
            Strong("phases"),
            " are contiguous: ",
            Emphasis("replace"),
            " (the new instance answers well), ",
            Emphasis("publish"),
            " (its name answers with the new IP), on several nodes ",
            Emphasis("gossip"),
            " (also on the proxy's), ",
            Emphasis("discover"),
            " (the proxy has it), ",
            Emphasis("rejoin"),
            " (the proxy uses it), ",
            Emphasis("serve"),
            " (first good answer), then ",
            Emphasis("settle"),
            " (stable). What nobody reported is unknown, not guessed.",
        ),
        line(
            Strong("in band"),
            ": the recovery is what the proxy's algorithm gives for its settings and for when the "
            "name and the app were really there.",
        ),
        line(
            Strong("control"),
            " cycles are no failovers: where nothing is taken away the recovery is the floor below "
            "which nothing is measured; after a ",
            Emphasis("restart"),
            " at the same address no other has to be found.",
        ),
    ]
)


def in_words(report: Report) -> Block | None:
    """What was found, in sentences; None if nothing was."""
    said = " ".join(story.sentences(report))
    return paragraph(said) if said else None


def what_was_run(files: Mapping[str, str]) -> Iterator[Block]:
    """The plan as it was said when the run began: what moved, what was predicted, and advice."""
    if PLAN in files:
        yield Code(files[PLAN])


def headlines(report: Report) -> Bullets:
    """The verdict, the counts, the recovery, and what else has to be known."""
    return Bullets((*_verdict(report), *map(line, words.notes(report))))


def _verdict(report: Report) -> Iterator[Line]:
    yield line("verdict: ", Strong(report.verdict), f": {text.verdict_words(report)}")
    yield line(text.headline(report))
    if report.total.failovers and not report.arms:
        yield line(f"recovery: {text.quantile_words(report.total)}")


def side_by_side(report: Report) -> Iterator[Block]:
    """Several arms beside each other, each held against the first, and what differs."""
    first, *others = arms.HEADINGS
    yield table([*word_columns(first), *number_columns(*others)], arms.table(report))
    yield bullets(arms.comparisons(report))
    yield paragraph("What each arm changes in the configuration:")
    changes = (line(f"{name}: ", *_differs(name, arm)) for name, arm in report.arms.items())
    yield Bullets(tuple(changes))


def arm_headlines(name: str, arm: Report) -> Bullets:
    """One arm among several; what else has to be known of it is said of the run."""
    return Bullets((*_verdict(arm), line("changes: ", *_differs(name, arm))))


def _differs(name: str, arm: Report) -> Line:
    differs = arm.manifest.get("arms", {}).get(name, {}).get("differs") or {}
    values = [CodeSpan(f"{path}: {value}") for path, value in flat("", differs)]
    said = [part for value in values for part in (Text(", "), value)]
    return line(*said[1:]) if said else line("nothing")


def _rows(report: Report) -> list[tuple[Said, Totals]]:
    """A row for each fault of each cell that made failovers, and one for all if there are more."""
    rows: list[tuple[Said, Totals]] = [
        (f"{cell} {label}", part)
        for cell, faults in report.faults.items()
        for label, part in faults.items()
        if part.failovers
    ]
    whole = report.total
    if not whole.failovers or len(rows) == 1:
        return rows
    return [
        *rows,
        (Strong("all failovers" if any(map(whole.outcomes.get, APART)) else "all"), whole),
    ]


def objectives(report: Report) -> Table:
    """What was asked, and what came of it."""
    columns = [
        *word_columns("objective"),
        *number_columns("observed", "n", "at least"),
        *word_columns("result", "why"),
    ]
    rows: list[list[Said]] = [
        [asked(o), observed(o), o.n, o.min_cycles, Strong(o.result), words.objective(o)]
        for o in report.objectives
    ]
    return table(columns, rows)


def recovery(report: Report) -> list[Block]:
    """The quantiles of each cell and fault."""
    parts = _rows(report)
    if not parts:
        return [NO_FAILOVER]
    columns = [
        *word_columns("cell, fault"),
        *number_columns(
            "n", "p50", "p90", "p95", "p99", "longest", "mean", "stable p50", "in band"
        ),
    ]
    rows: list[list[Said]] = []
    for name, part in parts:
        found = part.recovery_s
        quantiles = [_quantile(found, q) for q in (found.p50, found.p90, found.p95, found.p99)]
        judged = part.in_band if part.in_band.n else part.trouble_in_band
        band = f"{judged.count}/{judged.n}" if judged.n else "–"
        stable = estimate(part.stable_recovery_s.p50)
        n = f"{found.n}, {found.censored} censored" if found.censored else str(found.n)
        ends = [text.longest(found), estimate(found.mean), stable, band]
        rows.append([name, n, *quantiles, *ends])
    return [table(columns, rows)]


def _quantile(found: Quantiles, one: Estimate) -> str:
    """A quantile; of so few recoveries that it is the longest one, only that it is."""
    is_longest = found.n > 1 and found.max_beyond is None and one.value == found.max
    return "= longest" if is_longest else estimate(one)


def phases(part: Totals) -> list[Block]:
    """What the recoveries were made of."""
    if not part.failovers:
        return [NO_FAILOVER]
    rows: list[list[Said]] = [
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
    columns = [*word_columns("phase"), *number_columns("n", "mean", "of all recovery seconds")]
    blocks: list[Block] = [table(columns, rows)]
    if part.phases_error_s is not None:
        worst = seconds(part.phases_error_s)
        blocks.append(paragraph(f"The edges between phases are known to ± {worst} or better."))
    return blocks


def requests(report: Report) -> list[Block]:
    """What became of the requests."""
    whole = report.total
    if not whole.failovers:
        return [NO_FAILOVER]
    columns = [
        *word_columns("cell, fault"),
        *number_columns("requests", "failed", "masked", "misrouted"),
        *number_columns("outage, gap p50", "outage, loss p50"),
    ]
    rows: list[list[Said]] = [
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
    kinds = (("failed", whole.failed_share), ("misrouted", whole.misrouted_share))
    shares = [f"{name} {share(found)}" for name, found in (*kinds, ("masked", whole.masked_share))]
    note = paragraph(
        "Counted from T0 to the end of each failover's observation. Of all of them, with 95 % "
        f"intervals: {', '.join(shares)}. Of all requests, also between "
        f"failovers, {share(report.availability)} were answered well."
    )
    return [table(columns, rows), note]


def quality(report: Report) -> list[Block]:
    """How good the numbers are."""
    columns = [
        *word_columns("cell, probe, via"),
        *number_columns("every", "sent", "not sent", "lag p50", "lag p99", "lag max"),
    ]
    rows = [
        [
            f"{probe.cell} {probe.probe} {probe.via}",
            _every(probe),
            f"{probe.sent:,}",
            f"{probe.dropped:,}",
            *(seconds(lag_s) for lag_s in (probe.lag_p50_s, probe.lag_p99_s, probe.lag_max_s)),
        ]
        for probe in report.probes
    ]
    lines = list(_qualities(report))
    return [*([bullets(lines)] if lines else []), table(columns, rows)]


def _every(probe: Probe) -> str:
    between = "" if probe.idle_interval_s is None else f", idle {seconds(probe.idle_interval_s)}"
    return f"{seconds(probe.interval_s)}{between}"


def _qualities(report: Report) -> Iterator[str]:
    whole = report.total
    if whole.valid:
        cycles = f"{whole.poor} of {whole.valid} valid cycles"
        yield f"{cycles} poor (probes or the world were late): in no number"
    if whole.resolution_s is not None:
        yield f"{text.probing(whole)} to a quantile of the recovery"
    if whole.compared:
        agree = f"{whole.compared - whole.disagreeing} of {whole.compared} recoveries"
        yield (
            f"outage, first-to-last failure vs lost probes: agree in {agree}; the first was longer "
            f"by {seconds(whole.disagreement_max_s)} at most"
        )
    if whole.control.cycles:
        yield f"control cycles: {text.control(whole)}"
    if whole.restart.cycles:
        yield f"restarts at the same address: {text.restarts(whole)}"
    if whole.in_band.n:
        means = seconds(whole.predicted_mean_s), seconds(whole.predicted_observed_mean_s)
        yield (
            f"predicted mean {means[0]}, observed {means[1]}: {text.in_band(whole.in_band)}"
            f"{text.residual(whole.residual)}"
        )
    if whole.trouble_in_band.n:
        yield f"DNS faults: {text.as_predicted(whole.trouble_in_band)}"
    for said in text.expected_words(whole):
        yield f"requests {said}"
    for cell, queries in report.queries.items():
        rate = f", {queries.per_second:.2f}/s" if queries.per_second is not None else ""
        yield f"{cell}: {queries.count:,} DNS queries from the proxy{rate}"


def settings(report: Report, files: Mapping[str, str]) -> Iterator[Block]:
    """What the run was made with: its facts and its `files` by name, as they were."""
    yield facts(report)
    for name, content in files.items():
        if name == PLAN:
            continue
        yield paragraph(CodeSpan(name), ":")
        yield Code(content)


def facts(report: Report) -> Table:
    """What the run was: its versions, its time, its machine."""
    known = report.manifest
    start, end = known.get("start_unix"), known.get("end_unix")
    host = known.get("host") or {}
    ending = ending_of(known)
    how = "" if ending is None else f": {words.ending(ending)}"
    ended = {} if end is None else {"ended": f"{_date(end)}{how}"}
    rows = {
        "run": report.run,
        "seed": known.get("seed"),
        "chaosd": known.get("chaosd"),
        "runtime": " ".join(str(known[key]) for key in ("runtime", "runtime_why") if key in known),
        "proxy": proxy(report),
        "started": None if start is None else _date(start),
        **ended,
        "host": ", ".join(f"{key} {value}" for key, value in host.items()),
    }
    return table(word_columns("", ""), [[key, str(value)] for key, value in rows.items() if value])


def proxy(report: Report) -> str:
    """What was tested, with its version; of each arm where they differ."""
    found = {
        name: " ".join(str(arm.get(key) or "") for key in ("proxy", "proxy_version")).strip()
        for name, arm in (report.manifest.get("arms") or {}).items()
    }
    if not report.arms or len(set(found.values())) == 1:
        known = report.manifest
        return " ".join(str(known[key]) for key in ("proxy", "proxy_version") if known.get(key))
    return ", ".join(f"{name}: {which}" for name, which in found.items())


def _date(unix_s: float) -> str:
    return utc(round(unix_s * SECOND_NS)).strftime("%Y-%m-%d %H:%M:%S UTC")
