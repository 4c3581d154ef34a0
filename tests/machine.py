"""What a busy machine does to a run, and is none of what is tested."""

from __future__ import annotations

import json
from pathlib import Path

from chaosd.errors import Exit


def but_for_lateness(code: int, directory: Path) -> int:
    """The exit code, had chaosd's own probes been on time.

    Where they were late chaosd says unknown, which is right, and says nothing of what it did.
    """
    if code != Exit.UNKNOWN:
        return code
    doubts = json.loads((directory / "report.json").read_text())["doubts"]
    return Exit.OK if doubts and all("of poor quality" in doubt for doubt in doubts) else code
