"""A fault and a probe in a package of their own work without a change to chaosd."""

from __future__ import annotations

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


def test_it_is_listed(installed, tmp_path) -> None:
    said = chaosd("plugins", env=installed, cwd=tmp_path).stdout
    assert "chaosd-example" in said
    assert "chaosd_example.redeploy:Redeploy" in said


def test_its_fault_conforms(installed, tmp_path) -> None:
    code = "from chaosd.testing import check_fault; check_fault({'type': 'redeploy'})"
    subprocess.run([sys.executable, "-c", code], env=installed, check=True, timeout=90)


def test_its_mistakes_are_said_like_ours(installed, tmp_path) -> None:
    (tmp_path / "c.yaml").write_text(
        "name: x\nruntime: sim\nfaults:\n  - type: redeploy\n    every: 5s\n    paws: 1s\n"
    )
    done = chaosd("check", "c.yaml", env=installed, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "chaosd: c.yaml:6: faults[0].paws: unknown key `paws` (did you mean `pause`?)"
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
    import json

    report = json.loads((tmp_path / "runs/latest/report.json").read_text())
    assert report["total"]["outcomes"]["recovered"] == 2
    banner = next(probe for probe in report["probes"] if probe["probe"] == "banner")
    assert banner["outcomes"]["ok"] > 20
