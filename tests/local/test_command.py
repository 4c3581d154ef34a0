"""The `command` fault with real programs: their end, their limit, their group, their words."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from pathlib import Path

import pytest
import stored

from chaosd.engine.disturbance import Disturbance
from chaosd.engine.recorder import CellRecorder
from chaosd.errors import MachineError, NotUndoneError
from chaosd.faults.command import LINES_MAX, Command
from chaosd.history.disturbances import ProgramDisturbs
from chaosd.history.events import LinePrinted
from chaosd.system.clock import RealClock


class Cycle(CellRecorder):
    """What a fault sees of a cycle: it keeps what it is told."""

    def __init__(self) -> None:
        self.events = []
        super().__init__(RealClock(), "c1", self.events.append)
        self.run, self.number, self.cycle, self.ending = "r1", 7, 7, False
        self.begun_ns = []
        self.label, self.began_ns = "command", None

    def begin(self, *, old, new) -> None:
        assert (old, new) == (None, None)
        self.began_ns = time.monotonic_ns()
        self.begun_ns.append(self.began_ns)

    @property
    def lines(self) -> list[str]:
        return [e.what.text for e in self.events if isinstance(e.what, LinePrinted)]


def fault(*inject: str, **keys) -> Command:
    part = {"every": "10s", "inject": inject} | keys
    return Command(Command.Config.model_validate(part))


def python(code: str) -> tuple[str, ...]:
    return sys.executable, "-c", code


def inject(command: Command, cycle: Cycle) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), command.disturb(None, cycle) as what:
            assert what == ProgramDisturbs(program=command.config.inject)

    asyncio.run(whole())


def test_it_knows_its_cycle_and_its_words_are_stored() -> None:
    cycle = Cycle()
    names = "CHAOSD_RUN", "CHAOSD_CELL", "CHAOSD_CYCLE"
    inject(fault(*python(f"import os; print([os.environ[n] for n in {names}])")), cycle)
    assert cycle.lines == ["['r1', 'c1', '7']"]
    assert len(cycle.begun_ns) == 1
    asked, *_, done = stored.lines(cycle.events)
    assert (asked.edge, done.edge) == ("asked", "done")
    assert asked.at_ns <= cycle.begun_ns[0] <= done.at_ns


def test_of_a_chatterbox_only_the_first_lines_are_stored() -> None:
    cycle = Cycle()
    inject(fault(*python("for i in range(5000): print(i)")), cycle)
    assert cycle.lines == [str(i) for i in range(LINES_MAX)]


def test_no_shell_looks_at_its_arguments() -> None:
    cycle = Cycle()
    inject(fault("echo", "$HOME; false", "*"), cycle)
    assert cycle.lines == ["$HOME; false *"]


def test_t0_is_when_it_says_so() -> None:
    cycle = Cycle()
    code = "import time; print('soon', flush=True); time.sleep(0.3); print('begin', flush=True); "
    stamp = "print(time.monotonic_ns()); time.sleep(0.2)"
    inject(fault(*python(code + stamp), t0="line"), cycle)
    [begun_ns] = cycle.begun_ns
    assert cycle.lines[:2] == ["soon", "begin"]
    assert -1e6 < begun_ns - int(cycle.lines[2]) < 50e6
    with pytest.raises(MachineError, match="true ended without the line `begin`"):
        inject(fault("true", t0="line"), Cycle())


def test_its_failure_is_told_with_its_last_words() -> None:
    code = "import sys; print('one'); print('no such load balancer'); sys.exit(3)"
    with pytest.raises(MachineError, match=r"ended with exit status 3: no such load balancer$"):
        inject(fault(*python(code)), Cycle())
    with pytest.raises(MachineError, match=r"sh died of signal 15"):
        inject(fault("sh", "-c", "kill $$"), Cycle())


def gone(pid: int) -> bool:
    """Whether this process is gone within two seconds, a zombie that nobody buries included."""
    for _ in range(200):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


FAMILY = "sleep 60 & echo $!; echo $$; wait"


def test_at_its_limit_it_is_killed_with_its_children() -> None:
    cycle = Cycle()
    started = time.monotonic()
    with pytest.raises(MachineError, match=r"sh took more than 300ms \(timeout\) and was killed"):
        inject(fault("sh", "-c", FAMILY, timeout="300ms"), cycle)
    assert time.monotonic() - started < 5
    assert all(gone(int(pid)) for pid in cycle.lines)


def test_cancelled_it_is_killed_with_its_children_and_healed() -> None:
    cycle = Cycle()
    command = fault("sh", "-c", FAMILY, heal=["echo", "healed"])

    async def cut() -> None:
        disturbance = Disturbance(command, None, cycle)
        work = asyncio.ensure_future(disturbance.begin())
        async with asyncio.timeout(10):
            while len(cycle.lines) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await disturbance.end(10)
        await disturbance.end(10)
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(cut())
    *pids, healed = cycle.lines
    assert healed == "healed"  # and only once
    assert len(pids) == 2
    assert all(gone(int(pid)) for pid in pids)
    ends = [(e.verb, e.edge) for e in stored.lines(cycle.events) if e.verb]
    assert ends == [("inject", "asked"), ("inject", "failed"), ("heal", "asked"), ("heal", "done")]


def test_a_heal_that_fails_is_told() -> None:
    with pytest.raises(NotUndoneError, match="false ended with exit status 1"):
        inject(fault("true", heal=["false"]), Cycle())


def test_without_a_file_a_relative_program_is_beside_chaosd(tmp_path, monkeypatch) -> None:
    """As `chaosd calibrate --command ./move.sh` has it."""
    (tmp_path / "move.sh").touch(mode=0o755)
    monkeypatch.chdir(tmp_path)
    assert fault("./move.sh", "5").config.inject == (str(tmp_path / "move.sh"), "5")
    with pytest.raises(ValueError, match=r"there is no program `move\.sh`"):
        fault("move.sh")


def test_a_program_beside_the_config_is_found_from_anywhere(tmp_path) -> None:
    from chaosd.config import shape

    program = tmp_path / "move.sh"
    program.write_text("#!/bin/sh\n")
    file = tmp_path / "c.yaml"
    file.write_text(
        "name: x\nruntime: {type: external, target: '10.0.0.1:80'}\n"
        "faults:\n  - {type: command, inject: [./move.sh, '1'], every: 5s}\n"
    )
    with pytest.raises(Exception, match=r"c.yaml:4: faults\[0\].inject: there is no program"):
        shape.load(file)
    program.chmod(0o755)
    loaded = shape.load(file)
    assert loaded.faults[0].inject == (str(program), "1")
    assert loaded.proxy.type == "unknown"
    again = tmp_path / "again.yaml"
    again.write_text(shape.dump(loaded))
    assert shape.load(again) == loaded
    assert os.access(loaded.faults[0].inject[0], os.X_OK)
