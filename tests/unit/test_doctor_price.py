"""What a finding costs is what it costs the backends that it is about."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from chaosd.doctor import rule
from chaosd.doctor.examine import Doctor, is_shown
from chaosd.doctor.finding import Change, Confidence, Cost, Finding, Severity, Spot, Toll
from chaosd.doctor.formats import json as jsons
from chaosd.doctor.formats import table
from chaosd.doctor.price import Model, is_nothing
from chaosd.doctor.reading import Program, open_files
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Happening, Outlook
from chaosd.proxies.haproxy.model.outlook import MOVE

pytestmark = pytest.mark.usefixtures("few_trials")

CONFIG = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch 1
resolvers dns
    nameserver one 10.0.0.53:53
    hold obsolete 20s
backend plain
    server web web.internal:80 check resolvers dns resolve-prefer ipv4
backend pool
    server-template web 4 pool.internal:80 check resolvers dns resolve-prefer ipv4
"""


def test_one_line_that_mends_two_findings_is_priced_for_each(tmp_path: Path) -> None:
    (tmp_path / "h.cfg").write_text(CONFIG)
    doctor = Doctor(program=Program("3.2.26"), setting=None, rules=rule.installed(), model=Model())
    found = {f.rule: f for f in doctor.examine(open_files([tmp_path / "h.cfg"], {})).all}
    for name, backend in (("hold-obsolete", "plain"), ("template-share", "pool")):
        finding = found[name]
        assert finding.backends == (backend,)
        assert finding.cost is not None
        assert {toll.backend for toll in finding.cost.tolls} == {backend}


def diagnosed(directory: Path, text: str, version: str = "3.2.26"):
    (directory / "h.cfg").write_text(text)
    doctor = Doctor(program=Program(version), setting=None, rules=rule.installed(), model=Model())
    return doctor.examine(open_files([directory / "h.cfg"], {}))


ALONE = CONFIG.replace("    hold obsolete 20s\n", "").partition("backend pool")[0]
ALONE = ALONE.replace(" check ", " inter 1s ")


def test_what_makes_users_worse_off_is_no_remedy() -> None:
    same = Change(now=0.0, fixed=0.0)
    toll = Toll(
        backend="b",
        scenario=MOVE,
        usual=True,
        recovery_s=Change(now=4.0, fixed=1.0),
        never=same,
        failed_s=Change(now=1.0, fixed=5.0),
        misrouted_s=same,
        slow_s=same,
        slowest_s=same,
    )
    cost = Cost(tolls=(toll,), queries_per_s=same, loss_s=-3.7)
    assert is_nothing(cost)
    assert not is_nothing(replace(cost, loss_s=0.3))
    assert not is_nothing(replace(cost, queries_per_s=Change(now=2.0, fixed=1.0)))


def test_who_waits_two_minutes_has_gone(tmp_path: Path) -> None:
    endless = ALONE.replace("    timeout connect 5s\n", "")
    (row,) = diagnosed(tmp_path, endless).rows
    lost = row.now[Happening.NODE_LOST]
    assert isinstance(lost, Outlook)
    assert lost.failed_s.mean > 5  # the kernel tries for 127 s, and clients wait for 30
    assert lost.masked_s.mean < 1
    (row,) = diagnosed(tmp_path, ALONE).rows
    assert row.now[Happening.NODE_LOST].failed_s.mean < 1


def test_a_part_of_a_configuration_is_not_blamed_for_what_others_may_say(tmp_path: Path) -> None:
    part = "backend b\n    server one one.internal:80 check resolvers dns\n"
    assert {f.rule for f in diagnosed(tmp_path, part).findings} == {"missing-resolvers"}
    whole = "defaults\n    mode http\n" + part
    found = {f.rule for f in diagnosed(tmp_path, whole).findings}
    assert {"missing-resolvers", "no-redispatch", "no-timeout-connect"} <= found


def test_one_timeout_of_many_backends_is_one_finding(tmp_path: Path) -> None:
    tunnels = CONFIG.replace("    mode http\n", "    mode http\n    timeout tunnel 1h\n")
    (finding,) = [f for f in diagnosed(tmp_path, tunnels).all if f.rule == "long-sessions"]
    assert finding.backends == ("plain", "pool")


def test_what_the_numbers_leave_out_is_said(tmp_path: Path) -> None:
    roles = "backend pool\n    option httpchk GET /primary\n"
    found = diagnosed(tmp_path, CONFIG.replace("backend pool\n", roles))
    (said,) = table.left_out(found.rows)
    assert said.startswith(f"not in these numbers: {tmp_path}/h.cfg:13: `option httpchk GET /pri")
    pool = json.loads(jsons.render([found], everything=False))["backends"][1]
    assert [(each["line"], each["changes"]) for each in pool["left_out"]] == [(13, "role")]


def priced(loss_s: float, **changes: object) -> Finding:
    finding = Finding(
        rule="x",
        severity=Severity.WARNING,
        confidence=Confidence.HIGH,
        spot=Spot(Place(Path("f"), 1)),
        message="",
        cost=Cost(loss_s=loss_s, queries_per_s=Change(now=2 if loss_s else 1, fixed=1)),
    )
    return replace(finding, **changes)


def test_what_costs_nothing_is_hidden_unless_it_is_an_error() -> None:
    assert is_shown(priced(3.0))
    assert not is_shown(priced(0.0))
    assert is_shown(priced(0.0, severity=Severity.ERROR))
    assert is_shown(priced(0.0, cost=None))
    assert not is_shown(priced(0.0, cost=None, severity=Severity.INFO))
    assert is_nothing(priced(0.0).cost)
