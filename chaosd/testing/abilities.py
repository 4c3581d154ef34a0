"""The part of the runtimes' conformance suite that is about what few faults need."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from chaosd.errors import MachineError
from chaosd.history.events import Event, InstanceRetired, NamePublished
from chaosd.history.values import Address, Instance
from chaosd.plugins.runtime import (
    CanHang,
    CanMoveNameserver,
    CanPartition,
    CanPause,
    CanReloadProxy,
    CanRestartProxy,
    CanSwitch,
)

Stored = Callable[[type, Callable[[Any], bool]], list[Event[Any]]]
Deed = Callable[[Instance], Awaitable[None]]
NOBODY = Instance("nobody", Address("127.0.0.1", 9))


async def check_more(stage: Any, abilities: Sequence[type], stored: Stored) -> None:
    """Check what each of these abilities promises of this stage."""
    if CanSwitch in abilities:
        await _check_switch(stage, stored)
    if CanPause in abilities:
        await _check_impaired(stage, stage.pause, stage.resume, "pauses")
    if CanHang in abilities:
        await _check_impaired(stage, stage.hang, stage.unhang, "hangs")
    if CanPartition in abilities:
        await _check_impaired(stage, stage.cut_off, stage.rejoin, "cuts off")
    if CanMoveNameserver in abilities:
        for away in (True, True, False, False):
            await stage.move_nameserver(away=away)
    if CanReloadProxy in abilities:
        await stage.reload_proxy()
    if CanRestartProxy in abilities:
        await stage.restart_proxy()


async def _check_switch(stage: CanSwitch, stored: Stored) -> None:
    """The name is one's, then the other's, and both live until one is stopped."""
    old, count = stage.app[0], len(stage.app)
    new = await stage.start_aside(stage.next_identity())
    await stage.ready(new)
    assert len(stage.app) == count + 1, "an instance that is started aside does not serve"
    assert not _with(stored, new), "the name has an instance that was started aside"
    await stage.switch(old, new)
    assert old in stage.app, "the old instance does not live on after the switch"
    ips = stored(NamePublished, lambda _: True)[-1].what.ips
    assert new.address.host in ips, "the name does not have the new instance after the switch"
    assert old.address.host not in ips, "the name still has the old instance after the switch"
    retired = stored(InstanceRetired, lambda what: what.identity == old.identity)
    assert len(retired) == 1, (
        f"{len(retired)} InstanceRetired of the old instance are stored, not 1"
    )
    await stage.stop(old, "TERM", 5.0)
    assert new in stage.app, "the new instance goes with the old one"
    assert len(stage.app) == count, "not as many instances serve as before"
    with suppress(MachineError):
        await stage.switch(old, new)
        raise AssertionError("the name is taken from an instance that is gone")


def _with(stored: Stored, instance: Instance) -> list[Event[Any]]:
    return stored(NamePublished, lambda what: instance.address.host in what.ips)


async def _check_impaired(stage: Any, begin: Deed, end: Deed, what: str) -> None:
    instance = stage.app[0]
    await end(instance)  # nothing is wrong with it
    await begin(instance)
    assert instance in stage.app, f"it {what} an instance, which then does not live"
    await end(instance)
    await end(instance)
    await end(NOBODY)
    with suppress(MachineError):
        await begin(NOBODY)
        raise AssertionError(f"it {what} an instance that is gone")
