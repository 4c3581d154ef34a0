"""What the doctor says of the files that a proxy runs with already, beside the measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chaosd.plan import Rehearsal
    from chaosd.plugins.proxy import RunsAlready


def with_verdicts(rehearsals: Sequence[Rehearsal]) -> list[Rehearsal]:
    """The same with the doctor's findings among the notes, where a proxy runs already."""
    from chaosd.plugins.proxy import RunsAlready

    return [
        replace(each, notes=(*each.notes, *_verdict(each, each.arm.proxy)))
        if isinstance(each.arm.proxy, RunsAlready)
        else each
        for each in rehearsals
    ]


def _verdict(rehearsal: Rehearsal, proxy: RunsAlready) -> list[str]:
    from chaosd.doctor import reading, rule
    from chaosd.doctor.examine import Doctor
    from chaosd.doctor.formats import brief
    from chaosd.doctor.price import Model

    doctor = Doctor(
        program=reading.Program(rehearsal.proxy_version),
        setting=None,
        rules=rule.installed(),
        model=Model(),
    )
    files = reading.open_files(proxy.own_files(), proxy.running.environment)
    names = " ".join(str(path) for path in proxy.own_files())
    *findings, last = brief.lines(doctor.examine(files))
    return [f"doctor: {each}" for each in (*findings, f"{last}: chaosd doctor {names}")]
