"""A worker that says nothing any more has its round made again by another one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chaosd.errors import MachineError
from chaosd.sweep.machines import crew
from chaosd.sweep.machines.joining import Joined
from chaosd.sweep.rounds import Prepared
from chaosd.sweep.store import Round, Store

DATA = {
    "name": "t",
    "runtime": "sim",
    "proxy": {"type": "haproxy"},
    "arms": [{"name": "baseline"}],
}


class Client:
    """dask's, as far as it is asked: each worker's last heartbeat, and who was given something."""

    scheduler = SimpleNamespace(identity=None)

    def __init__(self) -> None:
        self.beats: dict[str, float] = {}
        self.given: list[str] = []

    def sync(self, what: Any, callback_timeout: float) -> dict[str, Any]:
        return {"workers": {name: {"last_seen": beat} for name, beat in self.beats.items()}}

    def submit(self, what: Any, *data: Any, workers: list[str], **more: Any) -> SimpleNamespace:
        self.given += workers
        return SimpleNamespace(
            add_done_callback=lambda _: None, done=lambda: False, cancel=lambda: None
        )


@pytest.fixture
def making(tmp_path, monkeypatch):
    """A crew with a worker that makes a round, its client and clock, and what is said."""
    begun = Round(
        number=3,
        directory="rounds/0003-recreate",
        fault="recreate",
        fault_hash="",
        cycles=1,
        replicas=1,
        arms={},
        fresh=False,
    )
    prepared = Prepared(
        begun=begun, data=DATA, called=Path("/b.yaml"), programs={}, cells=1, time_s=None
    )
    client, said, clock = Client(), list[str](), SimpleNamespace(at_ns=0)
    clock.now_ns = lambda: clock.at_ns
    monkeypatch.setattr(crew, "RealClock", lambda: clock)
    store = Store(tmp_path)
    store.prepare()
    made = crew.Crew(Joined(client=client, is_local=False), store, prepared, said.append)
    client.beats["one"] = 1.0
    made._see_who_is_there()
    worker = made._workers["one"]
    worker.name, worker.prepared = "one", prepared
    return made, client, clock, said


def look(made: crew.Crew, clock: SimpleNamespace, after_s: float) -> None:
    clock.at_ns += round(after_s * 1e9)
    made._see_who_is_there()


def test_one_that_is_silent_for_long_loses_its_round(making) -> None:
    made, client, clock, said = making
    look(made, clock, crew.SILENT_S)
    assert said == []  # not yet
    look(made, clock, 1)
    assert said == ["one has not been heard of for 20 s: round 3 is made again"]
    assert [each.begun.number for each in made._todo] == [3]
    look(made, clock, 1000)
    assert client.given == ["one"]  # it gets nothing while it is silent
    client.beats["one"] = 2.0
    look(made, clock, 1)
    assert said[1:] == ["one is heard of again"]
    assert client.given == ["one", "one"]  # and is greeted anew


def test_one_that_beats_now_and_then_keeps_it(making) -> None:
    made, client, clock, said = making
    for beat in range(2, 10):
        client.beats["one"] = float(beat)
        look(made, clock, crew.SILENT_S - 1)
    assert said == []


def test_one_that_is_gone_loses_it_at_once(making) -> None:
    made, client, clock, said = making
    del client.beats["one"]
    look(made, clock, 0.5)
    assert said == ["one is gone: round 3 is made again"]


def test_a_scheduler_that_does_not_answer_is_said(making, monkeypatch) -> None:
    made, client, clock, _ = making

    def late(*_: Any, **__: Any) -> None:
        raise TimeoutError

    monkeypatch.setattr(client, "sync", late)
    with pytest.raises(MachineError, match="the scheduler does not answer: within 60 s"):
        look(made, clock, 1)
