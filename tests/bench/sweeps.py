"""A sweep of 24 arms: how much sooner it is done than one after the other, and as well.

    python tests/bench/sweeps.py [--cycles 30] [--arms 24] [--alone 3] [--keep DIRECTORY]
    python tests/bench/sweeps.py --predicted [--cycles 30] [--keep DIRECTORY]

The second form is about a prediction of 5,000 arms: how long it takes, and how many arms of its
front no measured arm certainly dominates, once those are measured that a sweep chooses.

`timeout resolve`, `timeout retry`, `inter` and `redispatch` on HAProxy 2.6 and 3.4, as a Latin
hypercube. Told are: how long the sweep took; how long its cycles would have taken one after the
other; the part of blocks that were made again; and of a few arms the median of the recovery beside
that of the same arm alone in `chaosd run`. It takes less than 25 minutes.

One after the other is said twice: with the pauses between cycles that a run of its own needs (from
one T0 to the next in a cell), and without any (from T0 to the end of the observation). Both have
the time that a run takes to set its world up, once for each arm.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from afresh import chaosd, faults_of, loaded, run

from chaosd.analysis.statistics import interval_ranks
from chaosd.history.codec import decode_cycle
from chaosd.sweep.store import Store

RESOLVERS = "proxy.resolvers."
SWEEP_LIMIT_S, ALONE_LIMIT_S = 720.0, 180.0
SHARE_MAX, POOR_MAX = 0.1, 0.02
PREDICTED_S_MAX, HOLDS_SHARE_MIN, LARGE_LIMIT_S = 180.0, 0.8, 400.0
SECOND_NS = 1e9


def design(arms: int, cycles: int) -> dict[str, Any]:
    return {
        "name": "bench",
        "base": "base.yaml",
        "vary": {
            "proxy.version": ["2.6", "3.4"],
            f"{RESOLVERS}timeout_resolve": {"log": ["200ms", "2s"], "n": 4},
            f"{RESOLVERS}timeout_retry": {"log": ["200ms", "2s"], "n": 4},
            "proxy.server.inter": ["500ms", "2s"],
            "proxy.redispatch": [False, 1],
        },
        "how": "lhs",
        "samples": arms - 1,  # the baseline is one more
        "baseline": {"proxy.version": "2.6"},
        "faults": ["recreate"],
        "until": {"cycles": cycles, "time": f"{SWEEP_LIMIT_S:.0f}s"},
        "seed": 15,
    }


def large_design(cycles: int) -> dict[str, Any]:
    """5,000 combinations."""
    return {
        "name": "large",
        "base": "base.yaml",
        "vary": {
            "proxy.version": ["2.6", "3.4"],
            f"{RESOLVERS}timeout_resolve": {"log": ["200ms", "3s"], "n": 5},
            f"{RESOLVERS}timeout_retry": {"log": ["200ms", "3s"], "n": 5},
            f"{RESOLVERS}hold.obsolete": ["0ms", "500ms", "1s", "2s", "5s"],
            "proxy.server.inter": {"log": ["300ms", "3s"], "n": 5},
            "proxy.retries": [1, 3],
            "proxy.redispatch": [False, 1],
        },
        "baseline": {"proxy.version": "2.6"},
        "faults": ["recreate"],
        "until": {"cycles": cycles, "time": f"{LARGE_LIMIT_S:.0f}s"},
        "seed": 15,
    }


BASE = {
    "name": "base",
    "runtime": "local",
    "proxy": {"type": "haproxy"},
    "probes": [{"type": "http", "rate": "20/s"}],
}


class Alone(NamedTuple):
    """How long cycles take, s."""

    with_pauses: float
    bare: float
    cycles: int


def one_after_the_other(directory: Path) -> Alone:
    """All cycles of a sweep, fresh ones included, and each arm's set-up once."""
    paced_s = bare_s = 0.0
    count = 0
    set_ups: list[float] = []
    arms: set[str] = set()
    for begun in Store(directory).rounds():
        path = directory / begun.directory
        if not (path / "cycles.jsonl").exists():
            continue
        lines = (path / "cycles.jsonl").read_text().splitlines()
        cells: dict[str, list[Any]] = defaultdict(list)
        for cycle in map(decode_cycle, lines):
            cells[cycle.cell].append(cycle)
            arms.add(begun.arms[cycle.arm])
        manifest = json.loads((path / "run.json").read_text())
        firsts = [cycle.t0_unix for some in cells.values() for cycle in some]
        if firsts:
            set_ups.append(max(0.0, min(firsts) - manifest["start_unix"]))
        for some in cells.values():
            some.sort(key=lambda cycle: cycle.t0_ns)
            starts = [cycle.t0_ns for cycle in some]
            steps = [(b - a) / SECOND_NS for a, b in zip(starts, starts[1:], strict=False)]
            good = [cycle for cycle in some if cycle.outcome in ("recovered", "censored")]
            lasted = [(cycle.end_ns - cycle.t0_ns) / SECOND_NS for cycle in good]
            step = statistics.median(steps) if steps else statistics.fmean(lasted or [0.0])
            count += len(good)
            bare_s += sum(lasted)
            paced_s += step * len(good)
    set_up_s = len(arms) * statistics.median(set_ups or [0.0])
    return Alone(paced_s + set_up_s, bare_s + set_up_s, count)


