"""How often the prediction of a whole backend holds, by shapes of haproxy.cfg and HAProxy builds.

    python tests/bench/shapes.py run FILE [--cycles=40] [--lanes=16] [--builds=2.2,3.4]
                                          [--shapes=WORD] [--seed=1] [--ipv6-route=yes|no]
    python tests/bench/shapes.py judge FILE… [--late=0.02]

`run` starts a fresh HAProxy for each cycle and adds a line for each to FILE; `judge` holds them
against the model. 40 cycles of all shapes on six builds take over an hour; `--shapes` takes those
whose name is, or contains, one of the words (`a|b`). With `--ipv6-route` (root only) it is the
shapes that go by the host's routes, in a network namespace that has such a route, or has none.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from random import Random

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from shapebench import lanes
from shapebench.catalogue import SHAPES, Shape
from shapebench.cycle import Observation, decode
from shapebench.judge import NUMBERS, Number, judge, mean_interval
from shapebench.measure import LATE_S_MAX, Measured, is_fit, measured

from chaosd.proxies.haproxy import builds
from chaosd.proxies.haproxy.model.backend import Unknown

WANTED = 0.95  # in band
P_LEAST = 0.01  # of a residual test
BANDS = ("recovery_s", "stable_s")  # which must be narrow, too

INSIDE = "CHAOSD_BENCH_NAMESPACE"
WITH_ROUTE = (
    "ip link add veth0 type veth peer name veth1",
    "ip link set veth0 up",
    "ip link set veth1 up",
    "ip -6 addr add fd00::1/64 dev veth0 nodad",
    "ip -6 route add default via fd00::2 dev veth0",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run")
    run.add_argument("file", type=Path)
    run.add_argument("--cycles", type=int, default=40)
    run.add_argument("--lanes", type=int, default=16)
    run.add_argument("--builds", default="")
    run.add_argument("--shapes", default="")
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--ipv6-route", choices=("yes", "no"))
    judge = commands.add_parser("judge")
    judge.add_argument("files", type=Path, nargs="+")
    judge.add_argument(
        "--late", type=float, default=LATE_S_MAX, help="of the bench, in seconds at most"
    )
    options = parser.parse_args()
    if options.command == "run" and options.ipv6_route and INSIDE not in os.environ:
        return inside_namespace(options.ipv6_route == "yes")
    return measure(options) if options.command == "run" else hold(options.files, options.late)


def inside_namespace(route: bool) -> int:
    """The same command in a network namespace of its own."""
    words = ["ip link set lo up", *(WITH_ROUTE if route else ()), 'exec "$0" "$@"']
    command = ["unshare", "-n", "sh", "-ec", "\n".join(words), sys.executable, *sys.argv]
    return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode


def measure(options: argparse.Namespace) -> int:
    rng = Random(options.seed)
    wanted = options.builds.split(",") if options.builds else None
    found = [build for build in builds.installed() if wanted is None or build.name in wanted]
    route = {"yes": True, "no": False, None: None}[options.ipv6_route]
    shapes = [s for s in _chosen(options.shapes.split("|")) if s.ipv6_route is route]
    todo = lanes.jobs(shapes, found, options.cycles, rng)
    began_s, done, troubled = time.monotonic(), 0, 0
    with options.file.open("a") as file:

        def observe(seen: Observation) -> None:
            nonlocal done, troubled
            file.write(seen.encode() + "\n")
            file.flush()
            done += 1
            troubled += bool(seen.trouble)
            if seen.trouble:
                print(f"{seen.shape} {seen.version}: {seen.trouble}\n{seen.said}", flush=True)
            if done % 50 == 0 or done == len(todo):
                took_s = time.monotonic() - began_s
                print(f"{done} of {len(todo)} cycles, {took_s:.0f} s, {troubled} bad", flush=True)

        uvloop.run(lanes.run(todo, options.lanes, rng, observe))
    return 0


def _chosen(words: list[str]) -> list[Shape]:
    """The shapes of these names, or those whose names contain a word that is none."""
    names = {shape.name for shape in SHAPES}
    return [s for s in SHAPES if any(s.name == w if w in names else w in s.name for w in words)]


def hold(files: list[Path], late_s_max: float) -> int:
    """Print how well the model predicts what is in these files; 1 if a share is below WANTED."""
    shapes = {shape.name: shape for shape in SHAPES}
    seen: dict[tuple[str, str], list[Measured]] = defaultdict(list)
    unfit = 0
    for file in files:
        for line in file.read_text().splitlines():
            one = decode(line)
            shape = shapes.get(one.shape)  # None: of an older bench
            cycle = measured(one, shape) if shape is not None and not one.trouble else None
            if cycle is not None and is_fit(cycle, late_s_max):
                seen[one.shape, one.version].append(cycle)
            else:
                unfit += 1
    print(f"{sum(map(len, seen.values()))} cycles, {unfit} late or troubled ones left out\n")
    print("| shape | HAProxy | n |" + "".join(f" {name} |" for name in NUMBERS) + " queries/s |")
    print("|---|---|---|" + "---|" * (len(NUMBERS) + 1))
    held: dict[str, list[Number]] = {name: [] for name in NUMBERS}
    doubtful = []
    for shape in SHAPES:
        for version in sorted({v for s, v in seen if s == shape.name}, key=_numbers):
            verdict = judge(shape, version, seen[shape.name, version])
            if isinstance(verdict, Unknown):
                print(f"| {shape.name} | {version} | | unknown: {verdict.why} {verdict.what} |")
                continue
            for name, number in verdict.numbers.items():
                held[name].append(number)
                if words := _doubts(name, number):
                    doubtful.append(f"{shape.name}, {version}, {name}: {words}: {_words(number)}")
            words = "".join(f" {_words(number)} |" for number in verdict.numbers.values())
            rest = f"{verdict.rest_observed:.2f}, model {verdict.rest_predicted:.2f}"
            print(f"| {shape.name} | {version} | {verdict.n} |{words} {rest} |", flush=True)
    print("", *doubtful, "", sep="\n")
    for name, numbers in held.items():
        print(_summary(name, numbers))
    shares = [_share(numbers) for numbers in held.values()]
    return int(any(share < WANTED for share in shares))


def _share(numbers: list[Number]) -> float:
    """How many of all cycles are in band."""
    return sum(n.inside for n in numbers) / max(1, sum(len(n.observed) for n in numbers))


def _summary(name: str, numbers: list[Number]) -> str:
    inside, n = sum(each.inside for each in numbers), sum(len(each.observed) for each in numbers)
    narrow = sum(each.narrow for each in numbers)
    fits = sum(each.p > P_LEAST for each in numbers)
    return (
        f"{name}: {inside} of {n} in band ({_share(numbers):.1%}); of {len(numbers)} shapes and "
        f"builds {narrow} have a narrow band, and {fits} a residual test above {P_LEAST}"
    )


def _doubts(name: str, number: Number) -> str:
    """What is wrong with a prediction, if anything is."""
    found = []
    if number.inside < WANTED * len(number.observed):
        found.append("out of band")
    if name in BANDS and not number.narrow:
        found.append("wide")
    if number.p <= P_LEAST:
        found.append("does not fit")
    return ", ".join(found)


def _words(number: Number) -> str:
    """Such as `20/20 (0.85 to 1.55) mean 1.2 [1.1 1.3] vs 1.21 p .43`."""
    mean, low, high = mean_interval(number.observed)
    predicted = mean_interval(number.predicted)[0]
    return (
        f"{number.inside}/{len(number.observed)} ({number.lower:.2f} to {number.upper:.2f}) "
        f"mean {mean:.2f} [{low:.2f} {high:.2f}] vs {predicted:.2f}, p {number.p:.2g}"
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    sys.exit(main())
