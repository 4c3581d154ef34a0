"""What HAProxy says of a file that it refuses, and whether another build takes it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from chaosd.plugins.program import COMMAND_S_MAX
from chaosd.system import commands

# `[ALERT]    (123) : config : parsing [/etc/haproxy.cfg:12] : what`, with variations; before 2.4
# `[ALERT] 330/165105 (123) : parsing …`.
_ALERT = re.compile(r"^\[ALERT\]\s+(?:\d+/\d+\s+)?(?:\(\d+\)|\S+)\s*:\s*(?:config\s*:\s*)?(.*)$")
_PLACE = re.compile(r"^(?:parsing )?\[(.+?):(\d+)\]\s*:\s*(.*)$")
_SUMMARY = re.compile(r"^(Error\(s\) found in|Fatal errors found in)")


def alerts(stderr: str) -> list[str]:
    """What it complains of, without its summary."""
    found = [m[1] for line in stderr.splitlines() if (m := _ALERT.match(line))]
    return [alert for alert in found if not _SUMMARY.match(alert)]


def placed(alert: str) -> str | None:
    """A complaint as `file:line: what`; None where it says no place."""
    place = _PLACE.match(alert)
    return None if place is None else f"{place[1]}:{place[2]}: {place[3]}"


def takes(binary: Path, options: Sequence[str], environment: Mapping[str, str]) -> bool:
    """Whether this build takes the files that these options name."""
    try:
        done = commands.ended(
            [binary, "-c", *options], limit_s=COMMAND_S_MAX, environment=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
