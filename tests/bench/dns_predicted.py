"""Whether DNS faults do to users what the model says: presets on real HAProxy builds.

    python tests/bench/dns_predicted.py [--only PRESET …] [--cycles 3] [--at-once 2] [--write FILE]

For each preset that the model reaches, `chaosd run` on the local runtime, with every installed line
of HAProxy side by side (`chaosd haproxy install --all`): the fault lasts for 6 s, each `hold` is
2 s, a poll comes each second. Two nameservers stand there for the presets that are about one of
several. A cycle is in band where its outcome is the predicted one: unaffected, or an outage as long
and as late as the model says. Poor cycles count for nothing, and are told. It takes some ten
minutes. Exit 1 if a cycle is out of band.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import yaml

from chaosd.dns.presets import PRESETS
from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.plugins.dns_trouble import trouble
from chaosd.plugins.timeline import Timeline
from chaosd.proxies.haproxy import builds

HOLDS = dict.fromkeys(("nx", "refused", "timeout", "other"), "2s")
RESOLVERS = {
    "timeout_resolve": "1s",
    "timeout_retry": "500ms",
    "resolve_retries": 2,
    "hold": HOLDS,
}
WINDOW, EVERY, RATE = "6s", "10s", "50/s"
LIMIT_S = 300.0
JUDGED = (CycleOutcome.UNAFFECTED, CycleOutcome.RECOVERED, CycleOutcome.CENSORED)


class Counts(NamedTuple):
    """The cycles of one preset on one line of HAProxy."""

    in_band: int
    judged: int
    poor: int
    outcomes: frozenset[str]


async def main() -> int:
    arguments = _arguments()
    lines = [line for line in builds.LINES if builds.find(line)]
    if not lines:
        print("no HAProxy is installed (chaosd haproxy install --all)")
        return 0
    names = arguments.only or [name for name in PRESETS if _is_reached(name)]
    limit = asyncio.Semaphore(arguments.at_once)
    found: dict[str, list[Cycle]] = {}

    async def look(name: str) -> None:
        async with limit:
            found[name] = await _run(name, lines, arguments.cycles)
        if arguments.write is not None:  # as far as it has come
            known = [each for each in names if each in found]
            arguments.write.write_text(_page(known, lines, found)[0], encoding="utf-8")
        bad = [
            f"{c.arm} {c.outcome} {c.recovery_s} {c.outage_loss_s} {c.predicted}"
            for c in found[name]
            if c.anomaly and c.doubt is None
        ]
        print(f"{len(found)} of {len(names)}: {name} {bad or ''}", file=sys.stderr, flush=True)

    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(look(name))
    page, anomalies = _page(names, lines, found)
    if arguments.write is None:
        print(page)
    else:
        arguments.write.write_text(page, encoding="utf-8")
    return 1 if anomalies else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="whether DNS faults do what the model says")
    parser.add_argument("--only", nargs="+", choices=list(PRESETS), metavar="PRESET")
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--write", type=Path, metavar="FILE")
    return parser.parse_args()


def _is_reached(name: str) -> bool:
    """Whether the model knows what becomes of its answers, and it is about this world at all."""
    if name.startswith(("tcp-", "srv-")):
        return False
    times = {"begins_s": 0.0, "ends_s": 1.0, "took_s": 0.0}
    met = trouble(PRESETS[name].rules, replicas=1, nameservers=2, **times)
    return isinstance(met, Timeline)


async def _run(name: str, lines: list[str], cycles: int) -> list[Cycle]:
    several = any(rule.nameserver is not None for rule in PRESETS[name].rules)
    config = {
        "name": name,
        "runtime": "local",
        "metrics": None,
        "direct": None,
        "dns": {"nameservers": 2 if several else 1},
        "proxy": {"type": "haproxy", "resolvers": RESOLVERS},
        "arms": [{"name": f"v{line.replace('.', '-')}", "proxy.version": line} for line in lines],
        "faults": [{"type": "dns", "preset": name, "window": WINDOW, "every": EVERY}],
        "probes": [{"type": "http", "rate": RATE}],
        "until": {"cycles": cycles},
    }
    with tempfile.TemporaryDirectory(prefix="dns-") as directory:
        file = Path(directory) / "run.yaml"
        file.write_text(yaml.safe_dump(config), encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "chaosd", "run", str(file)),
            cwd=directory,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(LIMIT_S):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        told = Path(directory) / "runs/latest/cycles.jsonl"
        if not told.exists():
            print(f"{name}: {said.decode(errors='replace')[-500:]}", file=sys.stderr)
            return []
        return [decode_cycle(line) for line in told.read_text(encoding="utf-8").splitlines()]


def _counts(cycles: list[Cycle], line: str) -> Counts:
    mine = [c for c in cycles if c.arm == f"v{line.replace('.', '-')}" and c.outcome in JUDGED]
    good = [cycle for cycle in mine if cycle.doubt is None and cycle.anomaly is not None]
    return Counts(
        in_band=sum(not cycle.anomaly for cycle in good),
        judged=len(good),
        poor=sum(cycle.doubt is not None for cycle in mine),
        outcomes=frozenset(cycle.outcome.value for cycle in good),
    )


def _page(names: list[str], lines: list[str], found: dict[str, list[Cycle]]) -> tuple[str, int]:
    rows = [f"| preset | users | {' | '.join(lines)} |", "|" + "---|" * (2 + len(lines))]
    sums: Counter[str] = Counter()
    for name in names:
        each = [_counts(found[name], line) for line in lines]
        outcomes = sorted(frozenset[str]().union(*(counts.outcomes for counts in each)))
        said = " or ".join(outcomes).replace("recovered", "an outage") or "-"
        cells = [f"{counts.in_band} of {counts.judged}" for counts in each]
        rows.append(f"| `{name}` | {said} | {' | '.join(cells)} |")
        sums["in band"] += sum(counts.in_band for counts in each)
        sums["judged"] += sum(counts.judged for counts in each)
        sums["poor"] += sum(counts.poor for counts in each)
        sums["reached"] += all(counts.judged for counts in each)
    rows.append("")
    rows.append(
        f"{sums['in band']} of {sums['judged']} cycles of {len(names)} presets in band "
        f"({sums['poor']} more were poor)."
    )
    return "\n".join(rows) + "\n", sums["judged"] - sums["in band"]


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
