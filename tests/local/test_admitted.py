"""A whole run on a machine that does not carry all of its cells: here it lacks descriptors."""

import json
import os
import resource
import subprocess
import sys

import pytest

from chaosd.proxies.haproxy import builds

pytestmark = [
    pytest.mark.haproxy,
    pytest.mark.quiet,  # what else takes CPU is admitted less for
    pytest.mark.skipif(builds.at_hand() is None, reason="there is no haproxy on this machine"),
]

CONFIG = """\
name: x
runtime: local
metrics: null
faults: [{type: recreate, every: 2s, jitter: 500ms}]
probes: [{type: http, rate: 50/s, idle_rate: 10/s}]
measure: {stable_for: 300ms}
"""
ARMS = "".join(
    f"  - {{name: {name}, proxy.retries: {number}}}\n" for number, name in enumerate("abcdef")
)


def run(where, text, descriptors):
    """What `chaosd run` says with so many descriptors, its manifest, and its cycles by arm."""

    def limit():
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, hard))

    (where / "c.yaml").write_text(CONFIG + text)
    done = subprocess.run(
        [sys.executable, "-m", "chaosd", "run", "c.yaml"],
        cwd=where,
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=150,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    latest = where / "runs/latest"
    cycles = [json.loads(line) for line in (latest / "cycles.jsonl").read_text().splitlines()]
    return done.stdout, json.loads((latest / "run.json").read_text()), cycles


def test_of_replicas_fewer_are_started_and_a_line_says_so(tmp_path):
    said, manifest, cycles = run(tmp_path, "cells: 12\nuntil: {time: 5s}\n", 150)
    started = manifest["cells"]
    assert 1 <= len(started) < 12
    line = f"this machine carries {len(started)} of 12 cells at once: the others are not started"
    assert f"{line} (for more it lacks descriptors)\n" in said
    assert f"note: {len(started)} of 12 cells were started: " in said
    assert manifest["arms"]["main"]["cells"] == started
    assert {cycle["cell"] for cycle in cycles} == set(started)
    # Setting them up took none of the time: each of them came to its first fault.
    assert {c["cell"] for c in cycles if c["outcome"] == "recovered"} == set(started)
    assert not [c for c in cycles if c["anomaly"] and c.get("doubt") is None]


@pytest.mark.slow  # which they are is simulated each time
def test_arms_that_can_t_run_side_by_side_run_in_turns(tmp_path):
    said, manifest, cycles = run(tmp_path, f"until: {{cycles: 1}}\narms:\n{ARMS}", 130)
    assert "of 6 arms at once: the others come after them, with all their time" in said
    assert "note: not all arms ran side by side: for that this machine lacks descriptors" in said
    assert manifest["admission"]["turns"] > 1
    assert manifest["admission"]["left_out"] == 0
    assert {c["arm"] for c in cycles if c["outcome"] == "recovered"} == set("abcdef")
