"""One run from its directory to its report: sinks opened, signals minded, the ending said."""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from chaosd import __version__, report, shown
from chaosd.analysis.samples import StoredCounts
from chaosd.config import shape
from chaosd.engine.run import Engine
from chaosd.engine.sink import Sink
from chaosd.errors import ChaosdError, Exit, MachineError
from chaosd.history.endings import Ending, EndKind
from chaosd.history.reader import PLAN
from chaosd.history.retention import Retention
from chaosd.history.values import Address
from chaosd.history.writer import RunStore, refuse_other, write_whole
from chaosd.live.console import Console
from chaosd.live.prometheus import PrometheusSink
from chaosd.plan import Rehearsal, limits, outline, privacy
from chaosd.plan.arms import Plan
from chaosd.plugins.proxy import Launches, TakesOwnFile
from chaosd.report import words
from chaosd.system import priority
from chaosd.system.clock import SECOND_NS, RealClock, utc
from chaosd.system.stops import STOPS

BUG = "a bug of chaosd"
ARM_FACTS = ("proxy", "proxy_version", "proxy_settings", "proxy_config", "settings")


def run(plan: Plan, rehearsals: Sequence[Rehearsal], source: Path) -> int:
    """Do what `chaosd run` does, once the plan is known to be possible. Returns the exit code.

    `source` is the config's file.
    """
    with private(plan, source):
        return _run(plan, rehearsals)


@contextmanager
def private(plan: Plan, source: Path) -> Iterator[None]:
    """What is written meanwhile, by our children too, may be read by nobody who may not read this.

    `source` is the config's file.
    """
    with suppress(OSError):  # said where the run's own directory is made; this one is all runs'
        plan.config.runs.directory.mkdir(parents=True, exist_ok=True)
    before = os.umask(privacy.ONLY_MINE)
    os.umask(before | privacy.umask(plan, source))
    try:
        yield
    finally:
        os.umask(before)


def _run(plan: Plan, rehearsals: Sequence[Rehearsal]) -> int:
    refuse_other(plan.config.runs.directory / "latest")
    directory = new_directory(plan.config.runs.directory, plan.config.name, plan.run_id)
    console = Console()
    for rehearsal in rehearsals:
        for advice in rehearsal.advice:
            console.say(advice if len(rehearsals) == 1 else f"{rehearsal.arm.name}: {advice}")
    console.say(f"runtime: {plan.runtime_name} ({plan.why}), {_proxies(rehearsals)}")
    store, error = measured(plan, rehearsals, directory, console, latest=True)
    try:
        found = report.analyse(directory)
        written = found.report
        code = report.exit_code(written) if error is None else error.exit_code
        with suppress(ChaosdError):  # what ended the run must not be hidden by what comes after it
            store.update(exit=int(code))
        written = replace(written, manifest=written.manifest | {"exit": int(code)})
        report.save(found._replace(report=written), directory)
    except ChaosdError as failure:
        raise error or failure from None
    # A run that failed before it measured anything has nothing to tell but why.
    if error is None or any(written.total.outcomes.values()):
        console.close()
        for line in report.closing_lines(written, directory, report.side_by_side(written)):
            console.say(line)
    console.close()
    if error is not None:
        raise error
    console.check()
    return code


def _said(plan: Plan, rehearsals: Sequence[Rehearsal]) -> Iterator[str]:
    """What is known of the plan before it runs, a line each."""
    yield outline(plan)
    for rehearsal in rehearsals:
        arm = f"{rehearsal.arm.name}: " if len(rehearsals) > 1 else ""
        copied = rehearsal.copied
        lines = () if copied is None else (*copied.choices, *copied.not_carried)
        for line in (*lines, *rehearsal.notes, *rehearsal.advice):
            yield f"{arm}{line}"


