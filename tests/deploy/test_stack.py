"""The dashboard and the rules: in step with their source, and answered by a real Prometheus."""

from __future__ import annotations

import json
import re
import runpy
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import urllib.parse
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/rules.yml"
DASHBOARD = ROOT / "deploy/grafana/dashboards/recovery.json"

CONFIG = {
    "name": "scraped",
    "runtime": "local",
    "proxy": {
        "type": "haproxy",
        "resolvers": {"timeout_resolve": "200ms", "timeout_retry": "200ms"},
    },
    "faults": [{"type": "recreate", "every": "1500ms", "old_ip": "imposter"}],
    "measure": {"stable_for": "300ms"},
}


@pytest.fixture
def prometheus() -> str:
    program = shutil.which("prometheus")
    if program is None or shutil.which("promtool") is None:
        pytest.skip("no prometheus with promtool on this machine")
    return program


def queries() -> list[str]:
    """Every query of the dashboard, and the annotation's, as Prometheus is asked them."""
    board = json.loads(DASHBOARD.read_text())
    panels = [p for panel in board["panels"] for p in (panel, *panel.get("panels", []))]
    found = [t["expr"] for panel in panels for t in panel.get("targets", [])]
    found += [a["expr"] for a in board["annotations"]["list"] if a.get("expr")]
    stand_ins = {
        "$arm": "main",
        "$cell": ".*",
        "$fault": ".*",
        "$__range": "30s",
        "$__rate_interval": "10s",
        "$__interval": "10s",
    }
    for name, value in stand_ins.items():
        found = [text.replace(name, value) for text in found]
    assert len(found) > 30
    assert not [text for text in found if "$" in text]
    return found


def rule_queries() -> list[str]:
    """The rules' expressions over the last seconds, without thresholds: they must have data."""
    found = []
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            text = re.sub(r"\[\d+[smhd]\]", "[20s]", rule["expr"])
            for part in re.split(r"\sand\s|\sor\s", text):
                found.append(re.sub(r"\s[<>=]=?\s[\d.e]+\s*$", "", part))
    return found


def test_the_dashboard_is_in_step_with_its_source() -> None:
    pytest.importorskip("grafana_foundation_sdk")
    build = runpy.run_path(str(ROOT / "deploy/grafana/dashboard.py"))["build"]
    assert DASHBOARD.read_text() == build(), "run python deploy/grafana/dashboard.py"


@pytest.mark.prometheus
def test_promtool_accepts_the_rules_and_their_tests(prometheus) -> None:
    for command in (
        ["check", "rules", "rules.yml"],
        ["check", "config", "--syntax-only", "prometheus.yml"],
        ["test", "rules", "rules-test.yml"],
    ):
        done = subprocess.run(
            ["promtool", *command], cwd=RULES.parent, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Scraper:
    """A real Prometheus that scrapes one chaosd every 500 ms."""

    def __init__(self, program: str, where: Path, target: int) -> None:
        self.port = free_port()
        rules = RULES.read_text()
        (where / "rules.yml").write_text(re.sub(r"interval: \d+s", "interval: 1s", rules))
        config = {
            "global": {"scrape_interval": "500ms", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {"job_name": "chaosd", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
            ],
        }
        (where / "prometheus.yml").write_text(yaml.safe_dump(config))
        self.process = subprocess.Popen(
            [
                program,
                f"--config.file={where}/prometheus.yml",
                f"--storage.tsdb.path={where}/data",
                f"--web.listen-address=127.0.0.1:{self.port}",
                "--enable-feature=exemplar-storage",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, path: str, **values: str) -> list:
        asked = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(values)}"
        with urllib.request.urlopen(asked, timeout=10) as answer:
            data = json.load(answer)["data"]
        return data["result"] if isinstance(data, dict) else data

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)


@pytest.mark.prometheus
@pytest.mark.haproxy
@pytest.mark.timeout(120)
def test_a_real_prometheus_answers_every_query(prometheus, haproxy, tmp_path) -> None:
    target = free_port()
    metrics = {"metrics": {"listen": f"127.0.0.1:{target}"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(CONFIG | metrics))
    daemon = subprocess.Popen(
        [sys.executable, "-m", "chaosd", "run", "c.yaml", "--for", "90s"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
    )
    scraper = Scraper(prometheus, tmp_path, target)
    try:
        wanted = 'sum(chaosd_cycles_total{outcome="recovered"}) >= 4'
        end = time.monotonic() + 60
        while time.monotonic() < end:
            time.sleep(0.5)
            try:
                if scraper.ask("query", query=wanted):
                    break
            except OSError:
                continue
        else:
            pytest.fail("no four recoveries were scraped within 60 s")
        time.sleep(2)  # the rules are evaluated once more
        empty = [
            text for text in queries() + rule_queries() if not scraper.ask("query", query=text)
        ]
        assert empty == [], empty
        for rule in ("chaosd:recovery_seconds:p50_1h", "chaosd:bad_requests:share_1h"):
            assert scraper.ask("query", query=rule), rule
        alerts = {r["metric"]["alertname"] for r in scraper.ask("query", query="ALERTS")}
        assert "ChaosdMisrouted" in alerts
        now = time.time()
        exemplars = scraper.ask(
            "query_exemplars",
            query="chaosd_recovery_duration_seconds_bucket",
            start=str(now - 100),
            end=str(now),
        )
        cycles = {e["labels"]["cycle"] for series in exemplars for e in series["exemplars"]}
        assert cycles & {"1", "2", "3", "4"}, exemplars
    finally:
        daemon.terminate()
        daemon.wait(40)
        scraper.close()


def test_compose_understands_its_file() -> None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) is None:
            continue
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            break
    else:
        pytest.skip("no docker compose on this machine")
    file = ROOT / "deploy/compose.yaml"
    done = subprocess.run(
        [*command, "-p", "chaosd", "-f", file, "config"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {"chaosd", "prometheus", "grafana"}
    for name, service in services.items():
        assert not service.get("privileged")
        for port in service.get("ports", []):
            host = port["host_ip"] if isinstance(port, dict) else port.rpartition(":")[0]
            assert host.startswith("127.0.0.1"), name


def test_the_image_has_all_that_the_package_is_made_of() -> None:
    """Without one of them `pip install` fails, and so does `docker compose up`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    wanted = [*wheel["packages"], *wheel["force-include"], project["project"]["readme"]]
    before, _, _ = (ROOT / "deploy/Dockerfile").read_text().partition("RUN pip install")
    copied = [
        source
        for line in before.splitlines()
        if line.startswith("COPY ")
        for source in line.split()[1:-1]
    ]
    ignored = (ROOT / ".dockerignore").read_text().split()
    let_in = [line.removeprefix("!") for line in ignored if line.startswith("!")]
    for source in copied:
        assert (ROOT / source).exists()
        inside = any(source == each or source.startswith(f"{each}/") for each in let_in)
        assert inside or not any(fnmatch(source, pattern) for pattern in ignored), source
    lacking = [
        each
        for each in wanted
        if not any(each == source or each.startswith(f"{source}/") for source in copied)
    ]
    assert lacking == []