def median(values: list[float]) -> tuple[float, float, float]:
    """With its 95 % interval (order statistics); what has no bound is infinite."""
    ordered = sorted(values)
    low, high = interval_ranks(len(ordered), 0.5)
    return (
        statistics.median(ordered),
        -math.inf if low is None else ordered[low - 1],
        math.inf if high is None else ordered[high - 1],
    )


def said(found: tuple[float, float, float], values: list[float]) -> str:
    return f"{found[0]:.2f} s ({found[1]:.2f}–{found[2]:.2f}, n {len(values)})"


def compared(place: Path, count: int, cycles: int) -> bool:
    """A few arms alone, beside what the sweep has seen of them. Returns whether they are alike."""
    from chaosd.sweep.measuring import results_of

    store, there = Store(place / "sweeps/bench"), loaded(place / "design.yaml")
    plan = store.read()
    results = results_of(store, plan)
    (fault,) = faults_of(there)
    step = max(1, len(plan.arms) // max(1, count))
    alike = True
    for arm in list(plan.arms)[::step][:count]:
        where = place / f"alone-{arm.key}"
        made = run(there, fault, [arm], cycles=cycles, where=where, limit_s=ALONE_LIMIT_S)
        ours = [s.recovery_s for s in results.seen if s.arm == arm.key and s.recovery_s is not None]
        theirs = [s.recovery_s for s in made.seen if s.recovery_s is not None]
        if not ours or not theirs:
            print(f"{arm.sweep.name}: no cycles to compare ({len(ours)}, {len(theirs)})")
            alike = False
            continue
        one, other = median(ours), median(theirs)
        is_alike = one[1] <= other[2] and other[1] <= one[2]
        alike &= is_alike
        print(
            f"{arm.sweep.name}: median in sweep {said(one, ours)}, alone {said(other, theirs)}: "
            f"{'alike' if is_alike else 'DIFFERENT'}",
            flush=True,
        )
    return alike


def measured(place: Path) -> bool:
    """The sweep itself. Returns whether it is as quick and as clean as is asked."""
    code, text, took_s = chaosd("sweep", "design.yaml", cwd=place, limit_s=SWEEP_LIMIT_S + 240)
    print("\n".join(line for line in text.splitlines() if line.startswith(("round", "bench:"))))
    if code not in (0, 4, 124):
        print(text[-3000:])
        return False
    answer = json.loads((place / "sweeps/bench/answer.json").read_text())
    alone = one_after_the_other(place / "sweeps/bench")
    share, bare = took_s / alone.with_pauses, took_s / alone.bare
    blocks = answer["blocks"] + answer["fresh_blocks"]
    poor = answer["poor_blocks"] / max(1, blocks)
    print(f"{len(answer['arms'])} arms, {alone.cycles:,} cycles in {took_s:.0f} s")
    print(f"one after the other: {alone.with_pauses:,.0f} s; the sweep took {share:.1%} of it")
    print(f"without any pause: {alone.bare:,.0f} s; the sweep took {bare:.1%} of it")
    print(f"blocks made again: {answer['poor_blocks']} of {blocks} ({poor:.1%})", flush=True)
    return share <= SHARE_MAX and poor <= POOR_MAX


def predicted(place: Path, cycles: int) -> bool:
    """Whether 5,000 arms are predicted soon enough, and whether the predicted front holds."""
    (place / "large.yaml").write_text(yaml.safe_dump(large_design(cycles), sort_keys=False))
    words = ("sweep", "large.yaml", "--predict")
    code, text, took_s = chaosd(*words, cwd=place, limit_s=2 * PREDICTED_S_MAX)
    said_of = next((line for line in text.splitlines() if line.startswith("predicted: ")), text)
    print(f"{said_of} in {took_s:.0f} s", flush=True)
    if code:
        return False
    limit_s = LARGE_LIMIT_S + 2 * PREDICTED_S_MAX
    code, text, _ = chaosd("sweep", "large.yaml", cwd=place, limit_s=limit_s)
    if code not in (0, 4):
        print(text[-3000:])
        return False
    answer = json.loads((place / "sweeps/large/answer.json").read_text())
    front = [answer["arms"][key] for key in answer["predicted_front"]]
    front = [arm for arm in front if arm["measured"]]
    beaten = [arm for arm in front if (arm["stopped"] or "").startswith("dominated")]
    for arm in beaten:
        print(f"{arm['name']}: {arm['stopped']}")
    print(f"predicted front: {len(front)} arms measured, {len(beaten)} of them dominated")
    holds = len(front) - len(beaten) >= HOLDS_SHARE_MIN * len(front)
    return bool(front) and holds and took_s <= PREDICTED_S_MAX


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=30)
    parser.add_argument("--arms", type=int, default=24)
    parser.add_argument("--alone", type=int, default=3, help="arms that are run alone, too")
    parser.add_argument("--predicted", action="store_true", help="the prediction of 5,000 arms")
    parser.add_argument("--keep", type=Path, help="a directory for it; not kept if not set")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="chaosd-bench-") as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        (place / "base.yaml").write_text(yaml.safe_dump(BASE))
        if options.predicted:
            return 0 if predicted(place, options.cycles) else 1
        text = yaml.safe_dump(design(options.arms, options.cycles), sort_keys=False)
        (place / "design.yaml").write_text(text)
        is_quick = measured(place)
        is_alike = compared(place, options.alone, options.cycles)
    return 0 if is_quick and is_alike else 1


if __name__ == "__main__":
    raise SystemExit(main())
