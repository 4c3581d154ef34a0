"""Run directories come to harm in every way that we can think of, and chaosd reads them.

    python tests/attack/damaged.py [--size 1500] [--seed 1] [--minutes 30]

Each case copies a run directory, harms it, and runs `report`, `compare` or `check` on it in a child
of bounded memory. None may end in exit 70, a traceback, a hang, or much memory. It prints each
case that did, by a number that `--only` repeats; of a sweep's directory, only `report`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import tally
from tally import Budget, Tally

ROOT = Path(__file__).parents[2]
GOLDENS = (ROOT / "tests/data/format-0", ROOT / "tests/data/format-1")
MEMORY_MB = 300  # how much a case may add to the largest so far
ROOM_MB = 1500  # of address space, so that the machine survives what we look for
CASE_S = 20
FINE = {0, 1, 2, 3, 4}
DEEP = 100_000
CASES, MINUTES = 1500, 15.0
SWEPT = 6  # times as often as another directory: it has more files


class Outcome(NamedTuple):
    """What became of a case."""

    number: int
    harm: str
    command: str
    code: int
    said: str
    took_s: float
    grew_mb: float

    @property
    def wrong(self) -> str | None:
        """What is wrong with it, if anything is."""
        lines = self.said.splitlines()
        if self.code not in FINE:
            return f"exit {self.code}: {' / '.join(lines[-3:])[:400]}"
        if "Traceback" in self.said:
            return f"a traceback: {' / '.join(lines[-3:])[:400]}"
        several = self.command.startswith("check")  # all problems of a config are said at once
        if self.code in (2, 3) and (
            not lines
            or (len(lines) > 1 and not several)
            or not all(line.startswith("chaosd: ") for line in lines)
        ):
            return f"{len(lines)} lines on standard error: {' / '.join(lines)[:400]}"
        if self.took_s > CASE_S:
            return f"took {self.took_s:.0f} s"
        if self.grew_mb > MEMORY_MB:
            return f"took {self.grew_mb:.0f} MB more"
        return None


# --- harm to a whole file -------------------------------------------------------------------------


def flipped(path: Path, rng: Random) -> None:
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice((1, 1, 3, 20))):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data)


def truncated(path: Path, rng: Random) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: rng.randrange(len(data) + 1)])


def emptied(path: Path, _: Random) -> None:
    path.write_bytes(b"")


def garbage(path: Path, rng: Random) -> None:
    path.write_bytes(rng.randbytes(rng.randrange(5000)))


def missing(path: Path, _: Random) -> None:
    path.unlink()


def a_directory(path: Path, _: Random) -> None:
    path.unlink()
    path.mkdir()


def a_fifo(path: Path, _: Random) -> None:
    path.unlink()
    os.mkfifo(path)


def a_device(path: Path, rng: Random) -> None:
    path.unlink()
    path.symlink_to(rng.choice(("/dev/zero", "/dev/null", "/dev/random", "/dev/tty", "/dev/full")))


def a_link(path: Path, rng: Random) -> None:
    target = rng.choice((path.name, "../nowhere", "/proc/self/mem", "/proc/kmsg", "/", "run.json"))
    path.unlink()
    path.symlink_to(target)


def foreign(path: Path, rng: Random) -> None:
    strangers = [sys.executable, "/etc/passwd", str(ROOT / "pyproject.toml"), __file__]
    with Path(rng.choice(strangers)).open("rb") as file:
        path.write_bytes(file.read(1 << 20))


def exchanged(path: Path, rng: Random) -> None:
    """Another file of a run, perhaps of another run."""
    shutil.copyfile(rng.choice(_stored("*/*")), path)


def of_another_run(path: Path, rng: Random) -> None:
    if others := _stored(f"*/{path.name}"):
        shutil.copyfile(rng.choice(others), path)


def _stored(pattern: str) -> list[Path]:
    return [path for place in GOLDENS for path in sorted(place.glob(pattern)) if path.is_file()]


def repeated(path: Path, rng: Random) -> None:
    path.write_bytes(path.read_bytes() * rng.choice((2, 3)))


def endless(path: Path, rng: Random) -> None:
    """A hole of many GB, at the end of what it has."""
    os.truncate(path, rng.choice((1 << 26, 1 << 31, 20 << 30)))


def one_line(path: Path, rng: Random) -> None:
    path.write_bytes(rng.choice((b" ", b"[", b'{"a":', b'"x')) * (3 << 20))


WHOLE = (
    *(flipped, flipped, truncated, emptied, garbage, missing, a_directory, a_fifo, a_device),
    *(a_link, foreign, exchanged, of_another_run, repeated, endless, one_line),
)


# --- harm to a value in JSON ----------------------------------------------------------------------


class Raw(str):
    """JSON that json.dumps would not write."""

    __slots__ = ()


def others(value: Any, rng: Random) -> Any:
    """Something else in the place of a value."""
    nested = Raw("[" * DEEP + "]" * DEEP)
    return rng.choice(
        [
            *(str(value), None, True, False, [], {}, 0, -1, 1, 0.5, "", "x", [value], {"x": value}),
            *(2**31, 2**53, 2**62, 2**63, 2**64, -(2**63), 1e18, 1e19, 1e300, -1e300, 5e-324),
            *(Raw("NaN"), Raw("Infinity"), Raw("-Infinity"), Raw("9" * 400), Raw("9" * 5000)),
            *(Raw("1e999"), nested, "x" * 100_000, "\x00\x1b[31m\u202e", Raw('"\\ud800"')),
            *(-value if isinstance(value, int | float) else "c1", ["c1"], "failover", "recovered"),
            *(value * 1000 if isinstance(value, int | float) else "../../etc/passwd",),
        ]
    )


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a value, with each key into it."""
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, part in list(items):
        yield value, key
        yield from places(part)


