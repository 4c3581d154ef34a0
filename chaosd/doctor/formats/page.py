"""A diagnosis as one page that needs nothing else and can be mailed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaosd.doctor.examine import Diagnosis
from chaosd.doctor.finding import Finding
from chaosd.doctor.formats import table as numbers
from chaosd.doctor.formats import text
from chaosd.doctor.formats.costs import cost_lines, remedy_lines
from chaosd.proxies.haproxy.cfg.secrets import without_secrets
from chaosd.report.document import (
    Block,
    Code,
    CodeSpan,
    Heading,
    Said,
    Strong,
    bullets,
    line,
    paragraph,
    table,
    to_html,
    word_columns,
)
from chaosd.report.html.shell import shell


def render(diagnoses: Sequence[Diagnosis], *, everything: bool) -> str:
    """The whole page. No script, no request to anywhere."""
    last = diagnoses[-1]
    name = ", ".join(source.path.name for source in last.subject.sources)
    blocks: list[Block] = [Heading(f"chaosd doctor: {name}", level=1)]
    for diagnosis in diagnoses:
        blocks += _table(diagnosis)
    if len(diagnoses) > 1:
        title, *lines = text.upgrade_lines(diagnoses[0], last)
        blocks += [Heading(title), bullets(each.strip() for each in lines)]
    blocks.append(Heading("Findings"))
    findings = last.all if everything else last.findings
    for finding in findings:
        blocks += _finding(last, finding, findings)
    blocks.append(paragraph(text.summary(last, everything=everything)))
    return shell(f"{name} - doctor", to_html(blocks))


def _table(diagnosis: Diagnosis) -> Iterator[Block]:
    yield paragraph(text.heading(diagnosis))
    if notes := list(text.notes(diagnosis)):
        yield bullets(notes)
    rows: list[list[Said]] = []
    unknown: list[str] = []
    for names, row in numbers.alike(diagnosis.rows):
        name = numbers.quoted_names(names)
        if why := numbers.why_none(row):
            unknown.append(f"{name}: {why}")
            continue
        for label, cells in numbers.numbers(row):
            rows.append([CodeSpan(name), label, *cells, numbers.queries(row)])
    if rows:
        yield table(word_columns("backend", "", *numbers.TITLES.values(), "DNS queries/s"), rows)
    if unknown:
        yield bullets(unknown)
    if limits := list(numbers.left_out(diagnosis.rows)):
        yield bullets(limits)


def _finding(
    diagnosis: Diagnosis, finding: Finding, together: Sequence[Finding]
) -> Iterator[Block]:
    place = finding.spot.place
    yield Heading(f"{finding.severity}: {finding.rule}", level=3)
    yield paragraph(CodeSpan(str(place)), " ", finding.message)
    if said := without_secrets(diagnosis.subject.line(place)).strip():
        yield Code(said)
    if finding.cost is not None and (costs := list(cost_lines(finding.cost))):
        yield bullets(line(Strong("costs"), f": {each}") for each in costs)
    if pastes := remedy_lines(diagnosis.subject, finding, together):
        words = (f"{paste.where()}: {paste.text}" for paste in pastes)
        yield Code("\n".join(words))
    if finding.remedy is not None and finding.remedy.advice:
        yield paragraph(finding.remedy.advice)
