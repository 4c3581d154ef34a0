"""How a run ended, as run.json tells it: a kind, and only a failure has a text of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from chaosd.errors import Exit


class EndKind(StrEnum):
    """A closed list. The values of the first two are the `reason` of run.json."""

    DONE = "done"  # everything that `until` asks for
    STOPPED = "stopped"  # by somebody, before that
    FAILED = "failed"  # `detail` says why
    BUG = "bug"  # of chaosd's


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How a run ended."""

    kind: EndKind
    detail: str = ""


def ending_of(manifest: Mapping[str, Any]) -> Ending | None:
    """From run.json, of whatever format; None if the run has not ended, or was killed."""
    reason = manifest.get("reason")
    if manifest.get("exit") == Exit.BUG:
        return Ending(kind=EndKind.BUG)
    if reason in (EndKind.DONE, EndKind.STOPPED):
        return Ending(kind=EndKind(reason))
    return None if reason is None else Ending(kind=EndKind.FAILED, detail=str(reason))
