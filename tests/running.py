"""`chaosd` as a process of its own, in a directory of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from machine import but_for_lateness

from chaosd.history.codec import decode_cycle
from chaosd.history.cycles import Cycle
from chaosd.history.events import AnyEvent
from chaosd.history.reader import RunReader


class Running:
    """One command of chaosd, which reads `c.yaml` there, and the run that it makes."""

    def __init__(
        self,
        where: Path,
        config: Mapping[str, Any],
        *command: str,
        inside: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        limit: Callable[[], None] | None = None,
    ) -> None:
        """`inside` are words before the command, `limit` is called in the process at first."""
        self.where = where
        where.mkdir(exist_ok=True)
        (where / "c.yaml").write_text(yaml.safe_dump(dict(config)))
        self.process = subprocess.Popen(
            [*inside, sys.executable, "-m", "chaosd", *command],
            cwd=where,
            env=os.environ | dict(env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limit,
        )

    def wait(self, timeout: float = 90) -> int:
        try:
            self.out, self.err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.out, self.err = self.process.communicate()
            pytest.fail(f"it hangs; it said: {self.out[-500:]} {self.err[-500:]}")
        return but_for_lateness(self.process.returncode, self.directory)

    def wait_for(self, name: str, what: str, count: int = 1, timeout: float = 30) -> None:
        """Wait until a file of the run has this text so many times."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            file = self.where / "runs/latest" / name
            if file.exists() and file.read_text().count(what) >= count:
                return
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.02)
        self.process.kill()
        pytest.fail(f"no {what} in {name} within {timeout} s: {self.process.communicate()}")

    @property
    def directory(self) -> Path:
        return (self.where / "runs/latest").resolve()

    @property
    def cycles(self) -> list[Cycle]:
        lines = (self.directory / "cycles.jsonl").read_text().splitlines()
        return [decode_cycle(line) for line in lines]

    @property
    def events(self) -> list[AnyEvent]:
        return list(RunReader(self.directory).events())

    @property
    def run_id(self) -> str:
        return json.loads((self.directory / "run.json").read_text())["run"]