def _proxies(rehearsals: Sequence[Rehearsal]) -> str:
    """Which proxies are under test, with their versions."""
    found = [f"{r.arm.config.proxy.type} {r.proxy_version or '(simulated)'}" for r in rehearsals]
    if len(set(found)) == 1:
        return found[0]
    return ", ".join(f"{r.arm.name}: {said}" for r, said in zip(rehearsals, found, strict=True))


def is_real(plan: Plan) -> bool:
    """Whether it takes time."""
    return isinstance(plan.runtime.clock(), RealClock)


def measured(
    plan: Plan,
    rehearsals: Sequence[Rehearsal],
    directory: Path,
    console: Console,
    *,
    latest: bool = False,
) -> tuple[RunStore, ChaosdError | None]:
    """Run `measure` in a loop of its own, before other programs of this machine."""
    turns = priority.before_others() if is_real(plan) else nullcontext()
    with turns, asyncio.Runner(loop_factory=plan.runtime.loop_factory()) as runner:
        return runner.run(measure(plan, rehearsals, directory, console, latest=latest))


async def measure(
    plan: Plan,
    rehearsals: Sequence[Rehearsal],
    directory: Path,
    console: Console,
    *,
    latest: bool = False,
) -> tuple[RunStore, ChaosdError | None]:
    """Run the engine with its sinks. Whatever ended it that is not a bug is returned.

    With `latest` the link of that name beside the directory points to it once it has begun.
    """
    stop = _stop_signal(console)
    engine = Engine(plan, directory, console.say)
    clock, real = engine.clock, isinstance(engine.clock, RealClock)
    manifest = _manifest(plan, rehearsals) | {"start_unix": clock.unix_ns() / SECOND_NS}
    store = RunStore(
        directory,
        manifest,
        shape.dump(plan.config),
        threads=real,
        retention=_retention(plan, directory),
        latest=directory.with_name("latest") if latest else None,
        explain=words.reason,
    )

    write_whole(directory / PLAN, "\n".join(map(shown.masked, _said(plan, rehearsals))) + "\n")

    def admitted(left_out: Sequence[str], facts: dict[str, Any]) -> None:
        store.update(**_without(store.manifest, left_out), admission=facts)

    engine.admitted = admitted
    sinks: list[Sink] = [store, console]
    failure: ChaosdError | None = None
    ending = Ending(kind=EndKind.BUG, detail=BUG)
    try:
        if plan.config.metrics is not None:
            page = _metrics_page(plan, plan.config.metrics.listen, manifest)
            sinks.append(page)
            console.say(f"metrics: http://{page.address}/metrics")
        console.say(f"run directory: {directory}")
        console.say(outline(plan))
        for warning in limits.warnings(plan):
            console.say(warning)
        ending = Ending(kind=await engine.run(sinks, stop))
    except ChaosdError as error:
        ending, failure = Ending(kind=EndKind.FAILED, detail=str(error)), error
    finally:
        for sink in reversed(sinks):
            try:
                sink.close()
            except ChaosdError as error:
                failure = failure or error
        code = failure.exit_code if failure else Exit.BUG if ending.kind is EndKind.BUG else Exit.OK
        reason = shown.line(ending.detail or ending.kind)
        end_unix = clock.unix_ns() / SECOND_NS
        with suppress(ChaosdError):  # a full disk has already been told of
            store.update(end_unix=end_unix, exit=int(code), reason=reason)
    if stop.is_set():  # a second signal must not cut the report short
        for number in STOPS:
            signal.signal(number, signal.SIG_IGN)
    return store, failure


def _retention(plan: Plan, directory: Path) -> Retention | None:
    """What becomes of samples after a while; None: all are kept."""
    keep, slow_ns = plan.config.runs.keep_raw, plan.arms[0].settings().slow_after_ns
    if keep is None:
        return None
    return Retention(
        directory,
        int(keep),
        lambda known: StoredCounts(
            known.streams, known.identities, known.t0s_ns, slow_ns, known.paced
        ),
    )


