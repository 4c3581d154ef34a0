"""`chaosd calibrate`: the meter against outages that are known, by the way that every run takes.

An ordinary run each: `runtime: external` aims the prober at a backend, a `command` has it go away,
the recovery is folded and stored as ever. Only the backend knows more than usual: it stamps when it
went and when it was back, and the command prints that.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import select
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from chaosd import __version__, plan
from chaosd.analysis.calibration import Accuracy, Calibration, compare, outages
from chaosd.config.shape import Config
from chaosd.engine import session
from chaosd.errors import ConfigError, Exit, MachineError
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.history.endings import EndKind, ending_of
from chaosd.history.reader import RunReader
from chaosd.history.writer import write_whole
from chaosd.live.console import Console
from chaosd.report import words
from chaosd.system.processes import labels, lacking
from chaosd.units import Duration, Rate

STABLE_FOR = "300ms"
PAUSE = {"min": "400ms", "max": "900ms"}  # between two outages; its spread gives random phases
PAUSE_MEAN_S = 1.0  # between two outages, all in all
SHORTEST, LONGEST = Duration.parse("10ms"), Duration.parse("30s")
RATES_MAX, OUTAGES_MAX = 20, 100_000
START_LIMIT_S = 10.0
STOP_LIMIT_S = 5.0
MARGIN_S = 15.0  # that a command may take beyond its outage


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to calibrate with. With `target` and `command` the outages are somebody else's."""

    rates: tuple[Rate, ...]
    shortest: Duration
    longest: Duration
    count: int
    seed: int
    directory: Path
    target: str | None = None
    command: tuple[str, ...] = ()


def wanted(
    *,
    rates: str,
    lengths: str,
    count: int,
    seed: int | None,
    directory: Path,
    target: str | None,
    command: str,
) -> Wanted:
    """Read what the user typed. Raises ConfigError."""
    try:
        program = tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(f"--command {command}: {error} (quote it as for a shell)") from None
    try:
        found = tuple(
            Rate.parse(f"{rate.strip().removesuffix('/s')}/s") for rate in rates.split(",")
        )
    except ValueError as error:
        raise ConfigError(f"--rates {rates}: {error} (such as 200,500,1000)") from None
    if len(found) > RATES_MAX:
        raise ConfigError(f"--rates: {len(found)} of them (at most {RATES_MAX})")
    if len(set(found)) < len(found):
        raise ConfigError(f"--rates {rates}: one of them is named twice")
    low, dots, high = lengths.partition("..")
    try:
        shortest, longest = Duration.parse(low), Duration.parse(high if dots else low)
    except ValueError as error:
        raise ConfigError(f"--outages {lengths}: {error} (such as 50ms..5s)") from None
    if not SHORTEST <= shortest <= longest <= LONGEST:
        raise ConfigError(f"--outages {lengths}: should be between {SHORTEST} and {LONGEST}")
    if not 1 <= count <= OUTAGES_MAX:
        raise ConfigError(f"--n {count}: should be from 1 to {OUTAGES_MAX:,}")
    if program and (what := lacking(program[0])) is not None:
        raise ConfigError(f"--command: {what} (such as --command './outage.sh 5')")
    if (target is None) != (not program):
        raise ConfigError("--target and --command go together: who is asked, and what moves it")
    wanted = Wanted(
        rates=found,
        shortest=shortest,
        longest=longest,
        count=count,
        seed=secrets.randbits(32) if seed is None else seed,
        directory=directory,
        target=target,
        command=program,
    )
    for rate in wanted.rates:
        _config(rate, wanted, target or "127.0.0.1:1", program or (sys.executable,))
    return wanted


