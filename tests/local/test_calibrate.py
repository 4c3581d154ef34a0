"""`chaosd calibrate` as people type it, with its own backend and with somebody else's."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chaosd.history.reader import RunReader

ANSWER_S = 0.1  # what an answer may take on such a machine
BUSY_S = 0.02  # of a machine that runs other tests beside it; the command itself says what it is

BACKEND = Path(__file__).parent.parent / "data/backend/backend.py"


def chaosd(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaosd", "calibrate", *arguments],
        cwd=where, capture_output=True, text=True, timeout=80, check=False,
    )  # fmt: skip


@pytest.mark.quiet
def test_known_outages_are_measured_to_a_probe_interval(tmp_path) -> None:
    done = chaosd(tmp_path, "--rates", "500", "--n", "6", "--outages", "50ms..800ms", "--seed", "3")
    assert done.stderr == ""
    [file] = tmp_path.glob("runs/calibrate-*/calibrate.json")
    said = json.loads(file.read_text())
    [rate] = said["rates"]
    # The verdict is the worst one's; what a busy machine does to it is in each cycle's error bar.
    assert done.returncode == {True: 0, False: 1, None: 4}[rate["ok"]]
    assert len(rate["outages"]) + rate["unmeasured"] == 6
    assert len(rate["outages"]) >= 5
    for error in rate["outages"]:
        assert 0.05 <= error["outage"]["length_s"] < 0.9
        assert abs(error["gap_s"]) < error["resolution_s"] + BUSY_S
        assert abs(error["loss_s"]) < error["resolution_s"] + BUSY_S
        assert -BUSY_S < error["recovery_s"] < error["resolution_s"] + ANSWER_S
        if error["poor"] is None and error["resolution_s"] < 0.003:  # nothing was in its way
            assert abs(error["gap_s"]) < rate["limit_s"] == 0.004
    assert len({error["outage"]["manner"] for error in rate["outages"]}) == 2
    worst_s = max(abs(e["gap_s"]) for e in rate["outages"] if e["poor"] is None)
    assert rate["accuracy"]["gap"]["worst_s"] == pytest.approx(worst_s)
    assert rate["ok"] in (None, worst_s < 0.004)
    for word in ("500/s   6/6", "bias", "spread", "worst", "gap", "loss", "recovery"):
        assert word in done.stdout
    # It is an ordinary run: the same files, the same report.
    assert RunReader(file.parent / "500").manifest["runtime"] == "external"


@pytest.mark.slow  # its own backend each time
@pytest.mark.quiet
def test_somebody_elses_backend_can_be_calibrated_against(tmp_path) -> None:
    """Whoever knows their own outages prints them, and that is all that is asked of them."""
    mover = tmp_path / "mover.py"
    mover.write_text(
        "import subprocess, sys, json\n"
        f"subprocess.run([sys.executable, {str(BACKEND)!r}, 'away', sys.argv[1], '0.2'])\n"
        "said = json.loads(open(sys.argv[2]).read().splitlines()[-1])\n"
        "print('away', said['away']); print('back', said['back'])\n"
    )
    truth = tmp_path / "truth"
    with subprocess.Popen(
        [sys.executable, BACKEND, truth], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as backend:
        door, admin = backend.stdout.readline().split()
        program = f"{sys.executable} {mover} {admin} {truth}"
        options = ("--target", f"http://127.0.0.1:{door}/", "--command", program)
        done = chaosd(tmp_path, "--rates", "200", "--n", "3", *options)
        backend.stdin.close()
        backend.wait(10)
    assert done.stderr == ""
    [file] = tmp_path.glob("runs/calibrate-*/calibrate.json")
    [rate] = json.loads(file.read_text())["rates"]
    assert len(rate["outages"]) == 3
    for error in rate["outages"]:
        assert error["outage"]["length_s"] == pytest.approx(0.2, abs=0.05)
        assert abs(error["gap_s"]) < error["resolution_s"] + BUSY_S


@pytest.mark.slow  # three rates' worth of waiting
def test_what_is_done_when_it_is_stopped_is_told(tmp_path) -> None:
    options = ["--rates", "500,200", "--n", "2", "--outages", "50ms..100ms"]
    with subprocess.Popen(
        [sys.executable, "-m", "chaosd", "calibrate", *options],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("200/s"):
                process.send_signal(signal.SIGINT)
                break
        rest, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (4, "")
    assert "stopped: 1 of 2 rates is missing\n" in rest
    assert re.search(r"\n   500/s +[12] (gap|poor)", rest)  # a busy machine may make one poor
    [file] = tmp_path.glob("runs/calibrate-*/calibrate.json")
    assert [rate["rate"] for rate in json.loads(file.read_text())["rates"]] == ["500/s"]
