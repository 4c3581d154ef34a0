"""What a block costs beyond its own time, and what it weighs: a small sweep on workers here.

python tests/bench/machines.py [--workers 2] [--cycles 10]: real HAProxy, 8 arms, one fault. The
numbers of docs/scaling.md are from it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from chaosd.history.reader import RunReader
from chaosd.sweep import racing
from chaosd.sweep.answer import answer
from chaosd.sweep.measuring import FIRST_BLOCKS
from chaosd.sweep.rounds import ARMS_MAX
from chaosd.sweep.store import Store
from chaosd.sweep.values import Seen, SweepArm

sys.path.insert(0, str(Path(__file__).parent.parent / "unit"))  # it has a module of this name, too
import sweeps

DESIGN = """\
name: machines
base: base.yaml
vary:
  proxy.resolvers.timeout_resolve: [200ms, 1s]
  proxy.resolvers.timeout_retry: {same_as: proxy.resolvers.timeout_resolve}
  proxy.redispatch: [false, 1]
  proxy.retries: [2, 3]
faults: [recreate]
seed: 7
"""
BASE = "name: b\nruntime: local\nprobes: [{type: http, rate: 50/s}]\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument(
        "--plan", metavar="ARMS,FAULTS,CYCLES", help="only the arithmetic, for 1 to 50 machines"
    )
    parser.add_argument(
        "--answer", metavar="ARMS,FAULTS,CYCLES", help="only the CPU time of an answer, and a look"
    )
    parser.add_argument("--block", type=float, default=8.0, help="s that a block takes")
    parser.add_argument("--beyond", type=float, default=20.0, help="s that a round takes beyond it")
    parser.add_argument(
        "--kept", type=float, default=40.0, help="kB that a cycle takes on the disk"
    )
    wanted = parser.parse_args()
    if wanted.plan:
        arithmetic(*map(int, wanted.plan.split(",")), wanted)
        return
    if wanted.answer:
        answering(*map(int, wanted.answer.split(",")))
        return
    with tempfile.TemporaryDirectory() as place:
        here = Path(place)
        (here / "base.yaml").write_text(BASE)
        (here / "d.yaml").write_text(DESIGN)
        command = [sys.executable, "-m", "chaosd", "sweep", "d.yaml", "--dir", "s"]
        command += ["--on", f"local:{wanted.workers}", "--cycles", str(wanted.cycles)]
        done = subprocess.run(command, cwd=here, check=False)
        if done.returncode not in (0, 4):
            sys.exit(done.returncode)
        tell(Store(here / "s"))


def arithmetic(arms: int, faults: int, cycles: int, wanted: argparse.Namespace) -> None:
    """As docs/scaling.md has it; fresh blocks at the end are left out."""
    together = min(arms, ARMS_MAX)
    groups = 1 if arms <= ARMS_MAX else -(-arms // (ARMS_MAX - 1))
    rounds = groups * faults * -(-cycles // FIRST_BLOCKS)
    made = groups * faults * cycles * together
    round_s = FIRST_BLOCKS * wanted.block + wanted.beyond
    hours = [f"{-(-rounds // w) * round_s / 3600:.1f} h on {w}" for w in (1, 4, 10, 50)]
    kept = f"{made * wanted.kept / 1e6:.1f} GB"
    print(f"{groups} groups, {rounds:,} rounds, {made:,} cycles, {kept}: {', '.join(hours)}")


def answering(arms: int, faults: int, cycles: int) -> None:
    """Of cycles that are drawn; reading them from files is not in it."""
    rng = Random(1)
    settings = {"a": [1, 2, 3, 4, 5], "b": [1, 2, 3, 4], "c": [0, 1, 2]}
    every = sweeps.arms(**settings, d=list(range(-(-arms // 60))))[:arms]
    names = [f"fault-{number}" for number in range(faults)]
    truths = {
        (arm.key, name): sweeps.Truth(
            least_s=0.5 + 0.1 * arm.values["a"] + 0.05 * arm.values["b"] + 0.2 * rng.random(),
            width_s=1.0,
            queries_per_s=1 + 4 * rng.random(),
        )
        for arm in every
        for name in names
    }
    seen = list(_in_groups(every, names, cycles, truths, rng))
    made = replace(sweeps.results(every, truths, rng, blocks=0, faults=names), seen=tuple(seen))
    began_s = time.process_time()
    answer(made)
    answered_s = time.process_time()
    racing.look(made, None)
    looked_s = time.process_time()
    print(
        f"{len(made.seen):,} cycles: answer {answered_s - began_s:.1f} s of CPU, "
        f"look {looked_s - answered_s:.1f} s"
    )


def _in_groups(
    arms: Sequence[SweepArm],
    faults: Sequence[str],
    cycles: int,
    truths: Mapping[tuple[str, str], sweeps.Truth],
    rng: Random,
) -> Iterator[Seen]:
    """As rounds are made: groups drawn anew for each, with the baseline in each of them."""
    baseline, *others = arms
    block = 0
    for fault in faults:
        for _ in range(-(-cycles // FIRST_BLOCKS)):
            rng.shuffle(others)
            for at in range(0, len(others), ARMS_MAX - 1):
                for _ in range(FIRST_BLOCKS):
                    block += 1
                    for arm in (baseline, *others[at : at + ARMS_MAX - 1]):
                        yield sweeps.seen(arm.key, block, fault, truths[arm.key, fault], rng)


def tell(store: Store) -> None:
    """A line for each number, medians over rounds, with n."""
    begun = {each.number: each for each in store.rounds()}
    beyond, set_up, block, brought, kept = [], [], [], [], []
    for each in store.brought():
        directory = store.directory / begun[each.number].directory
        reader = RunReader(directory)
        cycles = list(reader.cycles())
        first = min(cycle.t0_unix for cycle in cycles)
        last = max(cycle.t0_unix + cycle.lasted_s for cycle in cycles)
        set_up.append(first - float(reader.manifest["start_unix"]))
        beyond.append(each.took_s - each.run_s)
        block.append((last - first) / begun[each.number].cycles)
        brought.append(each.bytes / len(cycles) / 1e3)
        size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
        kept.append(size / len(cycles) / 1e3)
    rows = {
        "a block itself": (block, "s"),
        "a round: until the first fault (cells set up, and the wait for it)": (set_up, "s"),
        "a round: beyond the run (process, report, packing, bringing)": (beyond, "s"),
        "a cycle: brought over the network": (brought, "kB"),
        "a cycle: kept on the disk": (kept, "kB"),
    }
    print(json.dumps([vars(each) for each in store.hosts().values()]))
    for what, (values, unit) in rows.items():
        low, high = min(values), max(values)
        middle = statistics.median(values)
        print(f"{what}: {middle:.1f} {unit} ({low:.1f} to {high:.1f}, n {len(values)} rounds)")


if __name__ == "__main__":
    main()
