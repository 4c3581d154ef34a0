"""`chaosd doctor --prove`: which experiments there are, what they run, and what is made of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from chaosd.cli import main
from chaosd.config import shape
from chaosd.doctor import proof, rule
from chaosd.doctor.examine import Doctor, same_rows
from chaosd.doctor.formats import evidence
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Program, open_files
from chaosd.history.causes import Doubt, DoubtKind
from chaosd.history.cycles import Cycle, CycleOutcome
from chaosd.proxies.haproxy.model.backend import Happening

pytestmark = pytest.mark.usefixtures("few_trials")

FILE = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s

resolvers docker
    nameserver dns1 127.0.0.11:53
    hold obsolete 10s
    hold timeout 1s

frontend web
    bind :80
    default_backend app

backend app
    server web web:8080 check resolvers docker resolve-prefer ipv4

backend static
    server one 192.0.2.1:80
"""
MODEL = Model()
ONE = proof.Round(1, 1)
RATE = proof.RATE_PER_S


def files_of(tmp_path, text):
    (tmp_path / "haproxy.cfg").write_text(text)
    return open_files([tmp_path / "haproxy.cfg"], {})


def diagnosed(tmp_path, text=FILE, version="3.2.26"):
    return Doctor(
        program=Program(version), setting=None, rules=rule.installed(), model=MODEL
    ).examine(files_of(tmp_path, text))


@pytest.fixture
def experiments(tmp_path) -> list[proof.Experiment]:
    now, fixed = [tmp_path / "haproxy.cfg"], [tmp_path / "fixed.cfg"]
    return proof.of_remedies(diagnosed(tmp_path), "3.2", now, fixed)


def test_each_happening_that_a_finding_is_about_is_proven(experiments) -> None:
    assert [each.scenario.happening for each in experiments] == [
        Happening.MOVE,
        Happening.NODE_LOST,
        Happening.DNS_TROUBLE,
    ]
    assert {each.backend for each in experiments} == {"app"}


def test_nothing_is_proven_of_a_file_without_findings(tmp_path) -> None:
    good = FILE.replace("    hold obsolete 10s\n    hold timeout 1s\n", "")
    good = good.replace("30s\n\nres", "30s\n    option redispatch 1\n\nres")
    assert proof.of_remedies(diagnosed(tmp_path, good), None, [], []) == []


@pytest.mark.parametrize("probe", [None, {"type": "http", "host": "h", "path": "/p"}])
def test_its_config_is_one(tmp_path, experiments, probe) -> None:
    for path in ("haproxy.cfg", "fixed.cfg", "env"):
        (tmp_path / path).touch()
    begun = proof.next_round(7, [])
    assert begun is not None
    for number, experiment in enumerate(experiments):
        file = tmp_path / "prove.json"
        file.write_text(experiment.config(begun, env=tmp_path / "env", probe=probe))
        config = shape.load(file)
        assert list(config.arm_configs) == ["now", "fixed"]
        paths = [arm.proxy.config for arm in config.arm_configs.values()]
        assert "haproxy.cfg" in str(paths[0])
        assert "fixed.cfg" in str(paths[1])
        assert (config.cells, config.until.cycles) == (4, 2)  # seven at least
        (fault,) = config.faults
        assert fault.type == ("recreate", "recreate", "dns")[number]
        if probe is not None:
            assert config.probes[0].host == "h"
            assert config.probes[0].timeout.s == experiment.patience_s
            assert config.probes[0].timeout.s < fault.every.s


def test_a_lost_node_stays_in_dns_until_the_next_one_is_there(experiments) -> None:
    config = experiments[1].config(ONE, env=None, probe=None)
    assert '"missing": "stale"' in config
    assert '"old_ip": "blackhole"' in config
    assert '"gap": "10s"' in config


def test_requests_that_wait_do_not_fill_haproxy(tmp_path, experiments) -> None:
    assert {each.rate_per_s for each in experiments} == {proof.RATE_PER_S}
    text = "global\n    maxconn 100\n" + FILE
    small, _ = files_of(tmp_path, text).subject(Program("3.2.26"), None)
    lost = next(each for each in experiments if each.scenario.happening is Happening.NODE_LOST)
    lost = replace(lost, connections=proof.connections_of(small))
    assert lost.connections == 100
    waits_s = max(side.outlook.slowest_s for side in lost.sides)
    assert lost.rate_per_s * min(waits_s, 30.0) <= 50
    assert f'"rate": "{lost.rate_per_s}/s"' in lost.config(ONE, env=None, probe={"type": "http"})


def test_versions_are_held_against_each_other_where_they_differ(tmp_path) -> None:
    text = FILE.replace(" resolve-prefer ipv4", "")
    slow = text.replace("hold obsolete 10s", "timeout resolve 20s\n    hold valid 1s")
    both = [diagnosed(tmp_path, slow, version) for version in ("2.6.5", "3.2.26")]
    first = proof.of_versions(both, [Path("haproxy.cfg")])[0]
    assert [side.arm for side in first.sides] == ["v2-6-5", "v3-2-26"]
    assert '"proxy.version": "3.2.26"' in first.config(ONE, env=None, probe=None)
    assert proof.of_versions([both[1], both[1]], []) == []


def test_versions_are_compared_by_the_names_of_backends(tmp_path) -> None:
    more = ".if version_atleast(3.0)\nbackend first\n    server a 192.0.2.1:80\n.endif\n"
    head, _, rest = FILE.partition("\nbackend ")
    text = f"{head}\n{more}\nbackend {rest}"
    old, new = (diagnosed(tmp_path, text, version) for version in ("2.6.12", "3.2.26"))
    assert [row.name for row in new.rows] == ["first", "app", "static"]
    same = [(before.name, after.name) for before, after in same_rows(old, new)]
    assert same == [("app", "app"), ("static", "static")]


