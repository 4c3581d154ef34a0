"""Stops a part of a run at a random instant of a cycle, for 2 s or 15 s: that cycle must be poor.

    python tests/attack/stops.py [--size 40] [--seed 1] [--minutes 20]

The parts are chaosd itself, HAProxy, the new app, the prober, a DNS cache before chaosd's DNS, and
chaosd's DNS in a container. On `runtime: local` chaosd answers DNS itself.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from random import Random

import tally
from starving import CACHES, LASTING, NeverError, Run, running, stop
from tally import Budget, Tally

from chaosd.runtimes.local.cache import lacking

LOCAL = ("daemon", "haproxy", "app", "prober")
DELAY_S_MAX = 0.8  # after T0: the cycle goes on for at least a second more
SHORT_S, LONG_S, LONG_EVERY = 2.0, 15.0, 5  # one of so many is a long one
OVERLAP_NS_MIN = 200_000_000  # what of a stop must lie in its cycle to be seen there
AT_ONCE = 5  # stops in one run
WAIT_S = 240
STOPS, MINUTES = 40, 20.0


def attack(n: int, seed: int, budget: Budget) -> Tally:
    """So many stops."""
    found, rng = Tally("stops"), Random(seed)
    with tempfile.TemporaryDirectory(prefix="chaosd-stops-") as scratch:
        where, number = Path(scratch), 0
        while found.tries < n and budget.is_left(found):
            number += 1
            count = min(AT_ONCE, n - found.tries)
            is_long = number % LONG_EVERY == 0
            _stop_some(found, where / str(number), rng, LOCAL, count, is_long=is_long)
        cache = next((each for each in CACHES if lacking(each) is None), None)
        if cache is None:
            found.notes.append("no DNS cache was stopped: none is installed")
        elif budget.is_left(found):
            keys = {"dns": {"cache": cache, "negative_ttl": "1s"}}
            _stop_some(found, where / "cache", rng, [cache], max(1, n // 10), **keys)
        if (reason := _no_engine()) is not None:
            found.notes.append(f"DNS in a container was not stopped: {reason}")
        elif budget.is_left(found):
            keys = {"runtime": {"type": "docker", "dns": "forward"}}
            _stop_some(found, where / "dns", rng, ["dns"], max(1, n // 10), **keys)
    return found


def _stop_some(
    found, where: Path, rng: Random, parts, count: int, *, is_long=False, **keys
) -> None:
    """One run with a stop in each of some of its cycles."""
    stop_s = LONG_S if is_long else SHORT_S
    every = {"every": f"{stop_s + 8:g}s", "jitter": "1s"}
    keys = {"faults": [{"type": "recreate"} | every]} | LASTING | keys
    stopped: dict[int, str] = {}  # the cycle, and what was done in it
    since_ns: dict[int, int] = {}
    with running(where, cycles=count + 1, **keys) as run:
        try:
            for _ in range(count):
                part = rng.choice(list(parts))
                delay_s, after = rng.uniform(0, DELAY_S_MAX), max(stopped, default=0)
                cycle, since_ns[cycle] = stop(run, part, delay_s, stop_s, after)
                stopped[cycle] = f"{part} stopped {delay_s:.2f} s after T0 for {stop_s:g} s"
                found.tries += 1
            cycles = run.wait(WAIT_S)
        except subprocess.TimeoutExpired:
            found.late.append(f"{where.name}: it goes on after {WAIT_S} s")
            return
        except (NeverError, AssertionError) as error:
            found.notes.append(f"not tried: {(str(error).strip().splitlines() or ['?'])[-1]}")
            return
        late = {c.cycle for c in cycles if c.end_ns - since_ns.get(c.cycle, 0) < OVERLAP_NS_MIN}
        found.notes += [f"{stopped[number]}, when the cycle was over" for number in sorted(late)]
        found.judge([c for c in cycles if c.cycle not in late], disturbed=stopped)
        _ended(found, run)


def _ended(found: Tally, run: Run) -> None:
    found.ended(run.process.returncode, run.said, run.where.name)
    found.left += [f"process {entry.name}" for entry in run.processes()]


def _no_engine() -> str | None:
    from stand import why_not

    return why_not()


if __name__ == "__main__":
    sys.exit(tally.command(attack, STOPS, MINUTES))
