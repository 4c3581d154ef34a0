"""A project that runs already: its app moves, and everything is as it was afterwards."""

from __future__ import annotations

import contextlib
import secrets
import signal
import subprocess
import sys
import time

import pytest
from docker.errors import NotFound
from shop import API_PORT, Shop
from stand import Daemon, left_of, why_not

from chaosd.history.cycles import CycleOutcome
from chaosd.history.deeds import Asked, HoldAddress, OtherDeed, StartInstance, StopInstance
from chaosd.history.reader import RunReader
from chaosd.runtimes.compose.as_it_was import differences
from chaosd.runtimes.docker.endpoint import from_environment
from chaosd.testing.runtime import check_runtime

pytestmark = [pytest.mark.docker, pytest.mark.timeout(240)]

MOMENT_LIMIT_S = 100.0
SERVICES = ("web", "haproxy", "db")


@pytest.fixture
def shop(tmp_path):
    """Make projects; each is removed at the end."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    api = from_environment().client()
    made: list[Shop] = []

    def make(subnet: str = "", **web) -> Shop:
        found = Shop(api, tmp_path, f"shop{secrets.token_hex(3)}", subnet=subnet)
        made.append(found)
        found.up(**web)
        return found

    yield make
    for each in made:
        each.down()
    api.close()


def config(shop: Shop, **fault) -> dict:
    runtime = {"type": "compose", "project": shop.name, "app": "web", "proxy": "haproxy"}
    return {
        "runtime": runtime | {"allow": shop.name},
        "proxy": {"type": "haproxy"},
        "app": {"remember_ips": 2},
        "faults": [{"type": "recreate", "every": "5s"} | fault],
    }


def look(shop: Shop, replicas: int = 1) -> list:
    numbers = [("web", n) for n in range(1, replicas + 1)] + [("haproxy", 1), ("db", 1)]
    return [shop.inspect(*each) for each in numbers]


def changed(before: list, after: list) -> list[str]:
    """All that the engine says otherwise of containers that nobody has touched, with its words."""
    return [
        f"{was['Name']}: {path}: {of_one.get(path)} -> {of_other.get(path)}"
        for was, is_now in zip(before, after, strict=True)
        for of_one, of_other in [(leaves(was), leaves(is_now))]
        for path in sorted({*of_one, *of_other})
        if of_one.get(path) != of_other.get(path)
    ]


def leaves(value: object, path: str = "") -> dict[str, object]:
    if not isinstance(value, dict) or not value:
        return {path: value}
    found = {}
    for key, each in value.items():
        found |= leaves(each, f"{path}.{key}" if path else str(key))
    return found


def is_as_it_was(shop: Shop, before: list, replicas: int = 1) -> None:
    after = look(shop, replicas)
    assert [each["Id"] for each in after] == [each["Id"] for each in before]
    for was, is_now in zip(before, after, strict=True):
        assert differences(was, is_now) == []
        assert is_now["State"]["Running"]
    assert changed(before[replicas:], after[replicas:]) == []  # nobody has touched the others


def moved(run: Daemon, count: int) -> list:
    cycles = [cycle for cycle in run.cycles if cycle.outcome != CycleOutcome.SKIPPED]
    assert [cycle.outcome for cycle in cycles] == [CycleOutcome.RECOVERED] * count, run.out
    for cycle in cycles:
        assert cycle.new_ip != cycle.old_ip
        assert cycle.predicted is not None
    return cycles


@pytest.mark.parametrize(
    ("subnet", "old_ip", "count"),
    [
        pytest.param("", "refuse", 2, id="the engine gives addresses"),
        pytest.param(
            "10.214.77.0/24", "vacant", 2, id="an address is asked for", marks=pytest.mark.slow
        ),
        pytest.param("", "tarpit", 10, id="ten", marks=pytest.mark.slow),
    ],
)
def test_the_app_moves_and_all_is_as_it_was(shop, daemon, tmp_path, subnet, old_ip, count) -> None:
    project = shop(subnet)
    before = look(project)
    run = daemon(tmp_path / "d", "--cycles", str(count), **config(project, old_ip=old_ip))
    assert run.wait(200) == 0, run.err
    cycles = moved(run, count)
    addresses = [cycles[0].old_ip, *(cycle.new_ip for cycle in cycles)]
    assert all(len({*addresses[n : n + 3]}) == 3 for n in range(len(addresses) - 2))
    is_as_it_was(project, before)
    assert left_of(project.api, run.run_id) == []
    assert "web/web1" in (run.directory / "c1/haproxy.log").read_text()
    assert f"allowed, though not chaosd's own: it stops {project.name}-web-1" in run.out


@pytest.mark.slow
def test_two_replicas_move_in_turn_with_what_is_mounted(shop, daemon, tmp_path) -> None:
    project = shop(replicas=2, volumes=["/own"], environment={"TEAM": "a b"})
    before = look(project, 2)
    run = daemon(tmp_path / "d", "--cycles", "2", **config(project, order="make-before-break"))
    for made in until_made(run, project):
        assert made["Config"]["Labels"]["team"] == "shop"
        assert made["Config"]["Labels"]["com.docker.compose.oneoff"] == "True"
        assert "TEAM=a b" in made["Config"]["Env"]
        assert {mount["Destination"] for mount in made["Mounts"]} == {"/own", "/shared"}
    assert run.wait(200) == 0, run.err
    assert len({cycle.old_ip for cycle in run.cycles if cycle.old_ip}) == 2
    is_as_it_was(project, before, 2)  # the volume that a container alone has is there, too


def until_made(run: Daemon, shop: Shop) -> list:
    """The containers in the place of the app's, once there is one."""
    until(run, StartInstance)
    limit = time.monotonic() + MOMENT_LIMIT_S
    wanted = {"label": ["chaosd.run", f"com.docker.compose.project={shop.name}"]}
    while time.monotonic() < limit:
        with contextlib.suppress(NotFound):  # one was removed meanwhile
            if found := shop.api.containers(all=True, filters=wanted):
                return [shop.api.inspect_container(each["Id"]) for each in found]
        time.sleep(0.02)
    pytest.fail("nothing takes the app's place")


