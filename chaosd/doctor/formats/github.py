"""Findings as annotations of GitHub's Actions: `::warning file=…,line=…::sentence`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from chaosd import shown
from chaosd.doctor.examine import Diagnosis
from chaosd.doctor.finding import Finding, Severity
from chaosd.doctor.formats.costs import cost_lines, remedy_lines

_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "notice"}


def render(diagnosis: Diagnosis, *, everything: bool) -> Iterator[str]:
    """One line for each finding."""
    findings = diagnosis.all if everything else diagnosis.findings
    for finding in findings:
        yield _line(diagnosis, finding, findings)


def _line(diagnosis: Diagnosis, finding: Finding, together: Sequence[Finding]) -> str:
    place, spot = finding.spot.place, finding.spot
    properties = {"file": str(place.file), "line": str(place.line or 1)}
    if spot.start:
        properties |= {"col": str(spot.start)}
    if spot.end > spot.start > 0:
        properties |= {"endColumn": str(spot.end - 1)}
    properties["title"] = f"chaosd doctor: {finding.rule}"
    texts = [finding.message]
    if finding.cost is not None:
        texts += cost_lines(finding.cost)
    pastes = remedy_lines(diagnosis.subject, finding, together)
    texts += [f"{paste.where(place)}: {paste.text.strip()}" for paste in pastes]
    said = ",".join(f"{name}={_property(text)}" for name, text in properties.items())
    return f"::{_LEVELS[finding.severity]} {said}::{_data(shown.text(chr(10).join(texts)))}"


def _data(text: str) -> str:
    """As @actions/core escapes a message."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """As it escapes a property, which ends at a comma or a colon."""
    return _data(shown.line(text)).replace(":", "%3A").replace(",", "%2C")