def calibrate(wanted: Wanted) -> int:
    """Calibrate at each rate, print the table, write calibrate.json. Returns the exit code."""
    console = Console()
    mean_s = (wanted.shortest.s + wanted.longest.s) / 4 + PAUSE_MEAN_S
    about = Duration(round(len(wanted.rates) * wanted.count * mean_s) * 10**9)
    rates = len(wanted.rates)
    many = f"{wanted.count} outages at " + (f"each of {rates} rates" if rates > 1 else "one rate")
    if wanted.target is None:
        console.say(
            f"{many}, {wanted.shortest} to {wanted.longest} long, about {about} in all; "
            f"seed {wanted.seed}"
        )
    else:
        console.say(f"{many}, {wanted.target} as `{' '.join(wanted.command)}` moves it")
    directory = session.new_directory(wanted.directory, "calibrate")
    found: dict[str, Calibration] = {}
    with _backend(wanted) as (target, command):
        for rate in wanted.rates:
            calibration = _at(rate, wanted, target, command, directory / f"{rate:g}")
            if calibration is None:
                break
            found[str(rate)] = calibration
    console.say("")
    missing = len(wanted.rates) - len(found)
    if missing:
        console.say(f"stopped: {missing} of {rates} rates {'are' if missing > 1 else 'is'} missing")
    for line in table(found):
        console.say(line)
    ok = [calibration.ok for calibration in found.values()] + [None] * missing
    write_whole(directory / "calibrate.json", json.dumps(_json(wanted, found), indent=2) + "\n")
    console.say(f"calibrate.json: {directory / 'calibrate.json'}")
    console.check()
    return Exit.UNKNOWN if None in ok else Exit.OK if all(ok) else Exit.FAIL


# --- one rate -------------------------------------------------------------------------------------


class _Progress(Console):
    """One line per outage."""

    def __init__(self, rate: Rate, count: int) -> None:
        super().__init__()
        self._rate, self._count, self._outages = rate, count, 0

    def say(self, text: str) -> None:
        if text.startswith("stopping"):
            super().say(text)

    def cycle(self, cycle: Cycle) -> None:
        if cycle.outcome == CycleOutcome.SKIPPED:
            return
        self._outages += 1
        if cycle.outage_gap_s is None:
            why = words.reason(cycle)
            what = f"{cycle.outcome}{f': {why}' if why else ''}"
        else:
            what = f"measured {cycle.outage_gap_s:.3f} s"
        super().say(f"{self._rate} {self._outages:3}/{self._count} {what}")


def _config(rate: Rate, wanted: Wanted, target: str, command: tuple[str, ...]) -> Config:
    """The run that measures at this rate. Raises ConfigError for what the user typed."""
    limit = Duration(wanted.longest + round(MARGIN_S * 10**9))
    values = {
        "name": "calibrate",
        "runtime": {"type": "external", "target": target},
        "proxy": {"type": "unknown"},
        "seed": wanted.seed,
        "faults": [{"type": "command", "inject": command, "every": PAUSE, "timeout": limit}],
        "probes": [{"type": "http", "rate": rate, "timeout": "250ms"}],
        "direct": None,
        "metrics": None,
        "measure": {"stable_for": STABLE_FOR, "recovery_limit": limit},
        "runs": {"directory": wanted.directory},
        "until": {"cycles": wanted.count},
    }
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        options = {"runtime": "--target", "faults": "--command", "probes": "--rates"}
        first = error.errors()[0]
        key = str(first["loc"][0])
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{options.get(key, f'--{key}')}: {what}") from None


def _at(
    rate: Rate, wanted: Wanted, target: str, command: tuple[str, ...], directory: Path
) -> Calibration | None:
    """Make the outages at one rate and compare; None if it is stopped meanwhile.

    Raises ChaosdError if the run fails.
    """
    config = _config(rate, wanted, target, command)
    planned = plan.build(config, lambda where, what: f"--{where[-1]}: {what}")
    rehearsals = plan.rehearse(planned)
    directory.mkdir()
    progress = _Progress(rate, wanted.count)
    with asyncio.Runner(loop_factory=planned.runtime.loop_factory()) as runner:
        work = session.measure(planned, rehearsals, directory, progress)
        _, error = runner.run(work)
    progress.close()
    if error is not None:
        raise error
    reader = RunReader(directory)
    ending = ending_of(reader.manifest)
    if ending is None or ending.kind is not EndKind.DONE:
        return None
    return compare(
        reader.cycles(), outages(reader.events("line")), interval_s=rate.interval_ns / 1e9
    )


