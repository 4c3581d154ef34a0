"""`chaosd check --haproxy FILE`: what a move and DNS trouble do to the users of each backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from chaosd.cli import main
from chaosd.proxies.haproxy.cfg.backend import read_backends
from chaosd.proxies.haproxy.cfg.condition import BuildFacts
from chaosd.proxies.haproxy.cfg.dialect import Dialect
from chaosd.proxies.haproxy.cfg.host import Host
from chaosd.proxies.haproxy.cfg.reader import read_files
from chaosd.proxies.haproxy.cfg.resolve import resolve
from chaosd.proxies.haproxy.cfg.telling import tell
from chaosd.proxies.haproxy.model.backend import Outlook
from chaosd.proxies.haproxy.model.outlook import standard_scenarios
from chaosd.proxies.haproxy.outlooks import Foreseen, foresee

pytestmark = pytest.mark.usefixtures("few_trials")

FILE = """\
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
resolvers r
    nameserver dns 192.0.2.53:53
    hold obsolete {obsolete}
frontend f
    bind :8080
    default_backend shop
backend shop
    server s shop.example:80 check resolvers r init-addr none
backend blog
    server s blog.example:80 check resolvers r init-addr none
backend old
    server s old.example:80 check {old}
"""


def foreseen(tmp_path: Path, version: str = "3.0.11", **parts: str) -> list[object]:
    path = tmp_path / "h.cfg"
    path.write_text(FILE.format(**{"obsolete": "0s", "old": "", **parts}))
    dialect = Dialect.of(version)
    effective = resolve(read_files([path], build=BuildFacts(dialect)), dialect)
    return list(foresee(read_backends(effective, Host(1, has_ipv6=False)), version))


def told(tmp_path: Path, version: str = "3.0.11", **parts: str) -> str:
    return "\n".join(tell(foreseen(tmp_path, version, **parts), version))  # type: ignore[arg-type]


def test_servers_that_are_found_alike_are_said_together(tmp_path: Path) -> None:
    more = "\n    server t other.example:80 check resolvers r"
    said = told(tmp_path, old=f"resolvers r{more}\n    server u 192.0.2.1:80 backup")
    how = "2 servers by name at old.example, other.example, resolvers r"
    assert f": {how}, 1 server at a fixed address (backup); s is the one that moves; " in said


def test_backends_that_are_alike_have_one_answer(tmp_path: Path) -> None:
    alike, alone = foreseen(tmp_path)
    assert isinstance(alike, Foreseen)
    assert isinstance(alone, Foreseen)
    assert [backend.name for backend in alike.backends] == ["shop", "blog"]
    assert [backend.name for backend in alone.backends] == ["old"]
    assert [scenario for scenario, _ in alike.found] == list(standard_scenarios())


def test_a_name_without_resolvers_is_never_found_again(tmp_path: Path) -> None:
    _, alone = foreseen(tmp_path)
    assert isinstance(alone, Foreseen)
    move = alone.found[0][1]
    assert isinstance(move, Outlook)
    assert move.recovery_s.never == 1
    lines = told(tmp_path).splitlines()
    place = next(n for n, line in enumerate(lines) if line.startswith("backend old"))
    assert "looked up once, at start" in lines[place]
    assert "DNS queries" not in lines[place]
    assert lines[place + 2].split()[:5] == ["an", "instance", "moves", "never", "for"]


def test_what_a_timer_costs_is_seen(tmp_path: Path) -> None:
    """`hold obsolete` keeps the old address: the move takes so much longer."""
    first = foreseen(tmp_path)[0], foreseen(tmp_path, obsolete="10s")[0]
    medians = []
    for each in first:
        assert isinstance(each, Foreseen)
        move = each.found[0][1]
        assert isinstance(move, Outlook)
        medians.append(move.recovery_s.p50)
    assert 0.9 < medians[0] < 2.1
    assert 9 < medians[1] < 15  # and two checks, as the server went DOWN


def test_what_is_left_out_is_said_once(tmp_path: Path) -> None:
    said = told(tmp_path, old="observe layer4")
    assert said.count("observe layer4") == 1
    assert "  not in it: " in said
    path = tmp_path / "h.cfg"
    everywhere = "global\n    spread-checks 5\n" + FILE.format(obsolete="0s", old="")
    path.write_text(everywhere)
    dialect = Dialect.of("3.0.11")
    effective = resolve(read_files([path], build=BuildFacts(dialect)), dialect)
    said = "\n".join(tell(foresee(read_backends(effective), "3.0.11"), "3.0.11"))
    assert said.count("spread-checks 5") == 1
    assert "not in any of these predictions:" in said


def test_a_backend_that_is_not_read_has_its_reason(tmp_path: Path) -> None:
    said = told(tmp_path, old="resolvers r new-word 5")
    assert "backend old: no prediction: " in said
    assert "h.cfg:17: `new-word` is not a keyword that chaosd knows" in said
    assert "backends shop (" in said


def test_check_says_it_for_every_backend_without_a_choice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "h.cfg"
    path.write_text(FILE.format(obsolete="0s", old=""))
    assert main(["check", "--haproxy", str(path)]) == 0
    said = capsys.readouterr().out
    assert "# what a move and DNS trouble do to your users" in said
    assert "2 backends can move: shop, blog" in said
    assert main(["check", "--haproxy", str(path), "--backend", "blog"]) == 0
    said = capsys.readouterr().out
    assert f"backend blog ({path}:14)" in said
    assert "backends shop" not in said
