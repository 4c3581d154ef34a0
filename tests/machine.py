"""What a busy machine does to a run, and is none of what is tested."""

from __future__ import annotations

import json
from pathlib import Path

from chaosd.analysis.remarks import RemarkKind
from chaosd.errors import Exit

# What was forgiven in the test that runs now. conftest.py names it in the closing summary.
LATE: list[str] = []
FEW = 2  # cycles of which all may be late


def but_for_lateness(code: int, directory: Path) -> int:
    """The exit code, had chaosd's own probes been on time in a few of its cycles.

    Where they were late chaosd says unknown, which is right, and says nothing of what it did. But
    where they are late in most cycles, and in more than a run of few has, it is not the machine.
    Each use of this is named at the end.
    """
    if code != Exit.UNKNOWN:
        return code
    report = json.loads((directory / "report.json").read_text())
    doubts, total = report["remarks"]["doubts"], report["total"]
    valid = sum(total["outcomes"][outcome] for outcome in ("recovered", "censored", "control"))
    late = bool(doubts) and all(doubt["kind"] == RemarkKind.POOR for doubt in doubts)
    if not late or total["poor"] > max(FEW, valid / 2):
        return code
    LATE.append(f"exit 4 for {total['poor']} late of {valid} cycles")
    return Exit.OK
