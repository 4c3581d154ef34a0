"""A diagnosis in a line for each finding, beside something else."""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.doctor.examine import Diagnosis
from chaosd.doctor.formats.costs import cost_lines
from chaosd.doctor.formats.text import summary


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """The findings, the dearest first, and how many there are."""
    for finding in diagnosis.findings:
        costs = cost_lines(finding.cost) if finding.cost is not None else ()
        said = "".join(f"; costs: {line}" for line in costs)
        yield f"{finding.severity}[{finding.rule}] {finding.spot.place}: {finding.message}{said}"
    yield summary(diagnosis, everything=False)
