"""How long `chaosd doctor` takes, start-up included, for each of many files.

    python tests/bench/doctor.py [--version 3.2] [--times 3] FILE|DIRECTORY …

Each FILE is a configuration of its own; several that belong together are joined by a comma, and a
DIRECTORY is read for its files whose names end in .cfg. Of some runs of a file the median counts.
The exit code is 1 if the median of all files is above `MEDIAN_S`, or one above `SLOWEST_S`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

MEDIAN_S, SLOWEST_S = 1.0, 5.0


def took_s(files: Sequence[str], version: str) -> float:
    command = [sys.executable, "-m", "chaosd", "doctor", *files, "--version", version]
    began_s = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 2):  # 2: it is no haproxy.cfg
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return time.perf_counter() - began_s


def configurations(arguments: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    for each in arguments:
        path = Path(each)
        if path.is_dir():
            found += [[str(file)] for file in sorted(path.glob("*.cfg"))]
        else:
            found.append(each.split(","))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="+", metavar="FILE[,FILE]|DIRECTORY")
    parser.add_argument("--version", default="3.2", help="of HAProxy")
    parser.add_argument("--times", type=int, default=3, help="runs of each file")
    options = parser.parse_args()
    every: dict[str, float] = {}
    for files in configurations(options.files):
        times = [took_s(files, options.version) for _ in range(options.times)]
        name = ",".join(Path(file).name for file in files)
        every[name] = median(times)
        print(f"{name}: {every[name]:.2f} s", flush=True)
    middle, slowest = median(every.values()), max(every, key=lambda name: every[name])
    print(
        f"{len(every)} files, {options.times} runs each: median {middle:.2f} s, "
        f"slowest {every[slowest]:.2f} s ({slowest})"
    )
    return 1 if middle > MEDIAN_S or every[slowest] > SLOWEST_S else 0


if __name__ == "__main__":
    raise SystemExit(main())
