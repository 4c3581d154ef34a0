"""`chaosd doctor` as people and programs use it: what is read, said, mended, and ignored."""

from __future__ import annotations

import io
import json
import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from chaosd.cli import main, parser
from chaosd.doctor import reading, rule
from chaosd.doctor.examine import Doctor
from chaosd.doctor.price import Model
from chaosd.doctor.reading import Program
from chaosd.doctor.setting import Setting
from chaosd.proxies.haproxy.cfg.files import BYTES_MAX

pytestmark = pytest.mark.usefixtures("few_trials")

DEFAULTS = """\
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    option redispatch 1

"""
RESOLVERS = """\
resolvers docker
    nameserver dns1 127.0.0.11:53
    hold obsolete 10s  # copied

"""
BACKEND = """\
backend app
    server web web:8080 check resolvers docker resolve-prefer ipv4
"""
FILE = DEFAULTS + RESOLVERS + BACKEND
HOLD = 10  # the line of hold obsolete
GOOD = FILE.replace("    hold obsolete 10s  # copied\n", "")


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    """Run the command in a directory of its own; its exit code and what it says."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, file: str | None = FILE) -> SimpleNamespace:
        if file is not None:
            Path("haproxy.cfg").write_text(file)
            arguments = ("haproxy.cfg", *arguments)
        capsys.readouterr()
        code = main(["doctor", *arguments, "--version", "3.2.26"])
        said = capsys.readouterr()
        return SimpleNamespace(code=code, out=said.out, err=said.err.splitlines())

    return run


def found(done: SimpleNamespace) -> list[dict]:
    return json.loads(done.out)["findings"]


# --- what is said ---


def test_the_text_has_the_table_the_line_its_span_the_cost_and_what_to_paste(run) -> None:
    lines = run().out.splitlines()
    assert lines[0].startswith("haproxy.cfg: for HAProxy 3.2.26")
    assert "in Docker (guessed by `127.0.0.11:53`" in lines[0]
    at = lines.index("app, DNS queries a second: 1")
    assert lines[at + 1].startswith("  recovery p95   ")
    assert "→" in lines[at + 1]
    assert lines[at + 2].startswith("  requests lost  ")
    at = next(n for n, line in enumerate(lines) if line.startswith("warning[hold-obsolete]"))
    assert lines[at] == f"warning[hold-obsolete] haproxy.cfg:{HOLD}:5"
    assert lines[at + 1] == f"  {HOLD} |     hold obsolete 10s  # copied"
    assert lines[at + 2] == "     |     ^^^^^^^^^^^^^^^^^"
    assert "9 to 10 s after the old address" in lines[at + 3]
    assert any(line.startswith("  costs: a move (app): recovery p95 ") for line in lines)
    assert f"  replace line {HOLD}:     hold obsolete 0s  # copied" in lines
    assert lines[-1].startswith("1 finding")


def test_a_good_file_has_nothing_to_say(run) -> None:
    done = run(file=GOOD)
    assert done.code == 0
    assert done.out.splitlines()[-1].startswith("nothing that costs users anything")
    assert "warning[" not in done.out


def test_a_file_without_servers_has_nothing_to_predict(run) -> None:
    lines = run(file="global\n    maxconn 100\n").out.splitlines()
    assert lines[1].startswith("no backend here has a server")


def test_json_is_as_it_is_promised(run) -> None:
    whole = json.loads(run("--format", "json").out)
    assert whole["format"] == 1
    (backend,) = whole["backends"]
    assert backend["name"] == "app"
    assert (backend["file"], backend["line"], backend["servers"]) == ("haproxy.cfg", 12, 1)
    assert set(backend["predicted"]) == {"move", "node_lost", "dns_trouble"}
    recovery = backend["predicted"]["move"]["recovery_s"]
    assert 9 < recovery["p50"] <= recovery["p95"] < 15
    assert recovery["never"] == 0
    assert backend["predicted_fixed"]["move"]["recovery_s"]["p95"] < 3
    assert backend["dns_queries_per_s"] == pytest.approx(1, abs=0.1)
    (finding,) = whole["findings"]
    assert finding["rule"] == "hold-obsolete"
    assert (finding["severity"], finding["confidence"]) == ("warning", "high")
    assert (finding["file"], finding["line"]) == ("haproxy.cfg", HOLD)
    assert (finding["column"], finding["end_column"]) == (5, 22)
    assert finding["facts"]["hold_ms"] == 10_000
    assert finding["cost"]["loss_s"] > 5
    (line,) = finding["remedy"]["lines"]
    assert line == {"file": "haproxy.cfg", "line": HOLD, "text": "    hold obsolete 0s  # copied"}


def test_json_has_no_numbers_that_are_none(run) -> None:
    fixed = FILE.replace(" resolvers docker resolve-prefer ipv4", "")
    whole = json.loads(run("--format", "json", file=fixed).out, parse_constant=pytest.fail)
    recovery = whole["backends"][0]["predicted"]["move"]["recovery_s"]
    assert recovery["p95"] is None
    assert recovery["never"] == 1


def test_what_has_no_prediction_says_why(run) -> None:
    odd = FILE.replace("check resolvers", "check frobnicate resolvers")
    predicted = json.loads(run("--format", "json", file=odd).out)["backends"][0]["predicted"]
    assert "frobnicate" in predicted["move"]["unknown"]


def test_sarif_has_what_github_wants(run) -> None:
    log = json.loads(run("--format", "sarif").out)
    assert log["version"] == "2.1.0"
    (one,) = log["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert [each["id"] for each in rules] == [each.id for each in rule.installed()]
    for each in rules:
        assert each["shortDescription"]["text"]
        assert each["fullDescription"]["text"]
        assert each["help"]["markdown"]
        assert each["defaultConfiguration"]["level"] in ("error", "warning", "note")
    (result,) = one["results"]
    assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == "hold-obsolete"
    place = result["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "haproxy.cfg"
    assert place["region"] == {"startLine": HOLD, "startColumn": 5, "endColumn": 22}


def test_sarif_leaves_out_what_is_ignored(run) -> None:
    ignored = FILE.replace("# copied", "# chaosd: ignore hold-obsolete DNS answers in parts")
    assert json.loads(run("--format", "sarif", file=ignored).out)["runs"][0]["results"] == []


def test_an_annotation_is_one_line_however_odd_the_file(run, tmp_path) -> None:
    odd = tmp_path / "a,b:c%.cfg"
    odd.write_text(FILE)
    (line,) = run(odd.name, "--format", "github", file=None).out.splitlines()
    head, _, message = line.removeprefix("::").partition("::")
    assert head == (
        f"warning file=a%2Cb%3Ac%25.cfg,line={HOLD},col=5,endColumn=21,"
        "title=chaosd doctor%3A hold-obsolete"
    )
    assert message.startswith("`hold obsolete 10 s`")
    assert message.endswith(f"%0Areplace line {HOLD}: hold obsolete 0s  # copied")


def test_the_page_stands_alone(run, tmp_path) -> None:
    assert run("--html", "out.html").code == 0
    page = (tmp_path / "out.html").read_text()
    assert "hold-obsolete" in page
    assert "<script" not in page
    assert "http://" not in page.partition("</style>")[2]
    assert "https://" not in page.partition("</style>")[2]
    assert run("--html", "out.html").err == ["chaosd: out.html: exists already (name a new file)"]


def test_passwords_are_not_shown(run) -> None:
    secret = FILE.replace("backend app\n", "backend app\n    stats auth admin:hunter2secret\n")
    secret = secret.replace("check resolvers docker", "check resolvers docker agent-send hunter2")
    for options in ((), ("--format", "json"), ("--format", "sarif"), ("--all",)):
        assert "hunter2" not in run(*options, file=secret.replace(" resolve-prefer ipv4", "")).out


# --- what is read ---


def test_several_files_are_one_configuration(run, tmp_path) -> None:
    (tmp_path / "a.cfg").write_text(DEFAULTS + BACKEND)
    (tmp_path / "b.cfg").write_text(RESOLVERS)
    (finding,) = found(run("a.cfg", "b.cfg", "--format", "json", file=None))
    assert (finding["rule"], finding["file"]) == ("hold-obsolete", "b.cfg")
    alone = found(run("a.cfg", "--format", "json", file=None))
    assert [each["rule"] for each in alone] == ["missing-resolvers"]


def test_a_directory(run, tmp_path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/1.cfg").write_text(DEFAULTS + BACKEND)
    (tmp_path / "conf.d/2.cfg").write_text(RESOLVERS)
    (tmp_path / "conf.d/3.cfg.bak").write_text("nonsense")
    (finding,) = found(run("conf.d", "--format", "json", file=None))
    assert finding["file"] == "conf.d/2.cfg"


def test_standard_input(run, monkeypatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(FILE.encode())))
    (finding,) = found(run("-", "--format", "json", file=None))
    assert (finding["rule"], finding["file"]) == ("hold-obsolete", "<stdin>")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"backend a\n{% for s in servers %}\n", ":2: a template: `{% for`"),
        (b"backend a\n  %{ for s in servers ~}\n", ":2: a template: `%{ for`"),
        (b"backend a\n  server {{ name }} x\n", ":2: a template: `{{ name }}`"),
        (b"\x7fELF\x02\x01\x01\0\0\0", ": can't be read: not text"),
        (b"name: demo\nruntime: local\nfaults:\n  - {type: noop}\n", ":1: this is no haproxy.cfg"),
        (b"defaults\n\xff\xfe\n", ": can't be read: not text: line 2 is not UTF-8"),
        (b"#" * (BYTES_MAX + 1), ": can't be read: it has more than 2 MB"),
        (None, ": can't be read: No such file or directory"),
    ],
    ids=["jinja", "terraform", "go", "binary", "yaml", "latin", "large", "missing"],
)
@pytest.mark.parametrize("by_stdin", [False, True], ids=["file", "stdin"])
def test_what_is_no_haproxy_cfg_is_one_line(run, tmp_path, monkeypatch, data, said, by_stdin):
    if by_stdin:
        if data is None:
            pytest.skip("standard input is there")
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
    elif data is not None:
        (tmp_path / "x.cfg").write_bytes(data)
    done = run("-" if by_stdin else "x.cfg", file=None)
    assert done.code == 2
    (line,) = done.err
    assert line.startswith("chaosd: <stdin>" if by_stdin else "chaosd: x.cfg")
    assert said in line
    assert done.out == ""


def test_a_line_that_haproxy_refuses_is_a_finding_beside_the_others(run) -> None:
    rules = [each["rule"] for each in found(run("--format", "json", file=FILE + "    a 'b\n"))]
    assert rules == ["refused", "hold-obsolete"]


def test_variables_come_from_a_file_or_are_said_to_be_missing(run, tmp_path) -> None:
    file = FILE.replace("obsolete 10s", 'obsolete "${HOLD}"')
    done = run(file=file)
    assert "`HOLD` has no value here (--env FILE gives one)" in done.out
    assert "hold-obsolete" not in done.out
    (tmp_path / "vars").write_text("HOLD=30s\n")
    assert "`hold obsolete 30 s`" in run("--env", "vars", file=file).out


@pytest.mark.parametrize(
    ("change", "setting"),
    [
        (("127.0.0.11", "10.1.1.1"), "plain"),
        (("127.0.0.11:53", "127.0.0.1:8600"), "consul"),
        (("127.0.0.11", "10.96.0.10"), "kubernetes"),
        (("nameserver dns1 127.0.0.11:53", "parse-resolv-conf"), "docker"),  # by its name
        (("", ""), "docker"),
    ],
)
def test_where_it_is_used_is_guessed_and_said(run, change, setting) -> None:
    file = FILE.replace(*change)
    assert json.loads(run("--format", "json", file=file).out)["setting"] == setting
    said = json.loads(run("--in", "consul", "--format", "json", file=file).out)
    assert said["setting"] == "consul"


def test_without_a_haproxy_it_is_the_newest(monkeypatch) -> None:
    monkeypatch.setattr(reading.builds, "at_hand", lambda: None)
    assert reading.program(None) == Program()


def test_the_version_of_this_machine(monkeypatch, tmp_path) -> None:
    script = tmp_path / "haproxy"
    script.write_text(
        "#!/bin/sh\necho 'HAProxy version 2.8.3-1 2023/09/07'\n"
        "echo 'Feature list : -51DEGREES +EPOLL'\n"
    )
    script.chmod(0o755)
    monkeypatch.setattr(reading.builds, "at_hand", lambda: str(script))
    found = reading.program(None)
    assert (found.version, found.from_machine) == ("2.8.3", True)
    assert found.features == {"EPOLL"}


def test_versions_side_by_side_say_what_changes(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "    default-server resolvers docker resolve-prefer ipv4\n    default-server check\n"
    file = DEFAULTS + lines + GOOD.removeprefix(DEFAULTS)
    Path("haproxy.cfg").write_text(
        file.replace(" check resolvers docker resolve-prefer ipv4", "").replace(
            "\n\n    def", "\n    def"
        )
    )
    assert main(["doctor", "haproxy.cfg", "--versions", "2.6.12,3.2.26"]) == 0
    out = capsys.readouterr().out
    assert "from HAProxy 2.6.12 to HAProxy 3.2.26: what changes (no number gets worse)" in out
    assert "gone: default-server-resets (haproxy.cfg:8)" in out
    assert "app: DNS queries a second 2 → 1" in out
    assert main(["doctor", "haproxy.cfg", "--versions", "2.6.12,3.2.26", "--format", "json"]) == 0
    whole = json.loads(capsys.readouterr().out)
    assert [each["version"] for each in whole["versions"]] == ["2.6.12", "3.2.26"]
    rates = [each["backends"][0]["dns_queries_per_s"] for each in whole["versions"]]
    assert rates[0] == pytest.approx(2 * rates[1], rel=0.01)
    assert whole["version"] == "3.2.26"


# --- comments ---


@pytest.mark.parametrize(
    "change",
    [
        ("# copied", "# chaosd: ignore hold-obsolete answers are partial"),
        ("    hold obs", "    # chaosd: ignore hold-obsolete partial\n    hold obs"),
        ("resolvers docker\n", "resolvers docker # chaosd: ignore hold-obsolete partial\n"),
        ("\nresolvers docker\n", "\n# chaosd: ignore hold-obsolete partial\n\nresolvers docker\n"),
    ],
    ids=["behind", "before", "header", "before header"],
)
def test_a_comment_ignores_a_finding(run, change) -> None:
    assert found(run("--format", "json", file=FILE.replace(*change, 1))) == []


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("hold-obsolete", "nothing of it here"),
        ("hold-obsolet why", "did you mean `hold-obsolete`?"),
        ("", "names no rule"),
    ],
)
def test_a_comment_that_applies_to_nothing_is_a_finding(run, comment, said) -> None:
    file = GOOD.replace("backend app\n", f"backend app # chaosd: ignore {comment}\n")
    (finding,) = found(run("--format", "json", file=file))
    assert finding["rule"] == "unused-ignore"
    assert said in finding["message"]


# --- the mended copy ---


def test_fix_writes_a_copy_and_only_the_mended_words_differ(run, tmp_path) -> None:
    assert run("--fix", "fixed.cfg").code == 0
    assert Path("haproxy.cfg").read_text() == FILE
    assert Path("fixed.cfg").read_text() == FILE.replace("obsolete 10s", "obsolete 0s")
    assert found(run("fixed.cfg", "--format", "json", file=None)) == []


def test_a_mended_copy_is_as_private_as_the_file(run) -> None:
    Path("haproxy.cfg").touch(mode=0o600)
    assert run("--fix", "fixed.cfg").code == 0
    assert stat.S_IMODE(Path("fixed.cfg").stat().st_mode) == 0o600


@pytest.mark.parametrize("out", ["haproxy.cfg", "link.cfg", "other.cfg"])
def test_fix_never_writes_over_a_file(run, tmp_path, out) -> None:
    Path("link.cfg").symlink_to("haproxy.cfg")
    Path("other.cfg").write_text("mine")
    done = run("--fix", out)
    assert (done.code, done.err) == (2, [f"chaosd: {out}: exists already (name a new file)"])
    assert Path("haproxy.cfg").read_text() == FILE
    assert Path("other.cfg").read_text() == "mine"


def test_fix_of_several_files_is_a_directory(run, tmp_path) -> None:
    (tmp_path / "a.cfg").write_text(DEFAULTS + BACKEND)
    (tmp_path / "b.cfg").write_text(RESOLVERS)
    assert run("a.cfg", "b.cfg", "--fix", "out", file=None).code == 0
    assert (tmp_path / "out/a.cfg").read_text() == DEFAULTS + BACKEND
    assert "obsolete 0s" in (tmp_path / "out/b.cfg").read_text()


# --- exit codes, rules ---


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ((), 0),
        (("--fail-on", "error"), 0),
        (("--fail-on", "warning"), 1),
        (("--fail-on", "info"), 1),
        (("--fail-on", "warning", "--format", "sarif"), 1),
    ],
)
def test_it_fails_only_if_it_is_told_to(run, options, code) -> None:
    assert run(*options).code == code
    assert run(*options, file=GOOD).code == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("doctor",), "name a FILE"),
        (("doctor", "x", "--version", "new"), "is no version"),
        (("doctor", "x", "--versions", "3.0"), "at least two"),
        (("doctor", "x", "--versions", "2.6,3.0", "--format", "sarif"), "goes with --format text"),
        (("doctor", "--explain", "hold-obsolet"), "did you mean `hold-obsolete`?"),
        (("doctor", "x", "--env", "nowhere"), "nowhere: can't be read"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, monkeypatch, capsys, arguments, said) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x").write_text(GOOD)
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_explain_and_the_list_of_rules(capsys) -> None:
    assert main(["doctor", "--explain", "hold-obsolete"]) == 0
    assert capsys.readouterr().out.startswith("# hold-obsolete\n")
    assert main(["doctor", "--rules"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rule.installed())


# --- what is shown, in what order ---


def test_findings_are_sorted_by_their_price(run) -> None:
    file = FILE.replace("    option redispatch 1\n", "").replace(" resolve-prefer ipv4", "")
    losses = [each["cost"]["loss_s"] for each in found(run("--format", "json", file=file))]
    assert len(losses) == 3
    assert losses == sorted(losses, reverse=True)


def test_the_price_is_the_difference_of_both_files(tmp_path) -> None:
    (tmp_path / "f.cfg").write_text(FILE)
    files = reading.open_files([tmp_path / "f.cfg"], {})
    model = Model()
    doctor = Doctor(
        program=Program("3.2.26"), setting=Setting.DOCKER, rules=rule.installed(), model=model
    )
    diagnosis = doctor.examine(files)
    (finding,), (row,) = diagnosis.findings, diagnosis.rows
    assert finding.cost is not None
    for toll in finding.cost.tolls:
        assert toll.failed_s.now == row.now[toll.happening].failed_s.mean
        assert toll.failed_s.fixed == row.fixed[toll.happening].failed_s.mean
    assert diagnosis.left == ()


def test_each_file_may_be_a_configuration_of_its_own(run, tmp_path) -> None:
    (tmp_path / "a.cfg").write_text(FILE)
    (tmp_path / "b.cfg").write_text(GOOD)
    done = run("b.cfg", "a.cfg", "--each", "--format", "github", "--fail-on", "warning", file=None)
    assert done.code == 1
    assert [line.partition(",")[0] for line in done.out.splitlines()] == ["::warning file=a.cfg"]
    assert run("b.cfg", "--each", "--format", "json", file=None).code == 2


def test_the_hook_and_the_action_are_commands_that_there_are() -> None:
    root = Path(__file__).parents[2]
    (hook,) = yaml.safe_load((root / ".pre-commit-hooks.yaml").read_text())
    assert parser().parse_args([*hook["entry"].split()[1:], "a.cfg", "b.cfg"]).each
    action = yaml.safe_load((root / "action.yml").read_text())
    command = action["runs"]["steps"][-1]["run"]
    for option in ("--format github", "--version", "--fail-on"):
        assert option in command
    assert set(action["inputs"]) == {"files", "version", "fail-on", "args"}