def _metrics_page(plan: Plan, listen: Address, manifest: dict[str, Any]) -> PrometheusSink:
    run = {key: str(manifest[key]) for key in ("name", "run", "runtime", "proxy", "proxy_version")}
    return PrometheusSink(
        listen,
        cells={cell.name: cell.arm.name for cell in plan.cells},
        faults=[fault.label for fault in plan.config.faults],
        slow_after_ns=plan.arms[0].settings().slow_after_ns,
        run=run,
        build={"version": __version__, "python": platform.python_version()},
    )


def _stop_signal(console: Console) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stopping(number: signal.Signals) -> None:
        if not stop.is_set():
            console.say(f"stopping ({number.name}): undoing what is under way, then the report")
        stop.set()

    for number in STOPS:
        # Under nohup a hang-up stays ignored. But a shell's `&` ignores SIGINT, and `kill -INT` is
        # how people stop what they started so.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, stopping, number)
    return stop


def _manifest(plan: Plan, rehearsals: Sequence[Rehearsal]) -> dict[str, Any]:
    arms = {rehearsal.arm.name: _arm(plan, rehearsal) for rehearsal in rehearsals}
    first = arms[plan.arms[0].name]
    return {
        "chaosd": __version__,
        "name": plan.config.name,
        "run": plan.run_id,
        "seed": plan.seed,
        "secrets": shown.fingerprint(privacy.secrets(plan)),
        "runtime": plan.runtime_name,
        "runtime_why": plan.why,
        # Of the first arm, as before there were several.
        **{key: first[key] for key in ARM_FACTS},
        "cells": [cell.name for cell in plan.cells],
        "arms": arms,
        "slo": plan.config.slo.objectives(),
        "host": {
            "system": platform.platform(),
            "python": platform.python_version(),
            "cpus": os.cpu_count(),
        },
    }


def _without(manifest: dict[str, Any], left_out: Sequence[str]) -> dict[str, Any]:
    """The cells of a run, and of its arms, without those that were never started."""

    def kept(cells: Sequence[str]) -> list[str]:
        return [cell for cell in cells if cell not in left_out]

    arms = {n: {**arm, "cells": kept(arm["cells"])} for n, arm in manifest["arms"].items()}
    return {"cells": kept(manifest["cells"]), "arms": arms}


def _arm(plan: Plan, rehearsal: Rehearsal) -> dict[str, Any]:
    arm, proxy = rehearsal.arm, rehearsal.arm.proxy
    return {
        "label": arm.name,
        "cells": [cell.name for cell in plan.cells if cell.arm is arm],
        "proxy": arm.config.proxy.type,
        "proxy_version": rehearsal.proxy_version,
        "proxy_settings": proxy.settings() if isinstance(proxy, TakesOwnFile) else {},
        "proxy_config": proxy.config_name if isinstance(proxy, Launches) else None,
        "binary_sha256": rehearsal.binary_sha256,
        "settings": asdict(arm.settings()),
        "differs": shown.mask_tree(
            next((a.values for a in plan.config.arms if a.name == arm.name), {})
        ),
    }


def new_directory(runs: Path, name: str, run: str = "") -> Path:
    """Make runs/<name>-<utc>-<run>, which nobody has. Raises MachineError if that can't be done."""
    # The name is the real wall's even if the run's own time is virtual, or runs would collide.
    now = utc(RealClock().unix_ns()).strftime("%Y%m%dT%H%M%SZ")
    directory = runs / f"{name}-{now}-{run or secrets.token_hex(3)}"
    try:
        if run and directory.exists():  # one seed, simulated twice in a second
            return new_directory(runs, name)
        directory.mkdir(parents=True)
    except OSError as error:
        raise _unmade(runs, error) from error
    return directory


def _unmade(runs: Path, error: OSError) -> MachineError:
    what = f"{runs} can't be written: {error.strerror} (name another one)"
    return MachineError(f"runs.directory: {what}")