# --- the backend ----------------------------------------------------------------------------------


@contextmanager
def _backend(wanted: Wanted) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Who is asked, and the command that moves it: the built-in one as a process of its own."""
    if wanted.target is not None:
        yield wanted.target, wanted.command
        return
    program = (sys.executable, "-I", "-S", str(Path(__file__).parent / "backend.py"))
    with tempfile.TemporaryDirectory(prefix="chaosd-") as directory:
        control = str(Path(directory) / "control")
        process = subprocess.Popen(
            (*program, "serve", control),
            env=os.environ | labels(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
        try:
            said = _line(process)
            if said[:1] != ["listening"]:
                raise MachineError("the reference backend did not start")
            bounds = (f"{wanted.shortest.s:g}", f"{wanted.longest.s:g}")
            yield said[1], (*program, "outage", control, *bounds, str(wanted.seed))
            if process.poll() is not None:
                raise MachineError("the reference backend died meanwhile: nothing was calibrated")
        finally:
            with process:  # its stdin closes, so it ends
                if process.stdin is not None:
                    process.stdin.close()
                try:
                    process.wait(STOP_LIMIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()


def _line(process: subprocess.Popen[str]) -> list[str]:
    """The words of its first line; none if it says nothing in time."""
    out = process.stdout
    if out is None or not select.select([out], [], [], START_LIMIT_S)[0]:
        return []
    return out.readline().split()


# --- what is said ---------------------------------------------------------------------------------


def table(found: dict[str, Calibration]) -> list[str]:
    """The accuracy of each estimator at each rate, in milliseconds."""
    head = f"{'bias':>18} {'spread':>8} {'worst':>8} {'limit':>7}"
    lines = [f"{'rate':>8} {'n':>4} {'estimator':<9} {head}"]
    for rate, calibration in found.items():
        judged = calibration.judged
        for name, accuracy in calibration.accuracy().items() if judged else ():
            lines.append(f"{rate:>8} {len(judged):>4} {_row(name, accuracy, calibration)}")
        left = [
            f"{count} {what}"
            for count, what in (
                (len(calibration.errors) - len(judged), "poor, not counted"),
                (calibration.unmeasured, "not measured"),
            )
            if count
        ]
        if left:
            lines.append(f"{rate:>8} {', '.join(left)}")
    return lines


def _row(name: str, accuracy: Accuracy, calibration: Calibration) -> str:
    error_s = accuracy.bias_error_s
    known = "?" if error_s is None else f"{error_s * 1e3:.2f}"
    bias = f"{accuracy.bias_s * 1e3:+.2f} ± {known} ms"
    rest = [f"{seconds * 1e3:.2f} ms" for seconds in (accuracy.sd_s, accuracy.worst_s)]
    row = f"{name:<9} {bias:>18} {rest[0]:>8} {rest[1]:>8}"
    if name != "gap":
        return row
    said = {True: "ok", False: "MISSED", None: "unknown: too few were measured well"}
    return f"{row} {calibration.limit_s * 1e3:.2f} ms {said[calibration.ok]}"


POOR = "its probes were late or not sent"


def _json(wanted: Wanted, found: dict[str, Calibration]) -> dict[str, Any]:
    rates = []
    for rate, calibration in found.items():
        rates.append(
            {
                "rate": rate,
                "interval_s": calibration.interval_s,
                "limit_s": calibration.limit_s,
                "ok": calibration.ok,
                "judged": len(calibration.judged),
                "poor": len(calibration.errors) - len(calibration.judged),
                "unmeasured": calibration.unmeasured,
                "accuracy": {
                    name: asdict(accuracy) for name, accuracy in calibration.accuracy().items()
                }
                if calibration.judged
                else {},
                "outages": [
                    error._asdict()
                    | {"outage": error.outage._asdict() | {"length_s": error.outage.length_s}}
                    | {"poor": POOR if error.poor else None}
                    for error in calibration.errors
                ],
            }
        )
    return {
        "chaosd": __version__,
        "seed": wanted.seed,
        "target": wanted.target,
        "outages_s": [wanted.shortest.s, wanted.longest.s],
        "rates": rates,
    }
