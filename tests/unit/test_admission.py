"""How many cells a machine carries, from what the first ones take."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chaosd.config import shape
from chaosd.engine.admission import CPU_SHARE, Admission, carried
from chaosd.plan import build
from chaosd.plan.work import Work
from chaosd.system import usage
from chaosd.system.usage import Limits, Used

GB, MB = 1 << 30, 1 << 20
BEFORE = Used(cpu_s=1, memory_bytes=100 * MB, processes=2, descriptors=20, machine_cpu_s=9)
FOUR = Used(cpu_s=2, memory_bytes=220 * MB, processes=14, descriptors=100, machine_cpu_s=10)
ROOMY = Limits(cores=2.0, memory_bytes=64 * GB, processes=100_000, descriptors=100_000)


def test_what_there_is_least_of_says_how_many() -> None:
    def found(cell_cores: float = 0.02, others: float = 0.0, **limits: float) -> tuple[int, str]:
        return carried(4, cell_cores, (BEFORE, FOUR), replace(ROOMY, **limits), others)

    assert found() == (80, "CPU")
    assert found(cores=1.0) == (40, "CPU")
    assert found(others=0.5) == (55, "CPU")
    assert found(others=2.0) == (1, "CPU")  # one is always tried
    assert found(cell_cores=0.0, others=1.5) == (100, "CPU")
    # 30 MB each: four that stand, and what 70 % of the rest is enough for.
    assert found(memory_bytes=300 * MB) == (11, "memory")
    assert found(processes=100) == (26, "processes")  # three each
    assert found(descriptors=1024) == (24, "descriptors")  # twenty each, and twelve in a cycle


def work(tmp_path: Path, text: str) -> Work:
    path = tmp_path / "c.yaml"
    path.write_text(f"name: x\nruntime: sim\n{text}\n")
    config = shape.load(path)
    return Work.of(build(config, lambda where, what: f"{where}: {what}").arms[0])


def test_a_cell_s_work_is_what_its_config_asks_for(tmp_path) -> None:
    recreate = "faults: [{type: recreate, every: 10s}]"
    direct = "direct: null"
    plain = work(tmp_path, f"{recreate}\n{direct}\nprobes: [{{type: http, rate: 50/s}}]")
    assert plain.cpu(0.001) == pytest.approx(0.001 * (50 + 60 / 10))
    idling = "probes: [{type: http, rate: 50/s, idle_rate: 5/s}]"
    found = work(tmp_path, f"{recreate}\n{direct}\n{idling}")
    # 0.3 s before a fault, 1 s of `timeout resolve`, 1 s of `stable_for`: 2.3 of each 10 s.
    assert found.busy_share == pytest.approx(0.23)
    assert found.cpu(0.001) == pytest.approx(0.001 * (50 * 0.23 + 5 * 0.77 + 60 / 10))
    often = work(tmp_path, f"faults: [{{type: recreate, every: 1s}}]\n{direct}\n{idling}")
    assert often.busy_share == 1.0
    between = (
        "faults: [{type: noop, every: {min: 5s, max: 15s}}, {type: noop, name: b, every: 10s}]"
    )
    assert work(tmp_path, f"{between}\n{direct}\n{idling}").failovers == pytest.approx(0.2)


def test_control_probes_cost_less_and_least_where_they_idle(tmp_path) -> None:
    def cost(probe: str, direct: str) -> float:
        faults = "faults: [{type: recreate, every: 10s}]"
        return work(tmp_path, f"{faults}\nprobes: [{probe}]\ndirect: {direct}").cpu(0.001)

    plain, idling = "{type: http, rate: 50/s}", "{type: http, rate: 50/s, idle_rate: 5/s}"
    dense = cost(plain, "{rate: 50/s}") - cost(plain, "null")
    sparse = cost(idling, "{rate: 50/s}") - cost(idling, "null")
    assert 0 < sparse == pytest.approx(dense / 10)
    assert dense < 0.001 * 50 * 0.23


def test_what_we_use_is_ours_and_that_of_our_children() -> None:
    before = usage.used()
    burn = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        during = usage.used()
        assert during.cpu_s - before.cpu_s >= 0.25
        assert during.processes == before.processes + 1
        assert during.memory_bytes > before.memory_bytes
        assert during.descriptors == before.descriptors + 2
        child.kill()
    # What it has used stays used once it is gone.
    assert usage.used().cpu_s - before.cpu_s >= 0.25


def test_there_is_as_much_as_the_machine_says() -> None:
    found = usage.limits()
    assert 0 < found.cores <= (os.cpu_count() or 1)
    assert found.memory_bytes > 0
    assert found.descriptors > 0
    assert found.processes > 0
    assert 0 < CPU_SHARE < 1


class Machine:
    """What a machine says of itself, second after second, and a clock by which nothing is late."""

    def __init__(self, monkeypatch) -> None:
        self.now_s, self.cpu_s, self.cores_used, self.free = 0.0, 0.0, 0.0, 8 * GB
        self.busy_until_s = 0.0  # both cores
        monkeypatch.setattr(usage, "used", self.used)
        monkeypatch.setattr(usage, "limits", lambda: replace(ROOMY, memory_bytes=self.free))

    def used(self) -> Used:
        return replace(BEFORE, machine_cpu_s=self.cpu_s)

    def now_ns(self) -> int:
        return round(self.now_s * 1e9)

    async def sleep_until(self, at_ns: int) -> None:
        self.pass_s(at_ns / 1e9 - self.now_s)

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds
        busy = 1.9 if self.now_s < self.busy_until_s else self.cores_used
        self.cpu_s += busy * seconds


def on_an_engine(monkeypatch, *, others: float, set_up_s: float, asked: float, memory: int = 0):
    """How many cells there may be, where four of them were set up in two seconds."""
    machine = Machine(monkeypatch)
    works = [Work(probes=50, busy_share=0.5, idle_share=0.0, direct=0, failovers=0.1)] * 4

    async def scenario():
        machine.cores_used = others
        admission = Admission(machine, elsewhere=True)
        await admission.begin()
        machine.pass_s(2.0)
        machine.cpu_s += 4 * set_up_s
        machine.free -= 4 * memory
        admission.set_up(4)
        machine.cores_used = others + asked
        return await admission.measure(works, dense=True)

    return asyncio.run(scenario())


def test_what_a_cell_takes_of_an_engine_is_measured_and_not_guessed(monkeypatch) -> None:
    # 0.1 ms a probe: 25 probes a second, and 0.1 failovers of a set-up and 60 probes.
    assert on_an_engine(monkeypatch, others=0.0, set_up_s=0.5, asked=0.02) == (30, "CPU")
    assert on_an_engine(monkeypatch, others=0.0, set_up_s=2.0, asked=0.02) == (7, "CPU")
    assert on_an_engine(monkeypatch, others=0.8, set_up_s=0.5, asked=0.02) == (15, "CPU")
    found = on_an_engine(monkeypatch, others=0.0, set_up_s=0.5, asked=0.02, memory=500 * MB)
    assert found == (12, "memory")


@pytest.mark.parametrize(
    ("busy_s", "least", "cells", "looks"),
    [(0.0, 6, 30, 1), (0.9, 6, 30, 3), (9.0, 6, 4, 3), (0.9, 4, 5, 1)],
)
def test_where_others_are_busy_for_a_moment_it_is_looked_at_again(
    monkeypatch, busy_s: float, least: int, cells: int, looks: int
) -> None:
    machine = Machine(monkeypatch)
    works = [Work(probes=50, busy_share=0.5, idle_share=0.0, direct=0, failovers=0.1)] * 4

    async def scenario():
        admission = Admission(machine, elsewhere=True)
        await admission.begin()
        machine.cpu_s += 4 * 0.5
        admission.set_up(4)
        began_s = machine.now_s
        machine.busy_until_s, machine.cores_used = began_s + busy_s, 0.02
        found = await admission.measure(works, dense=True, least=least)
        return found.cells, round(machine.now_s - began_s)

    assert asyncio.run(scenario()) == (cells, looks)
