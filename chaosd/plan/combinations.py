"""Faults that come with others in one cycle: what can't go together, and how they are told.

And what holds of each alone, too: it must be over before the observation is.
"""

from __future__ import annotations

from collections.abc import Iterator

from chaosd.plan.arms import Arm
from chaosd.plugins.bases import FaultConfig, KeyPath, WindowedFaultConfig
from chaosd.plugins.fault import Fault, LeavesAddress
from chaosd.plugins.runtime import EXCLUSIVE, Runtime
from chaosd.units import Duration


def problems(arm: Arm, runtime: Runtime, runtime_name: str) -> Iterator[tuple[KeyPath, str]]:
    """What an arm asks for of faults that come with others and that can't be, each at its place."""
    for place, (part, fault) in enumerate(zip(arm.config.faults, arm.faults(), strict=True)):
        yield from _too_late(part, ("faults", place, "window"), arm)
        if not part.companions:
            continue
        where: KeyPath = ("faults", place, "with")
        if fault.kind.is_control:
            what = f"`{part.label}` is a control fault: with others it would be none"
            yield where, f"{what} (let another fault be the first)"
        others = list(zip(part.companions, arm.companions(place), strict=True))
        before = [(part, fault)]
        for number, (companion, built) in enumerate(others):
            spot: KeyPath = (*where, number)
            yield from _impossible(companion, built, spot, runtime, runtime_name)
            yield from _clashes(companion, built, spot, before)
            yield from _too_late(companion, spot, arm)
            before.append((companion, built))


def _impossible(
    part: FaultConfig, fault: Fault, spot: KeyPath, runtime: Runtime, runtime_name: str
) -> Iterator[tuple[KeyPath, str]]:
    missing = [need.__name__ for need in fault.needs if need not in runtime.abilities()]
    if missing:
        what = f"the {runtime_name} runtime can't do a {part.type}: it lacks {', '.join(missing)}"
        yield spot, f"{what} (leave it out, or take another runtime)"
    elif isinstance(part, LeavesAddress) and part.old_ip not in runtime.old_ip():
        what = f"the {runtime_name} runtime can't make an old IP `{part.old_ip}`"
        yield (*spot, "old_ip"), f"{what} (it can: {', '.join(runtime.old_ip())})"


def _clashes(
    part: FaultConfig, fault: Fault, spot: KeyPath, before: list[tuple[FaultConfig, Fault]]
) -> Iterator[tuple[KeyPath, str]]:
    """Labels tell faults of a cycle apart, and some abilities are for one of them only."""
    for other, built in before:
        if part.label == (other.name or other.type):
            yield spot, f"is called `{part.label}`, as another of its cycle is (say a `name:`)"
        both = [need for need in EXCLUSIVE if need in fault.needs and need in built.needs]
        if both:
            what = f"moves the app, as `{other.name or other.type}` does in the same cycle"
            yield spot, f"{what} (only one of them can: let it be a fault of its own)"
            return


def _too_late(part: FaultConfig, spot: KeyPath, arm: Arm) -> Iterator[tuple[KeyPath, str]]:
    limit = arm.config.measure.recovery_limit
    lasts = part.window if isinstance(part, WindowedFaultConfig) else 0
    if part.offset + lasts >= limit:
        what = f"it ends when the observation may be over: measure.recovery_limit is {limit}"
        earlier = "" if part.at is None else "an earlier `at`, "
        yield spot, f"{what} ({earlier}a shorter `window`, or a higher limit)"


def told(part: FaultConfig) -> str:
    """The faults that come with this one, in words: "" if there are none."""
    said = [_when(companion) for companion in part.companions]
    return f" with {', and '.join(said)}" if said else ""


def _when(part: FaultConfig) -> str:
    at = f"{Duration(-part.offset)} before" if part.offset < 0 else f"{part.offset} after"
    lasts = f" for {part.window}" if isinstance(part, WindowedFaultConfig) else ""
    return f"{part.label} {at} T0{lasts}"
