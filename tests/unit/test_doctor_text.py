"""What `chaosd doctor` says on a terminal: a table that fits, lines to replace, folded words."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from chaosd.doctor import rule
from chaosd.doctor.examine import Diagnosis, Doctor
from chaosd.doctor.finding import Change, Cost, Ms, Toll
from chaosd.doctor.formats import table, text
from chaosd.doctor.formats.costs import cost_lines, remedy_lines
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Program, open_files
from chaosd.doctor.words import between, listed
from chaosd.proxies.haproxy.cfg.source import Place
from chaosd.proxies.haproxy.model.backend import Happening
from chaosd.proxies.haproxy.model.outlook import MOVE
from chaosd.proxies.haproxy.rewire.edits import Replace, apply
from chaosd.proxies.haproxy.rewire.reasons import Reason

pytestmark = pytest.mark.usefixtures("few_trials")

FILE = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch 1
resolvers dns
    nameserver dns1 127.0.0.11:53
backend a-backend-that-has-quite-a-long-name
    server web1 web:8080 check resolvers dns
    server web2 web:8081 check resolvers dns
"""
WEB1 = 10  # its line
MODEL = Model()


def diagnosed(tmp_path: Path, file: str = FILE, version: str = "3.2.26") -> Diagnosis:
    (tmp_path / "haproxy.cfg").write_text(file)
    doctor = Doctor(program=Program(version), setting=None, rules=rule.installed(), model=MODEL)
    return doctor.examine(open_files([tmp_path / "haproxy.cfg"], {}))


def test_a_line_of_two_remedies_has_both(tmp_path) -> None:
    found = diagnosed(tmp_path)
    by_rule = {finding.rule: finding for finding in found.findings}
    for one, other in (
        ("resolve-prefer", "duplicate-address"),
        ("duplicate-address", "resolve-prefer"),
    ):
        pastes = remedy_lines(found.subject, by_rule[one], found.findings)
        paste = next(paste for paste in pastes if paste.place.line == WEB1)
        assert "resolve-prefer ipv4" in paste.text
        assert "resolve-opts allow-dup-ip" in paste.text
        assert paste.where(paste.place) == f"replace line {WEB1} ({other} too)"
        alone = remedy_lines(found.subject, by_rule[one])
        assert all(paste.others == () for paste in alone)


def test_a_word_that_two_remedies_add_is_there_once() -> None:
    text = "backend b\n    server s web:80\n"
    place = Place(Path("f"), 2)
    one, both = " check", " check on-marked-down shutdown-sessions"
    for texts in ((one, both), (both, one)):
        edits = [Replace(place, Reason.MENDED, start=20, end=20, text=each) for each in texts]
        assert apply(Path("f"), text, edits).text == f"backend b\n    server s web:80{both}\n"


def test_what_gets_worse_by_a_remedy_is_said_too() -> None:
    same = Change(now=0.0, fixed=0.0)
    toll = Toll(
        backend="b",
        scenario=MOVE,
        usual=True,
        recovery_s=same,
        never=same,
        failed_s=Change(now=0.6, fixed=1.4),
        misrouted_s=same,
        slow_s=same,
        slowest_s=Change(now=0.0, fixed=20.0),
    )
    cost = Cost(tolls=(toll,), queries_per_s=same, loss_s=1.0)
    (line,) = cost_lines(cost)
    assert line == "but a move (b): lost requests 0.6 s → 1.4 s, a client waits up to 0 s → 20 s"
    never = replace(toll, never=Change(now=1.0, fixed=0.0))
    (line,) = cost_lines(replace(cost, tolls=(never,)))
    assert "a client waits" not in line  # some wait for longer than was looked at


CROWDED = """\
global
    maxconn 256
defaults
    mode tcp
    retries 3
    timeout connect 5s
    timeout client 1m
    timeout server 1m
resolvers dns
    nameserver dns1 127.0.0.11:53
backend out
    server one one:5049 check resolvers dns resolve-prefer ipv4 init-addr libc,none
"""


def test_a_remedy_that_helps_one_happening_and_not_another_does_not_cost_nothing(tmp_path) -> None:
    found = diagnosed(tmp_path, CROWDED, "2.6.12")
    assert not found.findings
    said = text.summary(found, everything=False)
    assert said.startswith("nothing whose remedy pays on balance, ")
    assert "`no-redispatch`, better in one happening and worse in another (--all)" in said


BY_RULE = """\
backend out
    http-request do-resolve(txn.ip,dns) hdr(host)
    http-request set-dst var(txn.ip)
    server any 0.0.0.0:0
backend bracketed
    server one [${ADDRESS}]:80
"""


def test_where_a_rule_chooses_the_address_nothing_is_said_to_stay(tmp_path) -> None:
    found = diagnosed(tmp_path, FILE + BY_RULE)
    said = [line for line in text.render(found, everything=False) if line.startswith("out: ")]
    assert said[0].startswith("out: no prediction: ")
    assert "`http-request do-resolve(txn.ip,dns)`: a rule chooses the address" in said[0]


