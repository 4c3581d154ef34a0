"""The GitHub Action and the pre-commit hook: what they run, run as they run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
FILE = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch 1
resolvers docker
    nameserver dns1 127.0.0.11:53
{hold}backend app
    server web web:8080 check resolvers docker resolve-prefer ipv4
"""
BAD, GOOD = FILE.format(hold="    hold obsolete 10s\n"), FILE.format(hold="")
LINE = 9  # of `hold obsolete`


def run(command: list[str], place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=place,
        env={**os.environ, "PATH": path, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize(("fail_on", "code"), [("warning", 1), ("error", 0), ("", 0)])
def test_the_action_annotates_and_fails_only_as_told(tmp_path, fail_on, code) -> None:
    (tmp_path / "haproxy.cfg").write_text(BAD)
    action: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
    step = action["runs"]["steps"][-1]
    given = {"FILES": "haproxy.cfg", "VERSION": "3.2", "FAIL_ON": fail_on, "ARGS": "--in docker"}
    assert set(step["env"]) == set(given)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = run(command, tmp_path, **given)
    assert (done.returncode, done.stderr) == (code, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"::warning file=haproxy.cfg,line={LINE},")


def test_the_hook_takes_each_file_for_itself(tmp_path) -> None:
    names = ["haproxy.cfg", "sub/haproxy-tcp.cfg"]
    (tmp_path / "sub").mkdir()
    (tmp_path / names[0]).write_text(GOOD)
    (tmp_path / names[1]).write_text(BAD)
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert [name for name in (*names, "other.cfg") if re.search(hook["files"], name)] == names
    done = run([*hook["entry"].split(), *names], tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"warning[hold-obsolete] {names[1]}:{LINE}:5" in done.stdout.splitlines()
    assert run([*hook["entry"].split(), names[0]], tmp_path).returncode == 0
