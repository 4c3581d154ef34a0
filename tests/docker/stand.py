"""A real engine, or a skip that says why; and the daemon as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from machine import but_for_lateness

from chaosd.history.codec import decode_cycle
from chaosd.history.reader import RunReader
from chaosd.runtimes.docker import images
from chaosd.runtimes.docker.endpoint import from_environment

BASE = {
    "name": "t",
    "runtime": {"type": "docker"},
    "metrics": None,
    "proxy": {
        "type": "haproxy",
        "resolvers": {"timeout_resolve": "200ms", "timeout_retry": "200ms"},
    },
    "faults": [{"type": "recreate", "every": "3s"}],
    "measure": {"stable_for": "500ms"},
}


def why_not(version: str = images.DEFAULT_HAPROXY) -> str | None:
    """Why tests on an engine can't run here."""
    endpoint = from_environment()
    if (reason := endpoint.unreachable()) is not None:
        return reason
    with endpoint.client() as api:
        lacking = images.missing(api, [images.app_tag(), images.haproxy_tag(version)])
    return f"the engine has no image {', '.join(lacking)} (make images)" if lacking else None


class Daemon:
    """One `chaosd run` in a directory of its own."""

    def __init__(
        self, where: Path, *options: str, env=None, inside=(), command=None, **keys
    ) -> None:
        where.mkdir(exist_ok=True)
        self.where = where
        (where / "c.yaml").write_text(yaml.safe_dump(BASE | keys))
        self.process = subprocess.Popen(
            [
                *inside,
                *(sys.executable, "-m", "chaosd"),
                *(command or ["run", "c.yaml"]),
                *options,
            ],
            cwd=where,
            env=os.environ | (env or {}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, timeout: float = 90) -> int:
        try:
            self.out, self.err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.out, self.err = self.process.communicate()
            pytest.fail(f"it hangs; it said: {self.out[-500:]} {self.err[-500:]}")
        return but_for_lateness(self.process.returncode, self.directory)

    @property
    def directory(self) -> Path:
        return (self.where / "runs/latest").resolve()

    @property
    def cycles(self):
        return [decode_cycle(x) for x in (self.directory / "cycles.jsonl").read_text().splitlines()]

    @property
    def events(self):
        return list(RunReader(self.directory).events())

    @property
    def run_id(self) -> str:
        return json.loads((self.directory / "run.json").read_text())["run"]


def left_of(api, run_id: str) -> list[str]:
    """What the engine still has of this run."""
    wanted = {"label": f"chaosd.run={run_id}"}
    found = [c["Names"][0] for c in api.containers(all=True, filters=wanted)]
    return found + [n["Name"] for n in api.networks(filters=wanted)]


def volumes(api) -> set[str]:
    return {v["Name"] for v in api.volumes()["Volumes"] or []}
