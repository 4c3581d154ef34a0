"""A diagnosis for the terminal: the table of backends, then the findings."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from chaosd.doctor.examine import Diagnosis
from chaosd.doctor.finding import Finding
from chaosd.doctor.formats import table
from chaosd.doctor.formats.costs import cost_lines, remedy_lines
from chaosd.doctor.price import is_traded
from chaosd.doctor.setting import Setting
from chaosd.doctor.subject import Subject
from chaosd.doctor.words import count, quoted
from chaosd.proxies.haproxy.cfg.dialect import NEWEST
from chaosd.proxies.haproxy.cfg.effective import Origin
from chaosd.proxies.haproxy.cfg.secrets import without_secrets
from chaosd.proxies.haproxy.cfg.source import Place

_WHOLE_MAX = 3  # findings of a rule that are told with costs and remedy
_PASTES_MAX = 6  # lines of a remedy
_OF_A_FILE = re.compile(r" +(\d* \|| *(replace|add after) )")
_NUMBER = re.compile(r" (?=→|(?:ms|s|min|h)\b)|(?<=→) ")  # `3.0 s → 0 s` stays on one line
_NAMES_MAX = 4  # in a row
_SETTINGS = {
    Setting.DOCKER: "in Docker",
    Setting.KUBERNETES: "in Kubernetes",
    Setting.CONSUL: "with Consul",
    Setting.PLAIN: "with plain DNS",
}


def render(diagnosis: Diagnosis, *, everything: bool) -> Iterator[str]:
    """All of it."""
    yield heading(diagnosis)
    yield from notes(diagnosis)
    if diagnosis.rows:
        yield ""
        yield from table.lines(diagnosis.rows)
        yield from table.left_out(diagnosis.rows)
    else:
        yield "no backend here has a server: there is nothing to predict"
    told: Counter[str] = Counter()
    findings = diagnosis.all if everything else diagnosis.findings
    for finding in findings:
        told[finding.rule] += 1
        short = told[finding.rule] > _WHOLE_MAX
        yield ""
        yield from _finding(diagnosis.subject, finding, findings, short=short)
    yield ""
    yield summary(diagnosis, everything=everything)


def render_all(diagnoses: Sequence[Diagnosis], *, everything: bool) -> Iterator[str]:
    """Of one version all; of several each table, what differs, and the findings of the last."""
    if len(diagnoses) == 1:
        yield from render(diagnoses[0], everything=everything)
        return
    for diagnosis in diagnoses[:-1]:
        yield heading(diagnosis)
        yield from notes(diagnosis)
        yield ""
        yield from table.lines(diagnosis.rows)
        yield ""
    yield from upgrade_lines(diagnoses[0], diagnoses[-1])
    yield ""
    yield from render(diagnoses[-1], everything=everything)


def folded(lines: Iterable[str], width: int) -> Iterator[str]:
    """Sentences that are longer than a terminal, continued below; lines of files stay whole."""
    for line in lines:
        if len(line) <= width or _OF_A_FILE.match(line):
            yield line
            continue
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        for part in textwrap.wrap(
            _NUMBER.sub("\N{NO-BREAK SPACE}", line),
            width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        ):
            yield part.replace("\N{NO-BREAK SPACE}", " ")


def upgrade_lines(old: Diagnosis, new: Diagnosis) -> Iterator[str]:
    """What the newer version changes for the users of this file."""
    title = f"from {version(old)} to {version(new)}"
    rows = list(table.changed(old, new))
    findings = list(_changed_findings(old, new))
    if not rows and not findings:
        yield f"{title}: nothing changes for your users"
        return
    worse = "something gets worse" if any(worse for _, worse in rows) else "no number gets worse"
    yield f"{title}: what changes ({worse})"
    yield from (f"  {line}" for line in [*(line for line, _ in rows), *findings])


def _changed_findings(old: Diagnosis, new: Diagnosis) -> Iterator[str]:
    def keys(diagnosis: Diagnosis) -> dict[tuple[str, Place], Finding]:
        return {(f.rule, f.spot.place): f for f in diagnosis.all}

    before, after = keys(old), keys(new)
    for key, finding in before.items():
        if key not in after:
            yield f"gone: {finding.rule} ({finding.spot.place}): {finding.message}"
    for key, finding in after.items():
        if key not in before:
            yield f"new: {finding.rule} ({finding.spot.place}): {finding.message}"


def heading(diagnosis: Diagnosis) -> str:
    """What was read, for which HAProxy, and where it is used."""
    files = ", ".join(str(source.path) for source in diagnosis.subject.sources)
    return f"{files}: for {version(diagnosis)}, {setting(diagnosis)}"


def version(diagnosis: Diagnosis) -> str:
    program = diagnosis.program
    if program.version is None:
        newest = diagnosis.subject.version_text
        return f"HAProxy {newest} (none is installed here; --version says another)"
    return f"HAProxy {program.version}{' (of this machine)' if program.from_machine else ''}"


def setting(diagnosis: Diagnosis) -> str:
    guess = diagnosis.guess
    why = f" (guessed by `{guess.word}`; --in says another)" if guess.word else ""
    return f"{_SETTINGS[guess.setting]}{why}"


def notes(diagnosis: Diagnosis) -> Iterator[str]:
    """What limits the answer."""
    subject = diagnosis.subject
    if subject.unset:
        names = quoted(sorted(subject.unset), _NAMES_MAX)
        yield f"{names} {_has(len(subject.unset))} no value here (--env FILE gives one)"
    version = subject.effective.dialect.version
    if version[:2] > NEWEST:
        newest = ".".join(map(str, NEWEST))
        yield f"HAProxy {subject.version_text} was never measured: it is taken for {newest}"


def _has(number: int) -> str:
    return "has" if number == 1 else "have"


# --- findings ------------------------------------------------------------------------------------


def _finding(
    subject: Subject, finding: Finding, together: Sequence[Finding], *, short: bool
) -> Iterator[str]:
    """All of it, or what is left to say when there were others of the rule before."""
    place = finding.spot.place
    column = f":{finding.spot.start}" if finding.spot.start else ""
    sure = "" if finding.confidence == "high" else f" ({finding.confidence} confidence)"
    yield f"{finding.severity}[{finding.rule}] {place}{column}{sure}"
    if short:
        yield f"  {finding.message}"
        return
    yield from _quoted(subject, finding)
    yield f"  {finding.message}"
    if where := _inherited(finding):
        yield f"  {where}"
    if finding.cost is not None:
        yield from (f"  costs: {line}" for line in cost_lines(finding.cost))
    pastes = remedy_lines(subject, finding, together)
    for paste in pastes[:_PASTES_MAX]:
        yield f"  {paste.where(place)}: {paste.text.rstrip()}"
    if len(pastes) > _PASTES_MAX:
        yield f"  and {len(pastes) - _PASTES_MAX} lines more like these (--fix writes all)"
    if finding.remedy is not None and finding.remedy.advice:
        yield f"  {finding.remedy.advice}"


def _short(place: Place, near: Place) -> str:
    return str(place.line) if place.file == near.file else str(place)


def _quoted(subject: Subject, finding: Finding) -> Iterator[str]:
    """The line itself, and below it what of it the finding is about."""
    line = subject.line(finding.spot.place)
    if not line.strip():
        return
    said = without_secrets(line).replace("\t", " ").rstrip()
    number = str(finding.spot.place.line)
    yield f"  {number} | {said}"
    start, end = finding.spot.start, finding.spot.end
    if end > start > 0 and len(said) == len(line.rstrip()):
        yield f"  {' ' * len(number)} | {' ' * (start - 1)}{'^' * (end - start)}"


def _inherited(finding: Finding) -> str:
    """Where the value comes from, unless the line itself is all of it."""
    parts = []
    if finding.origin in (Origin.DEFAULTS, Origin.DEFAULT_SERVER) and finding.backends:
        parts.append(f"inherited by {quoted(finding.backends)}")
    elif finding.origin is Origin.HAPROXY:
        parts.append("not in your files: HAProxy's default")
    if finding.also:
        lines = [str(_short(place, finding.spot.place)) for place in finding.also]
        parts.append(f"also line {', '.join(lines[:_NAMES_MAX])}" + (" …" * (len(lines) > 4)))  # noqa: PLR2004
    return "; ".join(parts)


def summary(diagnosis: Diagnosis, *, everything: bool) -> str:
    """The last line: how much was found, and how to see more."""
    findings = diagnosis.all if everything else diagnosis.findings
    traded = [f.rule for f in diagnosis.idle if f.cost is not None and is_traded(f.cost)]
    nothing = (
        "nothing whose remedy pays on balance" if traded else "nothing that costs users anything"
    )
    parts = [count(len(findings), "finding") if findings else nothing]
    if diagnosis.idle and not everything:
        idle = len(diagnosis.idle) - len(traded)
        more = [f"{idle} that cost{'s' * (idle == 1)} nothing"] * bool(idle)
        if traded:
            more.append(f"{quoted(traded)}, better in one happening and worse in another")
        parts.append(f"{', '.join(more)} (--all)")
    if diagnosis.later:
        rules = quoted([finding.rule for finding in diagnosis.later])
        parts.append(f"and {rules} once these are mended (--fix writes all)")
    return ", ".join(parts)
