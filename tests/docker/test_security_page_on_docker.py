"""docs/security.md says all that listens during a run on an engine, and with which privileges."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import listening
import pytest
from docker.errors import APIError
from listening import Socket

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root sees into containers"),
]
FAULTS = [
    {
        "type": "recreate",
        "every": "6s",
        "gap": "300ms",
        "old_ip": manner,
        "name": manner,
    }
    for manner in ("imposter", "blackhole")
]
SECONDS_MAX = 120


def whose(name: str) -> str:
    """Which container it is, by its name."""
    for part, kind in (
        ("-imposter-", "placeholder"),
        ("-blackhole-", "blackhole"),
        ("-proxy", "proxy"),
        ("-dns", "dns"),
        ("-asker", "asker"),
    ):
        if part in f"{name}-" or name.endswith(part):
            return kind
    return "app"


def privileges(config: dict) -> tuple[str, str]:
    """A container's user and capabilities, in the words of the page."""
    host = config["HostConfig"]
    assert host["ReadonlyRootfs"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert not host["Privileged"]
    assert not host["Binds"]
    said = f"drop {', '.join(host['CapDrop'] or ['nothing'])}"
    added = [name.removeprefix("CAP_") for name in host["CapAdd"] or []]
    return config["Config"]["User"], said + (f", add {', '.join(added)}" if added else "")


@pytest.mark.slow  # on local each time
def test_what_listens_is_what_the_page_says(engine, daemon, tmp_path: Path) -> None:
    run = daemon(
        tmp_path / "run",
        *("--cycles", "4"),
        runtime={"type": "docker", "dns": "forward"},
        metrics={"listen": "127.0.0.1:0"},
        faults=FAULTS,
    )
    found: dict[str, set[Socket]] = {}
    seen: dict[str, set[tuple[str, str]]] = {}
    masks: dict[str, set[int]] = {}
    deadline = time.monotonic() + SECONDS_MAX
    while run.process.poll() is None and time.monotonic() < deadline:
        pids = [run.process.pid, *listening.children(run.process.pid) - {run.process.pid}]
        for sockets in listening.listening(pids).values():
            found.setdefault("chaosd", set()).update(sockets)
        for container in engine.containers(filters={"label": "chaosd.owner"}):
            if not container["Labels"]["chaosd.owner"].startswith(f"{run.process.pid}:"):
                continue  # another run's
            with suppress(APIError, OSError):  # it is gone
                look(engine, container["Id"], found, seen, masks)
        time.sleep(0.05)
    assert run.wait(20) == 0, run.err
    # How a placeholder drops packets makes no difference to what it listens on.
    found.setdefault("placeholder", set()).update(found.pop("blackhole", set()))
    found.pop("asker", None)
    seen.pop("asker", None)
    assert listening.undocumented(found, "docker") == ([], [])
    page = listening.privileges("docker")
    assert {kind: {page[kind]} for kind in seen} == seen
    assert set(page) == set(seen)
    net_admin = 1 << 12
    assert all(mask <= {net_admin if kind == "blackhole" else 0} for kind, mask in masks.items())


def look(engine, container: str, found: dict, seen: dict, masks: dict) -> None:
    """Note what one container listens on now, and what it may do."""
    inspected = engine.inspect_container(container)
    kind = whose(inspected["Name"].lstrip("/"))
    seen.setdefault(kind, set()).add(privileges(inspected))
    for bindings in (inspected["NetworkSettings"]["Ports"] or {}).values():
        for each in bindings or []:
            where = Socket("tcp", f"{each['HostIp']}:{each['HostPort']}")
            found.setdefault("engine", set()).add(where)
    pid = inspected["State"]["Pid"]
    if pid:
        for sockets in listening.listening([pid, *listening.children(pid) - {pid}]).values():
            found.setdefault(kind, set()).update(sockets)
        if listening.command(pid) and "runc" not in listening.command(pid):
            masks.setdefault(kind, set()).add(listening.capabilities(pid))
