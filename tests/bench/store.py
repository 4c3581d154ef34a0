"""What a sample costs on the disk and in time, and how quickly a window of them is found.

    python tests/bench/store.py [SAMPLES]

Samples as a real run has them (latenesses and durations of a busy machine), 1,000 a second, in the
store's own way: appended each second, a Parquet file each 100,000.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from random import Random

from chaosd.history.reader import RunReader
from chaosd.history.values import Outcome, Sample
from chaosd.history.writer import RunStore

WEEK_S = 7 * 86_400


def made(rng: Random, at_ms: int) -> Sample:
    """A sample as a busy machine gives it."""
    at_ns = at_ms * 1_000_000
    lag_ns = round(rng.gammavariate(2, 25_000))
    took_ns = round(rng.gammavariate(4, 150_000))
    return Sample(1, at_ns, at_ns + lag_ns, at_ns + took_ns, Outcome.OK, 200, "a")


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rng = Random(1)
    with tempfile.TemporaryDirectory(prefix="chaosd-store-") as where:
        directory = Path(where) / "run"
        store = RunStore(directory, {"settings": {}}, "")
        batches = [
            [made(rng, second * 1000 + n) for n in range(1000)] for second in range(count // 1000)
        ]
        began = time.process_time()
        for batch in batches:
            store.samples(batch)
            store.tick()
        store.close()
        took_s = time.process_time() - began
        size = sum(path.stat().st_size for path in directory.glob("samples.*"))
        reader = RunReader(directory)
        began = time.monotonic()
        middle_ns = count // 2 * 1_000_000
        found = len(reader.samples(1, middle_ns, middle_ns + 10_000_000_000))
        first_s = time.monotonic() - began
        began = time.monotonic()
        reader.samples(1, middle_ns + 10_000_000_000, middle_ns + 20_000_000_000)
        next_s = time.monotonic() - began
    week_gb = size / count * WEEK_S * 1000 / 1e9
    print(f"{count:,} samples: {size / count:.1f} bytes each ({week_gb:.1f} GB a week at 1,000/s)")
    print(f"written: {took_s / count * 1e6:.2f} µs of CPU each, all threads")
    print(f"a window of {found:,}: {first_s * 1e3:.0f} ms, the next one {next_s * 1e3:.0f} ms")
    return 0


if __name__ == "__main__":
    sys.exit(main())
