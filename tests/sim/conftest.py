from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from pathlib import Path

import budget
import pytest
import yaml

from chaosd.cli import main
from chaosd.history.codec import decode_cycle, decode_event
from chaosd.history.cycles import Cycle
from chaosd.history.events import AnyEvent
from chaosd.proxies.haproxy.model import trials


@dataclass
class Ran:
    code: int
    directory: Path
    said: str

    @property
    def cycles(self) -> list[Cycle]:
        return [decode_cycle(line) for line in self._lines("cycles.jsonl")]

    @property
    def events(self) -> list[AnyEvent]:
        return [decode_event(line) for line in self._lines("events.jsonl")]

    def _lines(self, name: str) -> list[str]:
        return (self.directory / name).read_text().splitlines()

    @property
    def report(self) -> dict:
        return json.loads((self.directory / "report.json").read_text())


@pytest.fixture(autouse=True)
def few_trials(monkeypatch) -> None:
    """Trials of the model fill each prediction, and take 40 % of the time of a simulated cycle."""
    monkeypatch.setattr(trials, "TRIALS_MAX", budget.of(64, 256))


CONFIG = {
    "name": "t",
    "runtime": "sim",
    "seed": 1,
    "metrics": None,
    "faults": [{"type": "recreate", "every": "5s"}],
    "probes": [{"type": "http", "rate": "50/s"}],  # half of the time of a simulation is theirs
    "until": {"cycles": 10},
}


@pytest.fixture
def simulate(tmp_path, monkeypatch, capsys):
    """Run `chaosd run` on a simulated world; keys are laid over a small config."""
    monkeypatch.chdir(tmp_path)

    def simulate(*options: str, **keys) -> Ran:
        Path("t.yaml").write_text(yaml.safe_dump(CONFIG | keys))
        capsys.readouterr()
        code = main(["run", "t.yaml", *options])
        out = capsys.readouterr()
        return Ran(code, Path("runs/latest").resolve(), out.out + out.err)

    return simulate


@pytest.fixture(scope="module")
def simulate_once(tmp_path_factory):
    """As `simulate`, for runs that all tests of a file look at and none of them changes."""

    def simulate(**keys) -> Ran:
        said = io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
        ):
            patch.setattr(trials, "TRIALS_MAX", budget.of(64, 256))
            patch.chdir(tmp_path_factory.mktemp("shared"))
            Path("t.yaml").write_text(yaml.safe_dump(CONFIG | keys))
            code = main(["run", "t.yaml"])
            return Ran(code, Path("runs/latest").resolve(), said.getvalue())

    return simulate
