"""Other programs that are run to their end: they are asked nothing, and what they say is kept."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

_NOTHING: Mapping[str, str] = {}


def ended(
    command: Sequence[str | Path],
    *,
    limit_s: float,
    folder: Path | None = None,
    environment: Mapping[str, str] = _NOTHING,
) -> subprocess.CompletedProcess[str]:
    """Run it, with these variables beside ours, and wait. What it says is UTF-8 in any locale.

    Raises OSError if it can't be started, and TimeoutExpired if it is not done in time.
    """
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=limit_s,
        check=False,
    )


def error_line(stderr: str) -> str:
    """Why it failed: the first line that begins with `E:`, as those of apt do, or the first one."""
    errors = [line for line in stderr.splitlines() if line.startswith("E:")]
    lines = errors or stderr.strip().splitlines() or ["it does not say why"]
    return lines[0].removeprefix("E:").strip()
