"""Whose owner is dead: a run that may live on another machine is never taken for a dead one."""

from __future__ import annotations

import pytest

from chaosd.runtimes.docker import objects
from chaosd.system import processes

ELSEWHERE = "0123456789ab"  # another boot


def tags(**labels: str) -> dict[str, str]:
    said = objects.labels("run", "c1", None)
    return {**said, **{f"chaosd.{name}": value for name, value in labels.items()}}


@pytest.mark.parametrize(
    ("machine_id", "boot", "dead"),
    [
        pytest.param("4f1c4f1c", ELSEWHERE, True, id="this machine, before it was started anew"),
        pytest.param("", ELSEWHERE, False, id="machines without an id"),
        pytest.param("uninitialized", ELSEWHERE, False, id="machines of one image"),
        pytest.param(None, ELSEWHERE, False, id="machines without the file"),
        pytest.param("", None, True, id="without an id, but of this boot"),
    ],
)
def test_another_boot_is_another_machine_where_none_has_an_id(
    tmp_path, monkeypatch, machine_id: str | None, boot: str | None, dead: bool
) -> None:
    monkeypatch.setattr(objects, "MACHINE_ID", tmp_path / "machine-id")
    if machine_id is not None:
        objects.MACHINE_ID.write_text(machine_id)
    pid, _, rest = processes.owner().partition(":")
    _, namespace, here = rest.split(":")
    owner = f"{pid}:1:{namespace}:{boot or here}"  # no process was started then
    assert objects._is_dead(None, tags(owner=owner)) is dead


@pytest.mark.parametrize("inside", [True, False], ids=["in that container", "on its machine"])
def test_a_container_that_was_started_again_removes_what_its_earlier_start_left(
    monkeypatch, inside: bool
) -> None:
    """As of deploy/compose.yaml: chaosd is killed, and the engine starts its container again."""

    class Engine:
        def inspect_container(self, name: str) -> dict:
            return {"State": {"Running": True}}

    monkeypatch.setattr(objects, "own_container", lambda _: "home" if inside else None)
    labels = objects.labels("run", "c1", "home")
    pid, start, namespace, boot = labels["chaosd.owner"].split(":")
    assert not objects._is_dead(Engine(), labels)  # it is us
    earlier = {**labels, "chaosd.owner": f"{pid}:{start}:{int(namespace) + 1}:{boot}"}
    assert objects._is_dead(Engine(), earlier) is inside