FIXED = {"arm": "fixed", "cell": "c2"}


def cycle(recovery_s, *, failed=0, misrouted=0, outcome=CycleOutcome.RECOVERED, **more) -> Cycle:
    values = {"cycle": 1, "cell": "c1", "fault": "recreate", "runtime": "local", "proxy": "haproxy"}
    end_ns = round((recovery_s or 60) * 1e9)
    return Cycle(
        outcome=outcome, t0_unix=0.0, t0_ns=0, end_ns=end_ns, recovery_s=recovery_s,
        failed=failed, misrouted=misrouted, **values | {"arm": "now"} | more,
    )  # fmt: skip


def test_evidence_is_of_cycles_that_can_be_trusted(experiments) -> None:
    late = Doubt(kind=DoubtKind.PROBES_LATE)
    cycles = [
        cycle(9.0, failed=9 * RATE),
        cycle(11.0, cycle=2, failed=10 * RATE, misrouted=RATE),
        cycle(50.0, cycle=3, failed=100 * RATE, doubt=late),
        cycle(None, cycle=4, outcome=CycleOutcome.INVALID),
        *(cycle(1.0, cycle=number, **FIXED) for number in (1, 2, 3, 4)),
    ]
    found, other = proof.evidence(experiments[0], proof.pairs_of(experiments[0], cycles))
    assert found.cycles == other.cycles == 2
    assert found.recovery_p95_s.value == 11.0
    assert other.recovery_p95_s.value == 1.0
    assert found.lost_s.value == pytest.approx(10.0)
    assert found.lost_s.low < 9.0
    assert found.lost_s.high > 11.0
    censored = [cycle(None, outcome=CycleOutcome.CENSORED, failed=10), cycle(1.0, **FIXED)]
    never, _ = proof.evidence(experiments[0], proof.pairs_of(experiments[0], censored))
    assert never.recovery_p95_s.value is None
    assert never.recovery_p95_s.beyond == 60


def test_it_goes_on_until_there_are_as_many_pairs_as_were_asked_for() -> None:
    first = proof.next_round(20, [])
    assert first == proof.Round(4, 5)
    assert proof.next_round(20, [(first, 20)]) is None
    second = proof.next_round(20, [(first, 5)])  # one cell of each side was carried
    assert second == proof.Round(1, 15)
    assert proof.next_round(20, [(first, 5), (second, 14)]) == proof.Round(1, 2)
    assert proof.next_round(20, [(first, 18)]) == proof.Round(4, 1)  # two did not count
    assert proof.next_round(3, []) == proof.Round(3, 1)


def test_it_does_not_go_on_for_ever() -> None:
    first = proof.Round(4, 5)
    assert proof.next_round(20, [(first, 0)]) is None  # nothing counts here
    second = proof.next_round(20, [(first, 1)])
    assert second == proof.Round(1, 25)  # 95 would be needed
    assert proof.next_round(20, [(first, 1), (second, 5)]) is None


def test_both_sides_have_as_many_cycles_if_one_had_fewer_cells(experiments) -> None:
    alone = [cycle(1.0, cycle=n, cell=cell, arm="fixed") for n in (1, 2) for cell in ("c4", "c6")]
    both = [cycle(9.0), cycle(9.0, cycle=2), cycle(1.0, **FIXED), cycle(2.0, cycle=2, **FIXED)]
    sides = proof.evidence(experiments[0], proof.pairs_of(experiments[0], alone + both))
    assert [side.cycles for side in sides] == [2, 2]
    assert [side.recovery_mean_s.value for side in sides] == [9.0, 1.5]


def test_what_is_said_before_it(experiments) -> None:
    begun = proof.Round(4, 5)
    minutes = round(experiments[0].every_s * 5 / 60)
    assert evidence.plan_line(experiments[0], begun, asked=20, have=0) == (
        f"proving a move of app: now and fixed side by side, 20 pairs of cycles, some {minutes} "
        "min (up to 6 times that on a small or busy machine)"
    )
    assert evidence.plan_line(experiments[0], begun, asked=20, have=5) == (
        f"proving a move of app: 5 of 20 pairs so far, going on for some {minutes} min"
    )


def test_what_is_said_of_it(experiments) -> None:
    each = experiments[0]
    cycles = [cycle(10.0, failed=10 * RATE), cycle(11.0, cycle=2, failed=10 * RATE)]
    cycles += [cycle(1.0, cycle=number, failed=RATE // 2, **FIXED) for number in (1, 2)]
    lines = list(evidence.lines(proof.evidence(each, proof.pairs_of(each, cycles))))
    shares = [f"{100 * lost_s / each.every_s:.2g} %" for lost_s in (10.0, 0.5)]
    assert lines[0] == (
        f"app, a move: recovery p95 11 s → 1.0 s, failed requests {shares[0]} → {shares[1]} of "
        f"those in {each.every_s:g} s, 2 paired failovers"
    )
    assert lines[1].startswith("  recovery p95: predicted ")
    assert "; measured 11 s [" in lines[1]
    assert lines[3].endswith("; measured 10 s [10 s to 10 s] → 0.5 s [0.5 s to 0.5 s]")
    none = list(evidence.lines(proof.evidence(each, [])))
    assert none[0] == "app, a move: 0 paired failovers, so nothing is proven"


def test_what_does_not_go_together(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("haproxy.cfg").write_text(FILE)
    assert main(["doctor", "haproxy.cfg", "--prove", "--format", "json"]) == 2
    assert main(["doctor", "haproxy.cfg", "--prove", "--cycles", "0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
