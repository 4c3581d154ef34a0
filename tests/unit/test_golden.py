"""Run directories of each format, written by the code of that time: they are read for ever.

Each holds the report.json that its own code made. Today's code must find the same numbers in the
same files; words may be said otherwise. The README.md of each format says how each was made.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosd import report
from chaosd.analysis.compare import LOST, compare
from chaosd.errors import MachineError
from chaosd.history.codec import decode_cycle, decode_event, encode_cycle
from chaosd.history.cycles import CycleOutcome
from chaosd.history.reader import RunReader
from chaosd.report import compare as files
from chaosd.report import words
from chaosd.report.settings import files as texts
from chaosd.report.settings import settings
from chaosd.system.files import MB

DATA = Path(__file__).parent.parent / "data"
FORMATS = ("format-0", "format-1")
NAMES = sorted(
    f"{made.parent.name}/{made.name}"
    for each in FORMATS
    for made in (DATA / each).iterdir()
    if made.is_dir()
)
WORDS = frozenset({"reasons", "doubts", "notes", "why", "reason"})  # may be rewritten
CONFIG = "config"  # settings by their path: a later version may call one by another name
TOLERANCE = 1e-9
# Ends of intervals: the first edition had Student's by an expansion, none below 4 degrees of
# freedom, and bisected Clopper and Pearson's to a millionth. Both are exact now. Those of
# quantiles are measured values, and stay as they were.
ENDS = frozenset({"low", "high", "low_s", "high_s"})
TOLERANCE_OF_ENDS = 4e-3
QUANTILE_END = re.compile(r"\.p\d+\.\w+$")


def differences(expected: Any, found: Any, path: str = "") -> Iterator[str]:
    """Where two parts of a report differ, by the path of each number.

    What is only in the newer one is no difference: keys are only added.
    """
    if isinstance(expected, dict) and isinstance(found, dict):
        for key, value in expected.items():
            where = f"{path}.{key}" if path else key
            if key in WORDS or where == CONFIG:
                continue
            if key in found:
                yield from differences(value, found[key], where)
            else:
                yield f"{where}: expected {value!r}, it is missing"
    elif isinstance(expected, list) and isinstance(found, list):
        if len(expected) != len(found):
            yield f"{path}: expected {len(expected)} values, found {len(found)}"
        for place, (one, other) in enumerate(zip(expected, found, strict=False)):
            yield from differences(one, other, f"{path}[{place}]")
    elif path.rpartition(".")[2] in ENDS and not QUANTILE_END.search(path):
        if not _is_end(expected, found):
            yield f"{path}: expected {expected!r}, found {found!r}"
    elif not _equal(expected, found):
        yield f"{path}: expected {expected!r}, found {found!r}"


def _is_end(expected: float | None, found: float | None) -> bool:
    if expected is None or found is None:
        return expected is None
    return math.isclose(expected, found, rel_tol=TOLERANCE_OF_ENDS, abs_tol=TOLERANCE_OF_ENDS)


def _equal(expected: Any, found: Any) -> bool:
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (expected, found))
    if numbers:
        return math.isclose(expected, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    return type(expected) is type(found) and bool(expected == found)


def copied(name: str, tmp_path: Path) -> Path:
    """A copy to work on, without the report that its own code made."""
    directory = tmp_path / name
    shutil.copytree(DATA / name, directory)
    (directory / "report.json").unlink()
    return directory


def expectation(name: str) -> Any:
    return json.loads((DATA / name / "report.json").read_text(encoding="utf-8"))


def lines(name: str, file: str) -> list[str]:
    return (DATA / name / file).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", NAMES)
def test_the_report_has_the_numbers_it_had(name, tmp_path) -> None:
    directory = copied(name, tmp_path)
    found = json.loads(report.as_json(report.analyse(directory).report, directory))
    wrong = list(differences(expectation(name), found))
    assert not wrong, f"{name}: {len(wrong)} differences\n" + "\n".join(wrong[:40])


@pytest.mark.parametrize("name", ["format-0/killed", "format-0/imposter", "format-1/arms"])
def test_what_is_written_is_what_is_analysed(name, tmp_path) -> None:
    """Of a killed run, and of one with flight records."""
    directory = copied(name, tmp_path)
    report.write(directory)
    written = json.loads((directory / "report.json").read_text(encoding="utf-8"))
    assert list(differences(expectation(name), written)) == []
    for made in ("report.md", "report.html", "junit.xml"):
        assert (directory / made).stat().st_size > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_line_decodes(name) -> None:
    cycles = [decode_cycle(line) for line in lines(name, "cycles.jsonl")]
    assert cycles
    for line, cycle in zip(lines(name, "cycles.jsonl"), cycles, strict=True):
        stored = json.loads(line)
        assert list(differences(stored, json.loads(encode_cycle(cycle, words.reason(cycle))))) == []
    for file in ("events.old.jsonl", "events.jsonl"):
        if (DATA / name / file).exists():
            assert all(decode_event(line) for line in lines(name, file))


@pytest.mark.parametrize("name", NAMES)
def test_compared_with_itself_it_is_never_better_or_worse(name, tmp_path) -> None:
    arm = "ours" if name == "format-1/arms" else None  # arms are not pooled
    side = files.load(copied(name, tmp_path), arm=arm)
    found = compare(side, side)
    assert {row.answer for row in found.rows} <= {"same", "unknown"}
    assert all(row.difference.value in (0, None) for row in found.rows)
    assert found.answer == ("same" if name == "format-0/slo" else "unknown"), found.reasons
    # Its old report.json is a baseline as good as its directory.
    baseline = files.load(DATA / name / "report.json", arm=arm)
    assert compare(baseline, side).answer == found.answer
    for lost in LOST:
        value = side.numbers[lost].value
        assert baseline.numbers[lost].value == (None if value is None else pytest.approx(value))


def test_the_directories_hold_what_their_readme_says() -> None:
    """Else a directory that was made anew could lose what it is there for."""
    whole = {n.partition("/")[2]: expectation(n) for n in NAMES if n.startswith("format-0/")}
    outcomes = Counter[str]()
    for found in whole.values():
        outcomes.update(found["total"]["outcomes"])
    assert all(outcomes[o] > 0 for o in CycleOutcome if o is not CycleOutcome.UNAFFECTED)
    results = {objective["result"] for objective in whole["slo"]["objectives"]}
    assert results == {"ok", "fail", "unknown"}
    assert whole["stopped"]["total"]["cut_off"] == whole["killed"]["total"]["cut_off"] == 1
    assert whole["killed"]["total"]["cut_off_s"] > 1
    assert "end_unix" not in whole["killed"]["manifest"]
    assert whole["retried"]["total"]["early"] > 0
    assert whole["imposter"]["total"]["misrouted"] > 0
    assert list((DATA / "format-0/imposter/flight").glob("*.json"))
    assert (DATA / "format-0/keep-raw/samples.folded.json").exists()
    assert not (DATA / "format-0/keep-raw/samples.00001.parquet").exists()
    assert (DATA / "format-0/killed/samples.00001.tail").exists()
    for name in NAMES:
        form, _, directory = name.partition("/")
        assert f"`{directory}`" in (DATA / form / "README.md").read_text(encoding="utf-8")


def test_format_1_has_what_came_with_it() -> None:
    """Arms, DNS faults, faults together, unaffected users; kept as counts, and killed."""
    found, directory = expectation("format-1/arms"), DATA / "format-1/arms"
    assert found["manifest"]["format"] == 1
    assert "end_unix" not in found["manifest"]
    assert set(found["arms"]) == {"ours", "faster"}
    for arm in found["arms"].values():
        assert arm["faults"]["recreate"]["outcomes"]["recovered"] > 10
        assert arm["faults"]["dns"]["outcomes"]["unaffected"] > 2
        assert arm["faults"]["while-dns-fails"]["outcomes"]["recovered"] > 2
    assert (directory / "samples.folded.json").exists()
    assert (directory / "events.old.jsonl").exists()
    assert not (directory / "samples.00001.parquet").exists()
    assert list(directory.glob("samples.*.tail"))


def test_a_damaged_one_is_said_so(tmp_path) -> None:
    directory = copied("format-0/recreate", tmp_path)
    (directory / "run.json").unlink()
    with pytest.raises(MachineError, match="not a run directory"):
        RunReader(directory)


def test_a_difference_is_seen_and_words_are_not() -> None:
    expected = {"n": 3, "mean_s": 0.5, "notes": ["a"], "verdict": "ok", "rows": [1, 2]}
    assert list(differences(expected, expected | {"notes": ["b"], "more": 1})) == []
    assert list(differences(expected, expected | {"mean_s": 0.5 + 1e-12})) == []
    changed = {"mean_s": 0.5001, "verdict": "unknown", "rows": [1]}
    assert list(differences(expected, {"n": 3} | changed)) == [
        "mean_s: expected 0.5, found 0.5001",
        "verdict: expected 'ok', found 'unknown'",
        "rows: expected 2 values, found 1",
    ]
    assert list(differences({"n": None}, {"n": 0})) == ["n: expected None, found 0"]
    ends = {"p95": {"low": 0.5}, "mean": {"low": 0.5}}
    near = {"p95": {"low": 0.5001}, "mean": {"low": 0.5001}}
    assert list(differences({"s": ends}, {"s": near})) == ["s.p95.low: expected 0.5, found 0.5001"]


def test_a_config_of_megabytes_is_neither_read_nor_shown(tmp_path) -> None:
    """Found by tests/attack/damaged.py: 3 MB of spaces took half a minute on a busy machine."""
    run = tmp_path / "run"
    shutil.copytree(DATA / "format-0/replicas", run)
    (run / "config.yaml").write_text("x: 1\n" + " " * MB)
    reader = RunReader(run)
    assert settings(reader) == {}
    assert "config.yaml" not in texts(reader)
