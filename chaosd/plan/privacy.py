"""How private a run is: as the most private thing that goes into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from chaosd import shown
from chaosd.config import shape
from chaosd.plan.arms import Plan
from chaosd.plugins.proxy import HidesSecrets, Rewires, TakesOwnFile

ONLY_MINE = 0o077
_GROUP, _OTHERS = 0o040, 0o004  # may read


def secrets(plan: Plan) -> list[tuple[str, str]]:
    """What people are not shown of the config and of the proxies' own files: names and values."""
    found = dict.fromkeys(shape.secrets_of(plan.config))
    for arm in plan.arms:
        found |= dict.fromkeys(shape.secrets_of(arm.config))
        if isinstance(arm.proxy, HidesSecrets):
            found |= dict.fromkeys(arm.proxy.secrets())
    return list(found)


def keep(plan: Plan) -> None:
    """From now on no secret of a proxy's own file is shown; those of the config are known."""
    for arm in plan.arms:
        if isinstance(arm.proxy, HidesSecrets):
            shown.know(value for _, value in arm.proxy.secrets())


def umask(plan: Plan, *sources: Path) -> int:
    """The permissions that no file of the run may have. `sources` have gone into it, too."""
    if secrets(plan):
        return ONLY_MINE
    mask = 0
    for path in (*sources, *_own_files(plan)):
        with suppress(OSError):  # it is gone, which is somebody else's to say
            mode = path.stat().st_mode
            mask |= 0 if mode & _OTHERS else 0o007
            mask |= 0 if mode & _GROUP else 0o070
    return mask


def _own_files(plan: Plan) -> Iterator[Path]:
    for arm in plan.arms:
        if isinstance(arm.proxy, TakesOwnFile) and arm.proxy.own_file is not None:
            yield arm.proxy.own_file
        if isinstance(arm.proxy, Rewires):
            yield from arm.proxy.own_files()