def written(value: Any) -> str:
    """JSON, with what is raw put in as it is."""
    raw: list[str] = []

    def marked(value: Any) -> Any:
        if isinstance(value, Raw):
            raw.append(str(value))
            return f"@@{len(raw) - 1}@@"
        if isinstance(value, dict):
            return {key: marked(part) for key, part in value.items()}
        return [marked(part) for part in value] if isinstance(value, list) else value

    text = json.dumps(marked(value), separators=(",", ":"))
    for place, one in enumerate(raw):
        text = text.replace(f'"@@{place}@@"', one)
    return text


def changed(value: Any, rng: Random) -> Any:
    found = list(places(value))
    if not found or rng.random() < 0.03:
        return others(value, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        container, key = rng.choice(found)
        try:
            if rng.random() < 0.15:
                del container[key]
            else:
                container[key] = others(container[key], rng)
        except (IndexError, KeyError):
            continue
    return value


def json_harm(path: Path, rng: Random) -> None:
    text = path.read_text()
    if path.suffix == ".json":
        path.write_text(written(changed(json.loads(text), rng)), errors="surrogatepass")
        return
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 3, len(lines)))):
        if not lines:
            break
        place, what = rng.randrange(len(lines)), rng.random()
        if what < 0.1:
            lines.insert(rng.randrange(len(lines)), lines[place])
        elif what < 0.2:
            del lines[place]
        else:
            with contextlib.suppress(ValueError, RecursionError):
                lines[place] = written(changed(json.loads(lines[place]), rng))
    path.write_text("".join(f"{line}\n" for line in lines), errors="surrogatepass")


# --- harm to samples ------------------------------------------------------------------------------


