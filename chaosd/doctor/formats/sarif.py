"""Findings as SARIF 2.1.0, for code scanning. What is ignored in the file is left out of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from chaosd import __version__, shown
from chaosd.doctor.examine import Diagnosis
from chaosd.doctor.finding import Finding, Severity, Spot
from chaosd.doctor.formats.costs import cost_lines, remedy_lines
from chaosd.doctor.rule import Rule
from chaosd.proxies.haproxy.cfg.source import Place

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.INFO: "note"}


def render(diagnosis: Diagnosis, rules: Sequence[Rule], *, everything: bool) -> str:
    """One run with one tool, all its rules and the findings."""
    places = {rule.id: number for number, rule in enumerate(rules)}
    findings = diagnosis.all if everything else diagnosis.findings
    driver = {
        "name": "chaosd doctor",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": [_rule(rule) for rule in rules],
    }
    run = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": [_result(diagnosis, finding, places) for finding in findings],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return shown.json_text(json.dumps(log, indent=2, ensure_ascii=False))


def _rule(rule: Rule) -> dict[str, Any]:
    page = rule.page()
    text = " ".join(line for line in page.splitlines() if line and not line.startswith("#"))
    return {
        "id": rule.id,
        "name": type(rule).__name__,
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": text[:1000]},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {"precision": str(rule.confidence), "tags": ["haproxy", "dns"]},
    }


def _result(diagnosis: Diagnosis, finding: Finding, places: dict[str, int]) -> dict[str, Any]:
    texts = [finding.message]
    if finding.cost is not None:
        texts += cost_lines(finding.cost)
    pastes = remedy_lines(diagnosis.subject, finding)
    texts += [f"{paste.where(finding.spot.place)}: {paste.text.strip()}" for paste in pastes]
    found: dict[str, Any] = {
        "ruleId": finding.rule,
        "level": _LEVELS[finding.severity],
        "message": {"text": shown.text("\n".join(texts))},
        "locations": [_location(finding.spot)],
    }
    if finding.rule in places:
        found["ruleIndex"] = places[finding.rule]
    if finding.also:
        found["relatedLocations"] = [_location(Spot(place)) for place in finding.also]
    return found


def _location(spot: Spot) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": {"uri": _uri(spot.place)}}
    if spot.place.line:
        region = {"startLine": spot.place.line}
        if spot.start:
            region["startColumn"] = spot.start
        if spot.end > spot.start > 0:
            region["endColumn"] = spot.end
        physical["region"] = region
    return {"physicalLocation": physical}


def _uri(place: Place) -> str:
    path: Path = place.file
    return f"file://{quote(str(path))}" if path.is_absolute() else quote(path.as_posix())
