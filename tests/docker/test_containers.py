"""What containers of a run may do, and what happens if one of them dies by itself."""

from __future__ import annotations

import time

import pytest
from stand import left_of

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

NEVER = [{"type": "recreate", "every": "10m"}]


def wait_for(engine, run, count: int) -> list[dict]:
    """The run's containers, once the topology stands."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        assert run.process.poll() is None, run.process.communicate()
        if (run.where / "runs/latest/run.json").exists():
            wanted = {"label": f"chaosd.run={run.run_id}"}
            found = engine.containers(filters=wanted)
            if len(found) == count and "way_in" in (run.directory / "events.jsonl").read_text():
                return [engine.inspect_container(c["Id"]) for c in found]
        time.sleep(0.1)
    pytest.fail(f"there are never {count} containers")


def check_limits(containers: list[dict]) -> None:
    """Check that they are limited, and see nothing of the machine."""
    for found in containers:
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert not host["Privileged"]
        assert not host["Binds"]
        # One directory of this machine, of chaosd's own: that of the API's socket.
        binds = [mount for mount in found["Mounts"] if mount["Type"] != "volume"]
        assert {mount["Destination"] for mount in binds} <= {"/run/chaosd-api"}
        assert not binds or found["Name"].endswith("-proxy")
        assert 0 < host["Memory"] <= 1 << 30
        assert 0 < host["PidsLimit"] <= 1024
        assert found["Config"]["User"] == "65534:65534"
        ports = [bound for each in (host["PortBindings"] or {}).values() for bound in each]
        assert {port["HostIp"] for port in ports} <= {"127.0.0.1"}


@pytest.mark.slow  # what dies by itself does so on local each time
@pytest.mark.parametrize("part", ["proxy", "c1-1"])
def test_they_are_limited_and_one_that_dies_by_itself_ends_the_run_with_one_line(
    engine, daemon, tmp_path, part
) -> None:
    run = daemon(tmp_path, faults=NEVER)
    containers = wait_for(engine, run, 2)
    check_limits(containers)
    (victim,) = [c for c in containers if c["Name"].endswith(part)]
    engine.kill(victim["Id"])
    assert run.wait(60) == 3
    (line,) = run.err.splitlines()
    assert f"container {victim['Name'][1:]} died with exit status 137" in line
    assert left_of(engine, run.run_id) == []