def sample_harm(path: Path, rng: Random) -> None:
    """Whole Parquet with values that nobody measured."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    name = rng.choice(table.column_names)
    place, column = table.column_names.index(name), table[name]
    what = rng.randrange(6)
    if what == 0:
        table = table.drop([name])
    elif what == 1:
        table = table.set_column(place, name, pa.array(["x" * 50] * len(column)))
    elif what == 2:
        values = pa.array([rng.choice((None, 0, 1, 255)) for _ in range(len(column))], pa.int64())
        table = table.set_column(place, name, values)
    elif what == 3:
        extreme = rng.choice((-(2**63), 2**63 - 1, -1, 2**40))
        table = table.set_column(place, name, pa.array([extreme] * len(column), pa.int64()))
    elif what == 4:
        table = table.set_column(place, name, pa.array([[1, 2]] * len(column)))
    else:
        table = pa.concat_tables([table] * 3) if rng.random() < 0.5 else table.slice(0, 0)
    pq.write_table(table, path, use_dictionary=rng.random() < 0.5, row_group_size=1000)


def tail_harm(path: Path, rng: Random) -> None:
    """An open chunk of nonsense in the place of a closed one."""
    stem = path.name.removesuffix(".parquet")
    path.unlink()
    tail = path.with_name(f"{stem}.tail")
    tail.write_bytes(b"".join(rng.randbytes(31) + b"\xc5" for _ in range(rng.randrange(200))))
    names = [b'"x"\n', b"[]\n", b'{"a": 1}\n', b"NaN\n", b"[" * DEEP + b"\n", b'"' + b"y" * 999]
    path.with_name(f"{stem}.who").write_bytes(b"".join(rng.choices(names, k=rng.randrange(20))))


def harm(directory: Path, rng: Random) -> str:
    """Do something to a run directory, and say what."""
    files = sorted(p for p in directory.rglob("*") if p.is_file())
    path, way = rng.choice(files), rng.random()
    if way < 0.6:
        lines = [p for p in files if p.suffix in (".json", ".jsonl") and p.name != "report.json"]
        path = rng.choice(lines)
        done = json_harm
    elif way < 0.7 and path.suffix == ".parquet":
        done = rng.choice((sample_harm, tail_harm))
    else:
        done = rng.choice(WHOLE)
    done(path, rng)
    return f"{done.__name__} {directory.name}/{path.relative_to(directory)}"


# --- cases ----------------------------------------------------------------------------------------


def today(where: Path) -> list[Path]:
    """Run directories as this version writes them, and a sweep's, which has some in it."""
    config = {
        "name": "one",
        "runtime": "sim",
        "seed": 1,
        "metrics": None,
        "runs": {"directory": str(where)},
        "faults": [{"type": "recreate", "every": "5s"}],
        "until": {"cycles": 3},
    }
    arms = {"quick": {"proxy.resolvers.timeout_resolve": "200ms"}, "plain": {}}
    trouble = {"type": "dns", "answer": "servfail", "window": "2s", "every": "9s"}
    for each in (
        config,
        config | {"name": "two", "cells": 2, "arms": arms},
        config | {"name": "dns", "faults": [trouble]},
    ):
        _make(["run", _file(where, each)])
    base = {"name": "base", "runtime": "sim", "proxy": {"type": "haproxy"}}
    design = {
        "name": "swept",
        "base": Path(_file(where, base)).name,
        "vary": {"proxy.resolvers.timeout_resolve": ["200ms", "2s"]},
        "faults": ["recreate"],
        "until": {"cycles": 2},
        "seed": 1,
    }
    _make(["sweep", _file(where, design), "--dir", str(where / "swept")])
    (where / "latest").unlink()
    return sorted(path for path in where.iterdir() if path.is_dir())


def _file(where: Path, config: dict[str, Any]) -> str:
    (file := where / f"{config['name']}.yaml").write_text(json.dumps(config))
    return str(file)


def _make(command: list[str]) -> None:
    from chaosd.cli import main

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = main(command)
    assert code in FINE, f"{command}: exit {code}"


