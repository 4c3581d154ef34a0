"""A fault and a probe in a package of their own work without a change to chaosd."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

PACKAGE = Path(__file__).parent.parent / "data/third-party"


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """The environment of a Python that has the package: its wheel's contents, laid out by hand.

    No package index is asked: an installed distribution is its modules and its metadata.
    """
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE / "src/chaosd_example", site / "chaosd_example")
    import tomllib

    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    info = site / f"chaosd_example-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return os.environ | {"PYTHONPATH": str(site)}


def chaosd(*arguments: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "chaosd", *arguments],
        env=env, cwd=cwd, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip


# Commands that are over at once, in one process: importing chaosd takes longer than all of them.
AT_ONCE = """
import contextlib, io, json, sys
from chaosd.cli import main

found = []
for command in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(command)
    found.append((code, out.getvalue(), err.getvalue()))
print(json.dumps(found))
"""
COMMANDS = {
    "plugins": ["plugins"],
    "doctor": ["doctor", "haproxy.cfg", "--version", "3.2", "--fix", "fixed.cfg"],
    "explain": ["doctor", "--explain", "no-forwardfor"],
    "mistake": ["check", "mistake.yaml"],
    "external": ["check", "external.yaml"],
}


@pytest.fixture(scope="module")
def said(installed, tmp_path_factory) -> dict[str, tuple[int, str, str]]:
    """The exit code of each command, what it says, and its complaints; and the file it has made."""
    where = tmp_path_factory.mktemp("said")
    (where / "haproxy.cfg").write_text(
        "defaults\n    mode http\n    timeout connect 5s\nbackend app\n    server a 192.0.2.1:80\n"
    )
    (where / "mistake.yaml").write_text(
        "name: x\nruntime: sim\nfaults:\n  - type: redeploy\n    every: 5s\n    paws: 1s\n"
    )
    (where / "external.yaml").write_text(
        "name: x\nruntime: {type: external, target: 'http://127.0.0.1:1'}\n"
        "faults:\n  - {type: servfail-aaaa, every: 5s}\n"
    )
    command = [sys.executable, "-c", AT_ONCE, json.dumps([*COMMANDS.values()])]
    done = subprocess.run(
        command, env=installed, cwd=where, capture_output=True, text=True, timeout=90, check=True
    )
    found = dict(zip(COMMANDS, json.loads(done.stdout), strict=True))
    return found | {"fixed.cfg": (0, (where / "fixed.cfg").read_text(), "")}


def test_it_is_listed(said) -> None:
    _, out, _ = said["plugins"]
    assert "chaosd-example" in out
    assert "chaosd_example.redeploy:Redeploy" in out


def test_its_faults_conform(installed) -> None:
    code = "from chaosd.testing import check_fault\n"
    code += "for fault in 'redeploy', 'servfail-aaaa': check_fault({'type': fault})"
    subprocess.run([sys.executable, "-c", code], env=installed, check=True, timeout=90)


def test_its_rule_works(said) -> None:
    _, out, _ = said["doctor"]
    assert "warning[no-forwardfor] haproxy.cfg:4" in out
    assert "  backend `app` has no `option forwardfor`" in out
    assert "    option forwardfor\n" in said["fixed.cfg"][1]
    assert "Our app logs the header" in said["explain"][1]


def test_its_mistakes_are_said_like_ours(said) -> None:
    code, _, err = said["mistake"]
    assert code == 2
    assert err.splitlines() == [
        "chaosd: mistake.yaml:6: faults[0].paws: unknown key `paws` (did you mean `pause`?)"
    ]


@pytest.mark.haproxy
def test_its_fault_and_its_probe_run_in_the_real_world(installed, tmp_path, haproxy) -> None:
    config = {
        "name": "third",
        "runtime": "local",
        "metrics": None,
        "proxy": {"type": "haproxy", "resolvers": {"timeout_resolve": "300ms"}},
        "faults": [{"type": "redeploy", "every": "2s"}],
        "probes": [{"type": "http"}, {"type": "banner", "rate": "20/s"}],
        "until": {"cycles": 2},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = chaosd("run", "c.yaml", env=installed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "runs/latest/report.json").read_text())
    assert report["total"]["outcomes"]["recovered"] == 2
    banner = next(probe for probe in report["probes"] if probe["probe"] == "banner")
    assert banner["outcomes"]["ok"] > 20


WINDOW_S = 1.5


def servfail(runtime, proxy, cycles: int, *, installed, tmp_path) -> tuple[list[dict], list[dict]]:
    """Run the DNS fault; its cycles, and the stored events of the first one."""
    fault = {"type": "servfail-aaaa", "every": "6s", "window": f"{WINDOW_S}s"}
    config = {
        "name": "servfail",
        "runtime": runtime,
        "seed": 3,
        "metrics": None,
        "proxy": {
            "type": "haproxy",
            "resolvers": {"timeout_resolve": "300ms"},
            "server": {"resolve_prefer": "ipv6"},  # so that it asks for AAAA at all
        }
        | proxy,
        "faults": [fault],
        "until": {"cycles": cycles},
    }
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    done = chaosd("run", "c.yaml", env=installed, cwd=tmp_path)
    if done.returncode == 3 and "engine" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode in (0, 4), done.stderr  # without failovers there is no verdict
    latest = tmp_path / "runs/latest"
    lines = (latest / "cycles.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in (latest / "events.jsonl").read_text().splitlines()]
    first = [event for event in events if event["cycle"] == 1]
    return [json.loads(line) for line in lines], first


def check_servfail(cycles: list[dict], events: list[dict], cycles_made: int) -> None:
    """Its kind and outcome, and that the proxy got SERVFAIL for AAAA, and for A never."""
    cycles = [cycle for cycle in cycles if cycle["outcome"] != "skipped"]  # a slow machine
    assert [(c["kind"], c["outcome"]) for c in cycles] == [("dns", "unaffected")] * cycles_made
    assert all(c["recovery_s"] is None and c["failed"] == 0 for c in cycles)
    at = {e.get("what") or f"{e['verb']} {e['edge']}": e["at_ns"] for e in events}
    assert at["restore_dns done"] - at["begin"] >= WINDOW_S * 1e9  # the engine's window
    assert at["begin"] < at["fault_ended"] <= at["injected"] < at["end"]
    said = [(e["data"]["qtype"], e["data"]["rcode"]) for e in events if e.get("what") == "answer"]
    assert ("AAAA", "SERVFAIL") in said
    assert ("A", "SERVFAIL") not in said


def test_a_dns_fault_in_the_simulated_world(installed, tmp_path) -> None:
    check_servfail(*servfail("sim", {}, 2, installed=installed, tmp_path=tmp_path), 2)


@pytest.mark.slow  # simulated each time
@pytest.mark.haproxy
def test_a_dns_fault_on_loopback(installed, tmp_path, haproxy) -> None:
    proxy = {"binary": haproxy}
    check_servfail(*servfail("local", proxy, 1, installed=installed, tmp_path=tmp_path), 1)


@pytest.mark.docker
@pytest.mark.slow  # the same fault runs on local each time, the forwarder in test_forward.py
@pytest.mark.timeout(180)
def test_a_dns_fault_in_containers(installed, tmp_path) -> None:
    runtime = {"type": "docker", "dns": "forward"}
    check_servfail(*servfail(runtime, {}, 1, installed=installed, tmp_path=tmp_path), 1)


def test_a_runtime_without_the_ability_is_refused_beforehand(said) -> None:
    code, _, err = said["external"]
    assert code == 2
    assert "lacks CanFaultDns" in err
