"""How often the prediction of a whole backend holds, by shapes of haproxy.cfg and HAProxy builds.

    python tests/bench/shapes.py run FILE [--cycles=40] [--lanes=16] [--builds=2.2,3.4]
                                          [--shapes=WORD] [--seed=1]
    python tests/bench/shapes.py judge FILE…

`run` starts a fresh HAProxy for each cycle and adds a line for each to FILE; `judge` holds them
against the model. 40 cycles of all shapes on six builds take some hours; `--shapes` takes those
whose name contains the word.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from random import Random

import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

from shapebench import lanes
from shapebench.catalogue import SHAPES
from shapebench.cycle import Observation

from chaosd.proxies.haproxy import builds


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
    judge = commands.add_parser("judge")
    judge.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    return measure(options) if options.command == "run" else 0


def measure(options: argparse.Namespace) -> int:
    rng = Random(options.seed)
    wanted = options.builds.split(",") if options.builds else None
    found = [build for build in builds.installed() if wanted is None or build.name in wanted]
    shapes = [shape for shape in SHAPES if options.shapes in shape.name]
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


if __name__ == "__main__":
    sys.exit(main())
