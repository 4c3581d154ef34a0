"""What run.json may contain, also if another program wrote it: any key may be missing, none may
have a wrong type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chaosd.history import strict

Shape = Mapping[str, Any]  # a type by key

_MANIFEST: Shape = {
    **dict.fromkeys(("chaosd", "name", "run", "runtime", "runtime_why", "proxy", "reason"), str),
    **dict.fromkeys(("proxy_version", "proxy_config"), str | None),
    **dict.fromkeys(("start_unix", "end_unix"), float | None),
    **dict.fromkeys(("settings", "proxy_settings", "host"), dict[str, Any]),
    "cells": list[str],
    "slo": dict[str, dict[str, Any]],
    "arms": dict[str, dict[str, Any]],
    "exit": int | None,
}
_ARM: Shape = {
    **dict.fromkeys(("label", "proxy"), str),
    **dict.fromkeys(("proxy_version", "proxy_config", "binary_sha256"), str | None),
    **dict.fromkeys(("settings", "proxy_settings", "differs"), dict[str, Any]),
    "cells": list[str],
}
_ARM_NEEDS = ("cells",)
_TIMES = ("stable_for_ns", "recovery_limit_ns", "slow_after_ns", "interval_ns", "timeout_ns")
_SETTINGS: Shape = {
    **dict.fromkeys((*_TIMES, "replicas", "definitions"), int),
    **dict.fromkeys(("runtime", "proxy", "arm"), str),
}
_AT_LEAST_ONE = ("interval_ns", "replicas")
_GOAL: Shape = {"target": float, "min_cycles": float | int, "fault": str}
_GOAL_NEEDS = ("target", "min_cycles")


def check(value: Any) -> dict[str, Any]:
    """The manifest that this is. Raises ValueError, which says what is wrong with it."""
    if not isinstance(value, dict):
        raise ValueError("not a manifest")
    if not strict.is_plain([value]):
        raise ValueError("a value that can't be written again")
    _fits("", value, _MANIFEST)
    _settings("settings", value)
    for name, goal in value.get("slo", {}).items():
        _fits(f"slo.{name}.", goal, _GOAL, _GOAL_NEEDS)
    for name, arm in value.get("arms", {}).items():
        _fits(f"arms.{name}.", arm, _ARM, _ARM_NEEDS)
        _settings(f"arms.{name}.settings", arm)
    return value


def _settings(where: str, value: Mapping[str, Any]) -> None:
    settings = value.get("settings")
    if settings is None:  # a run directory of before they were stored, or no run of its own
        return
    _fits(f"{where}.", settings, _SETTINGS)
    for name in _AT_LEAST_ONE:
        if settings.get(name, 1) < 1:
            raise ValueError(f"{where}.{name} can't be {strict.shown(settings[name])}")


def _fits(where: str, value: Mapping[str, Any], shape: Shape, needed: tuple[str, ...] = ()) -> None:
    for name in needed:
        if name not in value:
            raise ValueError(f"{strict.shown(where + name)} is missing")
    for name, part in value.items():
        if name in shape and not strict.fitting(name, shape[name])(part):
            raise ValueError(f"{where}{name} can't be {strict.shown(part)}")
