"""Whether a sweep's recommendation keeps what it promised, run afresh by `chaosd run`.

    python tests/bench/recommended.py --sweep sweeps/NAME --design DESIGN.yaml [--haproxy FILE …]
    python tests/bench/recommended.py [--only NAME …] [--haproxy FILE [--backend NAME]]

The first takes a sweep that is done. The second makes sweeps of its own, of four small designs
on HAProxy 2.6 and 3.4, and with `--haproxy` of a fifth that begins with a file of yours.

The recommended arm and the baseline run side by side, `--afresh` cycles under each fault. Each
number that was promised with an upper bound is kept if the difference to the baseline is not above
it, by more than the margin within which a sweep takes two numbers to be as good; if it is above but
its own interval is not, that is said. The exit code is 1 if a number is not kept.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from afresh import chaosd, faults_of, loaded, run

from chaosd.sweep.measures import MEASURES
from chaosd.sweep.measuring import results_of
from chaosd.sweep.recommend import Gain, gains_of, recommend
from chaosd.sweep.standing import Basis, board
from chaosd.sweep.store import Store
from chaosd.sweep.values import Results
from chaosd.sweep.words import amount, estimate

CYCLES, AFRESH = 20, 24
CELLS = 4  # of each arm, when it is run afresh
SWEEP_LIMIT_S, RUN_LIMIT_S = 480.0, 300.0
RESOLVE, RETRY = "proxy.resolvers.timeout_resolve", "proxy.resolvers.timeout_retry"
BASE = {
    "name": "base",
    "runtime": "local",
    "proxy": {"type": "haproxy"},
    "probes": [{"type": "http", "rate": "20/s"}],
}
TIED = {RESOLVE: ["200ms", "1s"], RETRY: {"same_as": RESOLVE}}
DESIGNS: dict[str, dict[str, Any]] = {
    "polls": {
        "baseline": {"proxy.version": "2.6"},
        "vary": {"proxy.version": ["2.6"], **TIED, "proxy.redispatch": [False, 1]},
        "faults": ["recreate"],
    },
    "imposter": {
        "baseline": {"proxy.version": "3.4"},
        "vary": {"proxy.version": ["3.4"], **TIED, "proxy.server.inter": ["500ms", "2s"]},
        "faults": [{"type": "recreate", "old_ip": "imposter"}],
    },
    "versions": {
        "baseline": {"proxy.version": "2.6"},
        "vary": {"proxy.version": ["2.6", "3.4"], "proxy.redispatch": [False, 1]},
        "faults": [{"type": "recreate", "old_ip": "blackhole"}],
    },
    "trouble": {
        "baseline": {"proxy.version": "3.4", "proxy.resolvers.hold.other": "500ms"},
        "vary": {
            "proxy.version": ["3.4"],
            RETRY: ["200ms", "1s"],
            "proxy.resolvers.hold.other": ["500ms", "10s"],
        },
        "faults": ["recreate", {"type": "dns", "preset": "servfail", "window": "3s"}],
    },
}
OWN = {"vary": {"proxy.version": ["2.6", "3.4"], **TIED}, "faults": ["recreate"]}


def verdict(promised: Gain, afresh: Gain) -> str:
    """`kept`, `within noise`, `NOT KEPT`, or why there is nothing to keep."""
    bound, value = promised.change.high, afresh.change.value
    if promised.basis is not Basis.FRESH or bound is None:
        return "no bound was promised"
    if value is None:
        return "not measured"
    bound += MEASURES[promised.objective].margin(promised.before or 0.0)
    if value <= bound:
        return "kept"
    low = afresh.change.low
    return "within noise" if low is not None and low <= bound else "NOT KEPT"


def checked(
    directory: Path, design: Path, own: list[str], place: Path, cycles: int
) -> Counter[str]:
    """Run the recommended arm and the baseline afresh; how many numbers have which verdict."""
    store, there = Store(directory), loaded(design, own)
    plan = store.read()
    results = results_of(store, plan)
    found = recommend(board(results))
    by_key = {arm.key: arm for arm in plan.arms}
    baseline = next(arm for arm in plan.arms if arm.sweep.baseline)
    if found is None or found.arm.key == baseline.key:
        print(f"{plan.name}: {'no recommendation' if found is None else 'keeps the baseline'}")
        return Counter({"nothing promised": 1})
    arms = [baseline, by_key[found.arm.key]]
    seen, first = [], 0
    for fault in faults_of(there):
        where = place / f"afresh-{fault.label}"
        limit_s = RUN_LIMIT_S
        made = run(there, fault, arms, cycles=cycles, where=where, limit_s=limit_s, cells=CELLS)
        seen += [_later(each, first) for each in made.seen]
        first += made.blocks
    again = Results(
        name=plan.name,
        arms=tuple(arm.sweep for arm in arms),
        faults=results.faults,
        objectives=results.objectives,
        seen=tuple(seen),
    )
    print(f"{plan.name}: {found.arm.name} against {baseline.sweep.name}, {len(seen)} cycles afresh")
    counts: Counter[str] = Counter()
    now = {(g.objective, g.of_mean): g for g in gains_of(board(again), *(a.sweep for a in arms))}
    for gain in found.gains:
        afresh = now.get((gain.objective, gain.of_mean))
        what = f"{gain.objective}{' (mean)' if gain.of_mean else ''}"
        if afresh is None:  # too few cycles: then there is no mean of its own
            counts["not measured"] += 1
            continue
        counts[verdict(gain, afresh)] += 1
        print(
            f"  {what}: promised {estimate(gain.change, gain.objective, sign=True)} "
            f"({amount(gain.before, gain.objective)} → {amount(gain.after, gain.objective)}), "
            f"afresh {estimate(afresh.change, gain.objective, sign=True)}, n {afresh.n}: "
            f"{verdict(gain, afresh)}",
            flush=True,
        )
    return counts


def _later(seen: Any, first: int) -> Any:
    from dataclasses import replace

    return replace(seen, block=seen.block + first)


def swept(name: str, design: dict[str, Any], own: list[str], place: Path, options: Any) -> Any:
    """A sweep of this design, and its recommendation afresh."""
    place.mkdir(parents=True)
    (place / "base.yaml").write_text(yaml.safe_dump(BASE))
    whole = {"name": name, **({} if own else {"base": "base.yaml"}), **design}
    whole["until"] = {"cycles": options.cycles, "time": f"{SWEEP_LIMIT_S:.0f}s"}
    path = place / "design.yaml"
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    words = ("sweep", "design.yaml", *own)
    code, said, took_s = chaosd(*words, cwd=place, limit_s=SWEEP_LIMIT_S + 180)
    print(f"{name}: swept in {took_s:.0f} s, exit code {code}", flush=True)
    if code not in (0, 4):
        print(said[-2000:])
        return Counter({"not swept": 1})
    return checked(place / "sweeps" / name, path, own, place, options.afresh)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sweep", type=Path, help="the directory of a sweep that is done")
    parser.add_argument("--design", type=Path, help="its design")
    parser.add_argument("--haproxy", type=Path, help="a file of yours")
    parser.add_argument("--backend", help="which of its backends moves")
    parser.add_argument("--only", nargs="+", choices=[*DESIGNS, "own"])
    parser.add_argument("--cycles", type=int, default=CYCLES, help="of each arm of a sweep")
    parser.add_argument("--afresh", type=int, default=AFRESH, help="cycles under each fault")
    parser.add_argument("--keep", type=Path, help="a directory for it; not kept if not set")
    options = parser.parse_args()
    own = [] if options.haproxy is None else ["--haproxy", str(options.haproxy.absolute())]
    own += [] if options.backend is None else ["--backend", options.backend]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="chaosd-bench-") as temporary:
        place = options.keep or Path(temporary)
        if options.sweep is not None:
            counts += checked(options.sweep, options.design, own, place, options.afresh)
        else:
            for name, design in DESIGNS.items() if options.only != ["own"] else ():
                if not options.only or name in options.only:
                    counts += swept(name, design, [], place / name, options)
            if own and (not options.only or "own" in options.only):
                counts += swept("own", OWN, own, place / "own", options)
    print(", ".join(f"{what}: {count}" for what, count in counts.items()))
    return 1 if counts["NOT KEPT"] + counts["not swept"] else 0


if __name__ == "__main__":
    raise SystemExit(main())
