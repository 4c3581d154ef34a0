"""Every fault that is installed passes the conformance suite, and a broken one does not."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from chaosd import plugins
from chaosd.faults.recreate import Recreate
from chaosd.system.clock import sleep
from chaosd.testing import check_fault

VARIANTS = [
    {"type": "bluegreen", "keep": "200ms"},
    {"type": "bluegreen", "keep": "0s", "signal": "KILL"},
    {"type": "hang", "window": "1s"},
    {"type": "partition", "window": "1s"},
    {"type": "pause", "window": "1s"},
    {"type": "proxy-restart"},
    {"type": "reload"},
    {"type": "rolling"},
    {"type": "rolling", "surge": False, "pause": "0s"},
    {"type": "scale", "by": 2, "window": "1s"},
    {"type": "scale", "by": -1, "window": "1s"},
    {"type": "slow-start", "cold": "500ms"},
    {"type": "command", "inject": ["true"]},
    {"type": "command", "inject": ["echo", "begin"], "heal": ["true"], "t0": "line"},
    {"type": "dns", "answer": "servfail", "qtype": "AAAA"},
    {"type": "dns", "delay": "200ms", "window": "1s"},
    {"type": "nameserver", "window": "1s"},
    {"type": "noop"},
    {"type": "recreate"},
    {"type": "restart"},
    {"type": "restart", "signal": "TERM", "grace": "1s", "gap": "0s"},
    {"type": "recreate", "signal": "TERM", "grace": "1s", "old_ip": "blackhole"},
    {"type": "reschedule"},
    {"type": "reschedule", "order": "start-first"},
    {"type": "reschedule", "by": "drain"},
    {"type": "recreate", "order": "make-before-break", "old_ip": "imposter"},
]


@pytest.mark.parametrize("part", VARIANTS, ids=lambda part: "-".join(map(str, part.values())))
def test_it_conforms(part) -> None:
    check_fault(part)


def test_every_built_in_fault_is_among_them() -> None:
    ours = {n for n, p in plugins.available("faults").items() if p.value.startswith("chaosd.")}
    assert ours == {part["type"] for part in VARIANTS}


class Forgetful(Recreate):
    """Does not bring the instance back if it was cut off."""

    @asynccontextmanager
    async def disturb(self, stage, cycle):
        old, new = stage.app[0], stage.next_identity()
        cycle.expect(new)
        cycle.begin(old=old, new=new)
        await stage.stop(old, "KILL", 0.0)
        await sleep(cycle.clock, 0.2)
        await stage.ready(await stage.start(new))
        yield None


class Late(Recreate):
    """Declares T0 without ever having declared the new instance."""

    @asynccontextmanager
    async def disturb(self, stage, cycle):
        cycle.begin(old=stage.app[0], new=stage.next_identity())
        yield None


class Silent(Recreate):
    """Never says when it began."""

    @asynccontextmanager
    async def disturb(self, stage, cycle):
        yield None


@pytest.mark.parametrize(
    ("fault", "why"), [(Forgetful, "instances"), (Late, "expect"), (Silent, "begin")]
)
def test_the_suite_finds_what_is_wrong(fault, why, monkeypatch) -> None:
    found = plugins.find
    monkeypatch.setattr(
        plugins, "find", lambda kind, name: fault if kind == "faults" else found(kind, name)
    )
    with pytest.raises(AssertionError, match=why):
        check_fault({"type": "recreate"})