def case(number: int, seed: int, scratch: Path, goldens: Sequence[Path]) -> Outcome:
    """One case, in this process."""
    from chaosd.cli import main

    rng = Random(f"{seed} {number}")
    golden = rng.choice(goldens)
    directory = scratch / golden.name.partition("-2")[0]
    shutil.copytree(golden, directory)
    if rng.random() < 0.8:
        (directory / "report.json").unlink(missing_ok=True)
    for made in ("report.md", "report.html", "junit.xml"):
        (directory / made).unlink(missing_ok=True)
    done = harm(directory, rng)
    one, other = str(directory), str(golden)
    command = rng.choice(
        [["report", one], ["report", one, "--json"]]
        if is_sweep(golden)
        else [
            *(["report", one], ["report", one], ["report", one, "--json"], ["compare", one, other]),
            *(["compare", other, one], ["check", "-q", f"{one}/config.yaml"]),
            *(["compare", f"{one}/{name}", other] for name in ("report.json", "cycles.jsonl")),
        ]
    )
    before, began = _largest_mb(), time.monotonic()
    said = io.StringIO()
    signal.setitimer(signal.ITIMER_REAL, CASE_S + 5)
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = main(command)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is what we look for
            code = 71
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
    signal.setitimer(signal.ITIMER_REAL, 0)
    took_s = time.monotonic() - began
    command = [part.replace(f"{scratch}/", "") for part in command]
    grew_mb = _largest_mb() - before
    shutil.rmtree(directory)
    text = said.getvalue()
    return Outcome(number, done, " ".join(command), int(code), text, took_s, grew_mb)


def _largest_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _too_long(*_: object) -> None:
    raise TimeoutError("the case takes too long")


def is_sweep(directory: Path) -> bool:
    return (directory / "sweep.json").exists()


def child(seed: int, first: int, last: int) -> None:
    """Cases one after the other, a line of JSON each."""
    import chaosd.report.compare  # what is large is loaded before it is measured  # noqa: F401

    signal.signal(signal.SIGALRM, _too_long)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    room = size + (ROOM_MB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    with tempfile.TemporaryDirectory(prefix="chaosd-damaged-") as scratch:
        (made := Path(scratch) / "made").mkdir()
        stored = [x for place in GOLDENS for x in sorted(place.iterdir()) if x.is_dir()]
        goldens = stored + [x for x in today(made) for _ in range(SWEPT if is_sweep(x) else 1)]
        for number in range(first, last):
            print(json.dumps({"begins": number}), flush=True)
            print(json.dumps(case(number, seed, Path(scratch), goldens)), flush=True)


def outcomes(seed: int, cases: range) -> Iterator[Outcome]:
    """What becomes of these cases; a child that dies or hangs is one, and the next goes on."""
    first = cases.start
    while first < cases.stop:
        command = [sys.executable, __file__, "--child", str(seed), str(first), str(cases.stop)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as process:
            lines = _lines(process)
            for line in lines:
                if isinstance(value := json.loads(line), dict):
                    first = value["begins"]
                else:
                    yield Outcome(*value)
                    first += 1
            process.kill()
        if first < cases.stop:
            yield Outcome(first, "?", "?", 72, f"the child ended: {process.returncode}", 0.0, 0.0)
            first += 1


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Its lines until it says nothing for too long, or ends."""
    assert process.stdout is not None
    data = b""
    while select.select([process.stdout], [], [], 3 * CASE_S)[0]:
        if not (more := os.read(process.stdout.fileno(), 1 << 16)):
            return
        *lines, data = (data + more).split(b"\n")
        for line in lines:
            yield line.decode()


def attack(n: int, seed: int, budget: Budget, only: int | None = None) -> Tally:
    """So many damaged directories, or only the one of this number."""
    found, codes = Tally("damaged"), dict.fromkeys(sorted(FINE), 0)
    for each in outcomes(seed, range(n) if only is None else range(only, only + 1)):
        found.tries += 1
        codes[each.code] = codes.get(each.code, 0) + 1
        if each.wrong is not None:
            line = f"{each.number}: {each.harm}: {each.command}: {each.wrong}"
            (found.bugs if each.code not in FINE else found.late).append(line)
        if only is not None:
            found.notes.append(str(each))
        if not budget.is_left(found):
            break
    counts = ", ".join(f"exit {code}: {count}" for code, count in codes.items() if count)
    found.notes.append(counts)
    return found


def main() -> int:
    parser = tally.options(CASES, MINUTES)
    parser.add_argument("--only", type=int, help="the case of this number alone")
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return 0
    one = partial(attack, only=arguments.only)
    return tally.shown(
        [tally.tried("damaged", one, arguments.size, arguments.seed, arguments.minutes)]
    )


if __name__ == "__main__":
    sys.exit(main())
