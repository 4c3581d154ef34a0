"""An app that does not say who it is: told by the address that HAProxy had its answer from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from machine import but_for_lateness

from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import CycleOutcome

pytestmark = [pytest.mark.haproxy, pytest.mark.usefixtures("haproxy")]

APP = Path(__file__).parents[1] / "data/headerless.py"
BASE = {
    "name": "t",
    "runtime": "local",
    "metrics": None,
    "app": {"command": [sys.executable, "-I", str(APP)]},
    "proxy": {
        "type": "haproxy",
        "resolvers": {"timeout_resolve": "300ms", "timeout_retry": "300ms"},
    },
    "faults": [{"type": "recreate", "every": "2s"}],
    "measure": {"stable_for": "300ms"},
}


def run(where: Path, *options: str, **keys) -> subprocess.CompletedProcess:
    (where / "c.yaml").write_text(yaml.safe_dump(BASE | keys))
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "run", "c.yaml", *options],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    done.returncode = but_for_lateness(done.returncode, where / "runs/latest")
    return done


@pytest.mark.slow  # its rules are a unit test's
def test_its_recovery_is_that_of_the_new_address(tmp_path) -> None:
    done = run(tmp_path, "--cycles", "2")
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "runs/latest/cycles.jsonl").read_text().splitlines()
    cycles = [c for c in map(decode_cycle, lines) if c.outcome != CycleOutcome.SKIPPED]
    assert [c.outcome for c in cycles] == [CycleOutcome.RECOVERED] * 2
    for cycle in cycles:
        assert cycle.misrouted == 0
        assert cycle.failed > 0
        assert cycle.phases["discover_s"] is not None
        # It can't be the old instance's answer: that is gone, and its address refuses.
        assert cycle.recovery_s >= cycle.predicted.lower_s - 0.05
    events = map(json.loads, (tmp_path / "runs/latest/events.jsonl").read_text().splitlines())
    # Whom T0 names answers under the address that it was given afterwards.
    said = [(e["what"], e["data"]) for e in events if e.get("what") in ("begin", "instance")]
    answers = {data.get("expected"): data["identity"] for what, data in said if what == "instance"}
    begun = [answers[data["new"]] for what, data in said if what == "begin"]
    assert begun == [f"@{cycle.new_ip}" for cycle in cycles]


def test_an_imposter_can_not_be_told_by_its_address(tmp_path) -> None:
    fault = {"type": "recreate", "every": "3s", "old_ip": "imposter"}
    done = run(tmp_path, faults=[fault, {"type": "restart", "every": "3s"}])
    assert done.returncode == 2
    imposter, restart = done.stderr.splitlines()
    assert "faults[0].old_ip: an imposter" in imposter
    assert "faults[1]: an app that comes back at its address looks the same" in restart
    assert "X-Chaosd-Instance" in imposter
