"""A whole sweep under virtual time: what it measures, and how it goes on after it was cut off."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path

import budget
import pytest
import yaml
from sweep_design import BASE, design

from chaosd.cli import main
from chaosd.history.codec import decode_cycle
from chaosd.proxies.haproxy.model import outlook, trials

ARMS, CYCLES = 3, 2
DESIGN = design([1], CYCLES)
PATH = Path("sweeps/d")


def sweep(*options: str, **keys) -> tuple[int, str]:
    """Run it here, and give its exit code and what it says."""
    Path("base.yaml").write_text(yaml.safe_dump(BASE))
    Path("d.yaml").write_text(yaml.safe_dump(DESIGN | keys, sort_keys=False))
    return chaosd("sweep", "d.yaml", *options)


def chaosd(*arguments: str) -> tuple[int, str]:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([*arguments])
    return code, said.getvalue()


@pytest.fixture(autouse=True)
def few_looks(monkeypatch) -> None:
    monkeypatch.setattr(outlook, "STEPS_MAX", 300)


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> tuple[Path, int, str]:
    """A sweep that went through; nobody changes it."""
    directory = tmp_path_factory.mktemp("sweep")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trials, "TRIALS_MAX", budget.of(64, 256))
        patch.setattr(outlook, "STEPS_MAX", 300)
        patch.chdir(directory)
        return directory, *sweep()


def rounds(directory: Path = PATH) -> list[dict]:
    path = directory / "blocks.jsonl"
    found = []
    for text in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # torn
            found.append(json.loads(text))
    return [line["round"] for line in found if "round" in line]


def counted(directory: Path = PATH) -> dict[tuple[str, str, bool], int]:
    """How many cycles of each arm, fault, and kind of round are in the files."""
    found: dict[tuple[str, str, bool], int] = {}
    for begun in rounds(directory):
        path = directory / begun["directory"] / "cycles.jsonl"
        texts = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
        for cycle in (decode_cycle(text.decode()) for text in texts):
            if cycle.outcome not in ("skipped", "invalid"):
                key = (begun["arms"][cycle.arm], begun["fault"], begun["fresh"])
                found[key] = found.get(key, 0) + 1
    return found


def test_every_arm_meets_every_fault_and_two_get_fresh_blocks(done) -> None:
    directory, code, said = done
    assert code == 0
    store = json.loads((directory / PATH / "sweep.json").read_text())
    arms = store["arms"]
    assert len(arms) == ARMS
    found = counted(directory / PATH)
    answer = json.loads((directory / PATH / "answer.json").read_text())
    text = json.dumps(answer["recommendation"])
    recommended = [key for key, arm in arms.items() if arm["name"] in text]
    for key, arm in arms.items():
        for fault in ("recreate", "dns"):
            assert found[key, fault, False] >= CYCLES
            is_fresh = arm["baseline"] or key in recommended
            assert ((key, fault, True) in found) == is_fresh
    assert "fresh blocks of recreate" in said
    assert "timeout resolve" in said
    # Each round is an ordinary run directory.
    first = directory / PATH / rounds(directory / PATH)[0]["directory"]
    assert chaosd("report", str(first))[0] == 0


def test_one_schedule_for_all_arms_of_a_block(done) -> None:
    directory, _, _ = done
    begun = rounds(directory / PATH)[0]
    cycles = [
        decode_cycle(line)
        for line in (directory / PATH / begun["directory"] / "cycles.jsonl")
        .read_text()
        .splitlines()
    ]
    by_number: dict[int, list] = {}
    for cycle in cycles:
        by_number.setdefault(cycle.cycle, []).append(cycle)
    assert len(by_number) == CYCLES
    for together in by_number.values():
        assert len({cycle.arm for cycle in together}) == ARMS
        assert max(c.t0_ns for c in together) - min(c.t0_ns for c in together) < 500_000_000


@pytest.mark.slow
def test_few_arms_have_several_cells_each_and_blocks_of_their_own(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep(until={"cycles": 8}, faults=["recreate"])[0] == 0
    assert {(begun["replicas"], begun["cycles"]) for begun in rounds()} == {(2, 4)}
    first = PATH / rounds()[0]["directory"]
    arms = json.loads((first / "run.json").read_text())["arms"].values()
    blocks: dict[tuple[int, int], list[int]] = {}
    for line in (first / "cycles.jsonl").read_text().splitlines():
        cycle = decode_cycle(line)
        which = next(arm["cells"].index(cycle.cell) for arm in arms if cycle.cell in arm["cells"])
        blocks.setdefault((cycle.cycle, which), []).append(cycle.t0_ns)
    assert len(blocks) == 8
    for t0s in blocks.values():
        assert len(t0s) == ARMS
        assert max(t0s) - min(t0s) < 100_000_000
    assert any(abs(blocks[n, 0][0] - blocks[n, 1][0]) > 200_000_000 for n in range(1, 5))


def test_the_answer_comes_from_the_files_alone(done, tmp_path, monkeypatch) -> None:
    directory, code, said = done
    copy = tmp_path / "copy"
    shutil.copytree(directory / PATH, copy)
    (copy / "answer.json").unlink()
    (copy / "answer.html").unlink()
    monkeypatch.chdir(tmp_path)
    again, text = chaosd("report", "copy")
    assert again == code
    first = said[said.index("\nd: ") :].replace(str(PATH), "copy")
    assert first.strip() == text.strip()
    assert (copy / "answer.html").exists()


def _as_a_round_begins(path: Path) -> int:
    """It is said, and nothing of it is there yet."""
    first = rounds(path)[0]
    shutil.rmtree(path / "rounds")
    (path / "blocks.jsonl").write_text(json.dumps({"round": first}) + "\n")
    return 0


def _in_a_round(path: Path) -> int:
    """The second block of the first round is half stored, and so is a line that was begun."""
    first, *others = rounds(path)
    for other in others:
        shutil.rmtree(path / other["directory"])
    whole = json.dumps({"round": first}) + "\n"
    (path / "blocks.jsonl").write_text(whole + '{"stopped": {"ke')
    run = path / first["directory"]
    for name in ("report.json", "report.html", "report.md", "junit.xml"):
        (run / name).unlink()
    stored = (run / "cycles.jsonl").read_text().splitlines(keepends=True)
    (run / "cycles.jsonl").write_text("".join(stored[: ARMS + 1]) + stored[ARMS + 1][:50])
    manifest = json.loads((run / "run.json").read_text())
    for key in ("end_unix", "exit", "reason"):
        manifest.pop(key)
    (run / "run.json").write_text(json.dumps(manifest))
    return ARMS + 1


def _before_the_fresh_blocks(path: Path) -> int:
    kept = [begun for begun in rounds(path) if not begun["fresh"]]
    for begun in rounds(path):
        if begun["fresh"]:
            shutil.rmtree(path / begun["directory"])
    (path / "blocks.jsonl").write_text("".join(json.dumps({"round": b}) + "\n" for b in kept))
    return sum(counted(path).values())


@pytest.mark.parametrize(
    "cut",
    [
        pytest.param(_as_a_round_begins, marks=pytest.mark.slow),
        _in_a_round,
        pytest.param(_before_the_fresh_blocks, marks=pytest.mark.slow),
    ],
)
def test_it_goes_on_from_any_moment_and_answers_the_same(done, tmp_path, monkeypatch, cut) -> None:
    directory, code, _ = done
    shutil.copytree(directory, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    left = cut(PATH)
    assert sum(counted().values()) == left
    again, said = sweep()
    assert again == code
    assert ("goes on" in said) == (left > 0)
    found = counted()
    arms = json.loads((PATH / "sweep.json").read_text())["arms"]
    assert all(found[key, f, False] >= CYCLES for key in arms for f in ("recreate", "dns"))
    # What was there counts: no more is made than is missing, whole blocks at a time.
    measured = sum(n for (_, _, fresh), n in found.items() if not fresh)
    assert measured <= 2 * CYCLES * ARMS + (ARMS - 1 if cut is _in_a_round else 0)
    first, last = (
        json.loads((place / PATH / "answer.json").read_text())["recommendation"]
        for place in (directory, Path())
    )
    assert first["arm"] == last["arm"]


def test_nothing_is_left_to_do_of_a_sweep_that_is_done(done, tmp_path, monkeypatch) -> None:
    directory, code, _ = done
    shutil.copytree(directory, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    before = rounds()
    assert sweep()[0] == code
    assert rounds() == before


@pytest.mark.slow
def test_a_grown_design_adds_to_what_is_there(done, tmp_path, monkeypatch) -> None:
    directory, _, _ = done
    shutil.copytree(directory, tmp_path / "there")
    monkeypatch.chdir(tmp_path / "there")
    before = counted()
    vary = DESIGN["vary"] | {"proxy.redispatch": [1, True]}
    assert sweep(vary=vary)[0] in (0, 4)
    found = counted()
    new = {key for key, _, _ in found} - {key for key, _, _ in before}
    assert len(new) == 2  # 200ms and 3s, on the last retry
    assert all(found[key, fault, False] >= CYCLES for key in new for fault in ("recreate", "dns"))


def test_a_stop_ends_it_with_an_answer(tmp_path, monkeypatch) -> None:
    from chaosd.sweep import rounds as module

    monkeypatch.chdir(tmp_path)
    make = module.make

    def stopped(*arguments, **keys) -> bool:
        make(*arguments, **keys)
        return True  # as after Ctrl-C

    monkeypatch.setattr(module, "make", stopped)
    code, _ = sweep()
    assert code in (0, 4)
    assert len(rounds()) == 1
    assert (PATH / "answer.json").exists()


@pytest.mark.slow
def test_time_ends_it_and_keeps_some_for_fresh_blocks(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    sweep("--for", "100s", "--cycles", "50")
    took = {False: 0.0, True: 0.0}
    for begun in rounds():
        manifest = json.loads((PATH / begun["directory"] / "run.json").read_text())
        took[begun["fresh"]] += manifest["end_unix"] - manifest["start_unix"]
    assert 55 < took[False] < 95
    assert took[True] > 5
    assert sum(took.values()) < 120


def test_predict_measures_nothing(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = sweep("--predict")
    assert code == 0
    assert f"predicted: {ARMS} of {ARMS} arms under recreate, dns" in said
    assert not PATH.exists()


def test_a_directory_of_something_else_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    PATH.mkdir(parents=True)
    (PATH / "thesis.txt").write_text("x")
    code, said = sweep()
    assert code == 2
    assert "is no sweep's directory" in said
