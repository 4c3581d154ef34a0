"""The arms of a config: what each may set, and what all share."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import ConfigDict, Field

from chaosd.config import yamlfile
from chaosd.config.values import Name
from chaosd.config.yamlfile import Problem
from chaosd.plugins.bases import KeyPath, Part

# What all arms share: the run's own, and the meter's.
_SHARED = frozenset(
    {"name", "runtime", "cells", "seed", "probes", "direct", "measure", "metrics", "runs"}
    | {"slo", "until", "arms"}
)

_SCHEDULE = frozenset({"every", "jitter", "cron", "name", "type"})  # of a fault


class ArmPart(Part):
    """One set of settings: what differs from the rest of the config, by path."""

    model_config = ConfigDict(extra="allow")

    name: Name = Field(description="what the arm is called in results: a-z, 0-9 and -")

    @property
    def values(self) -> dict[str, Any]:
        """The values by their paths."""
        return dict(self.model_extra or {})


def arm_problems(
    arms: Sequence[ArmPart], index: int, document: yamlfile.Document
) -> Iterator[Problem]:
    """What an arm may not set, or may not be called."""
    arm = arms[index]
    names = [other.name for other in arms[:index]]
    if arm.name in names:
        what = f"is called `{arm.name}`, as [{names.index(arm.name)}] is (say another `name:`)"
        path: KeyPath = ("arms", index, "name")
        yield Problem(document.place(path), path, what)
    for target in arm.values:
        path = ("arms", index, target)
        first, *rest = re.findall(r"[^.\[\]]+", target) or [""]
        if first in _SHARED:
            what = "is shared by all arms (an arm may set proxy, app, dns and faults)"
            yield Problem(document.place(path), path, what)
        elif first == "faults" and _sets_schedule(rest):
            what = "all arms have one schedule (an arm may set other values of a fault)"
            yield Problem(document.place(path), path, what)


def _sets_schedule(steps: Sequence[str]) -> bool:
    """Whether this path below `faults` is of when a fault comes, or of what it is.

    So it is if a fault is set as a whole.
    """
    of_fault = steps[1:]
    return not of_fault or bool(_SCHEDULE & {of_fault[0], of_fault[-1]})