def until(run: Daemon, deed: type) -> None:
    """Return when this deed is asked for."""
    limit = time.monotonic() + MOMENT_LIMIT_S
    while time.monotonic() < limit:
        if (run.where / "runs/latest/events.jsonl").exists():
            events = RunReader(run.directory).events()
            if any(isinstance(e.what, Asked) and isinstance(e.what.deed, deed) for e in events):
                return
        assert run.process.poll() is None, run.process.communicate()
        time.sleep(0.01)
    pytest.fail(f"no {deed.__name__} was asked for")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(OtherDeed, id="taking over", marks=pytest.mark.slow),
        pytest.param(StopInstance, id="stopping", marks=pytest.mark.slow),
        pytest.param(HoldAddress, id="holding", marks=pytest.mark.slow),
        pytest.param(StartInstance, id="starting", marks=pytest.mark.slow),
    ],
)
def test_after_kill_9_the_next_start_puts_it_back(shop, daemon, tmp_path, moment) -> None:
    project = shop()
    before = look(project)
    run = daemon(tmp_path / "d", **config(project, gap="500ms"))
    until(run, moment)
    run.process.kill()
    run.process.communicate()
    if moment in (HoldAddress, StartInstance):
        assert not project.inspect("web")["State"]["Running"]
    clean = [sys.executable, "-m", "chaosd", "clean"]
    done = subprocess.run(clean, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    is_as_it_was(project, before)
    assert left_of(project.api, run.run_id) == []


@pytest.mark.slow  # test_clean.py and the other cases have it each time
def test_the_next_run_itself_puts_it_back_first(shop, daemon, tmp_path) -> None:
    project = shop("10.214.78.0/24")
    before = look(project)
    killed = daemon(tmp_path / "d", **config(project, gap="500ms"))
    until(killed, StartInstance)
    killed.process.kill()
    killed.process.communicate()
    run = daemon(tmp_path / "e", "--cycles", "1", **config(project))
    assert run.wait() == 0, run.err
    assert f"and started {project.name}-web-1 again" in run.out
    moved(run, 1)
    is_as_it_was(project, before)


@pytest.mark.slow
def test_it_conforms(shop) -> None:
    project = shop("10.214.79.0/24")
    before = look(project)
    keys = config(project)
    check_runtime(keys["runtime"], proxy=keys["proxy"], app=keys["app"])
    is_as_it_was(project, before)


@pytest.mark.slow
def test_after_ctrl_c_it_is_as_it_was(shop, daemon, tmp_path) -> None:
    project = shop()
    before = look(project)
    run = daemon(tmp_path / "d", **config(project, gap="1s"))
    until(run, HoldAddress)
    run.process.send_signal(signal.SIGINT)
    run.wait()
    is_as_it_was(project, before)
    assert left_of(project.api, run.run_id) == []


def test_without_leave_nothing_is_touched_and_check_says_what_would_be(shop, tmp_path) -> None:
    project = shop()
    before = look(project)
    keys = config(project)
    del keys["runtime"]["allow"]
    refused = Daemon(tmp_path / "d", command=["check", "c.yaml"], **keys)
    _, said = refused.process.communicate(timeout=60)
    assert refused.process.returncode == 2, said
    assert f"it stops {project.name}-web-1 at the first fault" in said
    assert f"if it may, say allow: {project.name}" in said
    shown = Daemon(tmp_path / "e", command=["check", "c.yaml"], **config(project))
    out, _ = shown.process.communicate(timeout=60)
    assert shown.process.returncode == 0, out
    assert f"allowed, though not chaosd's own: it stops {project.name}-web-1" in out
    assert str(project.config) in out  # the file that the prediction is made of
    assert "recovery predicted between" in out
    assert changed(before, look(project)) == []


@pytest.mark.slow
def test_containers_by_their_names_and_the_proxys_own_api(shop, daemon, tmp_path) -> None:
    project = shop()
    before = look(project)
    name = f"{project.name}-web-1"
    keys = config(project)
    keys["runtime"] = {"type": "compose", "app": name, "proxy": f"{project.name}-haproxy-1"}
    keys["runtime"]["allow"] = name
    run = daemon(tmp_path / "d", "--cycles", "1", **keys)
    assert run.wait() == 0, run.err
    moved(run, 1)
    assert any("resolvers" in str(event.what).lower() for event in run.events), API_PORT
    is_as_it_was(project, before)


@pytest.mark.slow
def test_one_run_at_a_time(shop, daemon, tmp_path) -> None:
    project = shop()
    first = daemon(tmp_path / "d", **config(project))
    until(first, StopInstance)
    second = daemon(tmp_path / "e", "--cycles", "1", **config(project))
    assert second.wait() == 3
    assert f"another run of chaosd has {project.name}-web-1" in second.err
    first.process.send_signal(signal.SIGINT)
    first.wait()
