"""A reader of the output who does not read."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys

import pytest

SIZE = 4096  # of the pipe


@pytest.mark.slow  # thirty cells; the sinks are tested each time
@pytest.mark.timeout(60)
def test_a_whole_run_ends_although_nobody_reads_its_output(tmp_path) -> None:
    config = {"name": "stuck", "runtime": "sim", "metrics": None, "cells": 30}
    config |= {"faults": [{"type": "recreate", "every": "20s"}], "until": {"cycles": 1}}
    config |= {"probes": [{"type": "http", "rate": "5/s"}], "direct": {"rate": "5/s"}}
    (tmp_path / "c.yaml").write_text(json.dumps(config))
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, SIZE)
    command = [sys.executable, "-m", "chaosd", "run", "c.yaml"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=writing)
    os.close(writing)
    try:
        assert process.wait(50) in (0, 4)
    finally:
        process.kill()
        process.wait()
    said = os.read(reading, 10 * SIZE)
    os.close(reading)
    assert 0 < len(said) <= SIZE  # there was more to say
    [report] = (tmp_path / "runs").glob("stuck-*/report.json")
    assert json.loads(report.read_text())["total"]["outcomes"]["recovered"] == 30
