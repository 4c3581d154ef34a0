"""What a finding costs is what it costs the backends that it is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosd.doctor import rule
from chaosd.doctor.examine import Doctor
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Program, open_files

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