def test_in_brackets_there_is_no_name(tmp_path) -> None:
    found = diagnosed(tmp_path, FILE + BY_RULE)
    assert "never-resolved" not in {finding.rule for finding in found.all}
    lines = [*text.render(found, everything=False)]
    assert "bracketed: addresses in the file: nothing moves by DNS" in lines


def test_the_table_fits_a_terminal_whatever_the_names(tmp_path) -> None:
    lines = list(text.render(diagnosed(tmp_path), everything=False))
    head = next(n for n, line in enumerate(lines) if "a lost node" in line)
    end = next(n for n, line in enumerate(lines) if line.startswith("(now"))
    assert end > head + 2
    assert max(map(len, lines[head:end])) <= 80


def test_late_requests_are_in_the_table_where_there_are_some(tmp_path) -> None:
    many = "    server web2 web2:80 check resolvers dns resolve-prefer ipv4\n"
    late = FILE.replace("    server web2 web:8081 check resolvers dns\n", many)
    assert any(
        line.startswith("  requests late ")
        for line in text.render(diagnosed(tmp_path, late), everything=False)
    )
    gone = FILE.replace("option redispatch 1", "retries 0")
    assert not any(
        line.startswith("  requests late ")
        for line in text.render(diagnosed(tmp_path, gone), everything=False)
    )


def test_what_pays_only_later_is_said_at_the_end(tmp_path) -> None:
    file = FILE.replace("option redispatch 1", "option redispatch").replace(
        "127.0.0.11:53", "127.0.0.11:53\n    hold obsolete 10s"
    )
    found = diagnosed(tmp_path, file.replace("    server web2 web:8081 check resolvers dns\n", ""))
    assert [finding.rule for finding in found.later] == ["late-redispatch"]
    last = [*text.render(found, everything=False)][-1]
    assert last.endswith("and `late-redispatch` once these are mended (--fix writes all)")


def test_sentences_are_folded_and_lines_of_files_are_not() -> None:
    sentence = "  a sentence with a number, 3.0 s → 12 s, and more"
    for width in range(20, 60):
        parts = list(text.folded([sentence], width))
        assert all(len(part) <= width for part in parts)
        assert any("3.0 s → 12 s" in part for part in parts)
        assert " ".join(part.strip() for part in parts) == sentence.strip()
    of_files = [
        "  10 |     server web web:80 check resolvers docker",
        "     |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^",
        "  replace line 10:     server web web:80 check resolvers docker",
        "  add after line 10:     option redispatch 1 with much more",
    ]
    assert list(text.folded(of_files, 30)) == of_files


def test_a_version_that_is_worse_is_said_to_be(tmp_path) -> None:
    slow = FILE.replace(
        "127.0.0.11:53", "127.0.0.11:53\n    timeout resolve 20s\n    hold valid 1s"
    )
    old, new = (diagnosed(tmp_path, slow, version) for version in ("2.6.5", "3.2.26"))
    better = list(text.upgrade_lines(old, new))
    assert better[0] == "from HAProxy 2.6.5 to HAProxy 3.2.26: what changes (no number gets worse)"
    assert not any("(worse)" in line for line in better)
    worse = list(text.upgrade_lines(new, old))
    assert worse[0].endswith("what changes (something gets worse)")
    assert any(line.startswith("  a-backend") and "(worse)" in line for line in worse)
    assert list(text.upgrade_lines(new, new)) == [
        "from HAProxy 3.2.26 to HAProxy 3.2.26: nothing changes for your users"
    ]


@pytest.mark.parametrize(("p95_s", "is_told"), [(0.03, False), (1.5, True)])
def test_what_other_trials_would_come_to_is_no_change(tmp_path, p95_s, is_told) -> None:
    old = diagnosed(tmp_path, CROWDED, "2.6.12")
    (row,) = old.rows
    outlook = row.now[Happening.MOVE]
    slower = replace(outlook.recovery_s, p95=outlook.recovery_s.p95 * (1 + p95_s))
    now = {**row.now, Happening.MOVE: replace(outlook, recovery_s=slower)}
    new = replace(old, rows=(replace(row, now=now),))
    assert [worse for _, worse in table.changed(old, new)] == [True] * is_told


def test_words() -> None:
    assert [str(Ms(ms)) for ms in (0, 250, 1000, 1500, 100_500, 1_105_500, 86_400_000)] == [
        "0 s", "250 ms", "1 s", "1.5 s", "100.5 s", "18.4 min", "24 h",
    ]  # fmt: skip
    assert between(Ms(9000), Ms(10_000)) == "9 to 10 s"
    assert between(Ms(0), Ms(1000)) == "0 to 1 s"
    assert between(Ms(500), Ms(1000)) == "500 ms to 1 s"
    assert listed(["a", "b", "c", "d", "e"]) == "a, b, c and 2 more"
    assert math.isclose(Change(now=3, fixed=1).saved, 2)


def test_a_version_that_nobody_measured_is_said(tmp_path) -> None:
    known, newer = diagnosed(tmp_path), diagnosed(tmp_path, version="9.9")
    said = "HAProxy 9.9 was never measured: it is taken for 3.4"
    assert said not in [*text.render(known, everything=False)]
    assert said in [*text.render(newer, everything=False)]
    assert said in [*text.render_all([newer, known], everything=False)]
