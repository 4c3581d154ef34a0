"""Run a program of the user's at T0: whatever it does is the fault."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from signal import SIGKILL
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from chaosd import shown
from chaosd.errors import MachineError
from chaosd.history.cycles import CycleKind
from chaosd.history.deeds import RunProgram
from chaosd.history.disturbances import ProgramDisturbs
from chaosd.history.events import LinePrinted
from chaosd.plugins.bases import FaultConfig, PositiveWait
from chaosd.plugins.fault import undoing
from chaosd.plugins.recording import CycleContext
from chaosd.system.clock import VirtualClock
from chaosd.system.processes import KILL_S, Child, labels, lacking, within_session
from chaosd.system.tasks import uncancelled
from chaosd.units import Duration

LINES_MAX = 100  # of a program's output that are stored in a cycle
LINE_MAX = 500  # characters
BEGIN = "begin"  # the line that says that the deed is being done


def _runnable(program: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
    """Find the program: on the PATH, or beside the config file if its path is relative."""
    if not program:
        return program
    name, *arguments = program
    if "/" in name:
        # Without a file it is where chaosd is started; absolute, or `./x` would be sought as `x`.
        name = str(((info.context or {}).get("base") or Path.cwd()) / name)
    if (what := lacking(name)) is not None:
        raise ValueError(f"{what} (a list: [name, argument])")
    return (name, *arguments)


Program = Annotated[tuple[str, ...], AfterValidator(_runnable)]


class Command:
    """Any program, without a shell: it moves, stops or breaks what only it knows.

    The program finds CHAOSD_RUN, CHAOSD_CELL and CHAOSD_CYCLE in its environment. What it prints is
    stored, line by line. It ends with all processes of its group: what is to stay needs a session
    of its own (`setsid`), and is never touched then. In a simulated world it runs in no time.
    """

    class Config(FaultConfig):
        type: Literal["command"] = "command"
        inject: Program = Field(
            min_length=1, description="the program and its arguments; it ends when all is done"
        )
        heal: Program = Field((), description="run afterwards, whatever became of `inject`")
        timeout: PositiveWait = Field(
            Duration.parse("30s"), description="of each of them; then it is killed"
        )
        t0: Literal["start", "line"] = Field(
            "start",
            description="T0 is right before the program is started, or when it prints the line "
            "`begin`, right before it does the deed",
        )

    needs: ClassVar[tuple[type, ...]] = ()
    kind: ClassVar[CycleKind] = CycleKind.FAILOVER

    def __init__(self, config: Config) -> None:
        self.config = config

    @asynccontextmanager
    async def disturb(self, stage: Any, cycle: CycleContext) -> AsyncIterator[ProgramDisturbs]:
        program, heal = self.config.inject, self.config.heal

        def begin() -> None:
            if cycle.began_ns is None:
                cycle.begin(old=None, new=None)

        async def undo() -> None:
            if heal:
                async with cycle.deed(_deed("heal", heal)):
                    await self._run(heal, cycle, begin=lambda: None)

        async with undoing(undo):
            async with cycle.deed(_deed("inject", program)):
                if self.config.t0 == "start":
                    begin()
                await self._run(program, cycle, begin=begin)
            if cycle.began_ns is None:
                raise MachineError(f"{program[0]} ended without the line `{BEGIN}` (t0 is `line`)")
            yield ProgramDisturbs(program=_shown(program))

    async def _run(
        self, program: tuple[str, ...], cycle: CycleContext, begin: Callable[[], None]
    ) -> None:
        """Run it to its end; `begin` is called when it says so.

        Raises MachineError if it fails or takes too long.
        """
        told = 0

        def heard(line: str, at_ns: int) -> None:
            nonlocal told
            if line.strip() == BEGIN:
                begin()
            told += 1
            if told <= LINES_MAX:
                cycle.record(LinePrinted(text=shown.masked(line[:LINE_MAX])), at_ns=at_ns)

        variables = {"CHAOSD_CELL": cycle.cell, "CHAOSD_CYCLE": str(cycle.number)}
        environment = os.environ | labels(cycle.run) | variables
        if isinstance(cycle.clock, VirtualClock):
            status, last = _at_once(program, environment, cycle, heard, self.config.timeout.s)
        else:
            status, last = await _child(program, environment, cycle, heard, self.config.timeout.s)
        if status is None:
            what = f"took more than {self.config.timeout} (timeout) and was killed"
        elif status:
            what = f"ended with exit status {status}" if status > 0 else f"died of signal {-status}"
        else:
            return
        raise MachineError(f"{program[0]} {what}{f': {last[:LINE_MAX]}' if last else ''}")


Heard = Callable[[str, int], None]
Ended = tuple[int | None, str]  # exit status, None if it was killed for its time; its last line


async def _child(
    program: tuple[str, ...],
    environment: dict[str, str],
    cycle: CycleContext,
    heard: Heard,
    limit_s: float,
) -> Ended:
    name = Path(program[0]).name
    command = within_session(program)
    child = Child(name, command, environment=environment, clock=cycle.clock, heard=heard)
    try:
        in_time = await child.wait(limit_s)
    finally:
        if not child.gone:
            await uncancelled(child.end(SIGKILL, KILL_S), 2 * KILL_S)
    return child.exit_status if in_time else None, child.last_line


def _at_once(
    program: tuple[str, ...],
    environment: dict[str, str],
    cycle: CycleContext,
    heard: Heard,
    limit_s: float,
) -> Ended:
    """Run it while the simulated world stands still: nothing may await what is real there."""
    try:
        done = subprocess.run(
            within_session(program),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    except OSError as error:
        raise MachineError(f"{program[0]} can't be started: {error.strerror}") from error
    lines = done.stdout.decode(errors="replace").splitlines()
    for line in lines:
        heard(line.rstrip(), cycle.clock.now_ns())
    return done.returncode, lines[-1] if lines else ""


def _deed(role: str, program: Sequence[str]) -> RunProgram:
    """What is stored of it: without the secrets among its arguments."""
    return RunProgram(role=role, program=_shown(program))


def _shown(program: Sequence[str]) -> tuple[str, ...]:
    return tuple(shown.mask_tree(list(program)))
