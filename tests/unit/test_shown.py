"""Nothing hidden is printed as it is, and no secret is printed at all."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import fake
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from chaosd import cli, shown
from chaosd.cli import output
from chaosd.config import shape, yamlfile
from chaosd.config.shape import Config
from chaosd.errors import ConfigError
from chaosd.history.cycles import CycleOutcome
from chaosd.live.console import Console
from chaosd.report import document, junit, sections
from chaosd.report import html as page
from chaosd.report import json as report_json
from chaosd.report.json import render as as_json
from chaosd.system.processes import OutputFile

# A screen cleared, a line written over, text turned round, a line that is none, a hidden mark.
HOSTILE = "a\x1b[2J\rb\u202ec\u2028d\u200be\x85f\x07\U000e0001g"
HIDDEN = [char for char in HOSTILE if not char.isprintable()]
NAMES = (*"abcdefg", "[2J")


@pytest.fixture(autouse=True)
def _forgotten() -> Iterator[None]:
    yield
    shown.forget()


def is_plain(text: str) -> bool:
    return not any(char in text for char in HIDDEN)


@given(st.text())
def test_a_line_stays_one_line_and_hides_nothing(text: str) -> None:
    line = shown.one_line(text)
    assert len(line.splitlines()) <= 1
    assert shown.one_line(line) == line
    assert shown.printable(text).count("\n") == text.count("\n")
    if text.isprintable():
        assert line == text


def test_letters_of_all_languages_stay() -> None:
    text = "Zürich 東京 עברית ± – … 12 % e\u0301 👍"
    assert shown.one_line(text) == shown.printable(text) == text


# --- every printer ---


def test_errors_and_output_of_commands(capsys: pytest.CaptureFixture[str]) -> None:
    output.complain(f"{HOSTILE}\nchaosd: all is well")
    output.say(HOSTILE, "second")
    captured = capsys.readouterr()
    assert is_plain(captured.err)
    assert captured.err.count("\n") == 1
    assert is_plain(captured.out)
    assert captured.out.count("\n") == 2
    assert all(name in captured.out for name in NAMES)


def test_the_command_line_itself(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["check", "x.yaml", f"--{HOSTILE}\nchaosd: ok"])
    said = capsys.readouterr().err
    assert is_plain(said)
    assert not [line for line in said.splitlines() if line.startswith("chaosd: ok")]


def test_a_file_with_such_a_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", str(tmp_path / f"{HOSTILE}\nchaosd: ok.yaml")]) == 2
    said = capsys.readouterr().err
    assert is_plain(said)
    assert said.count("\n") == 1
    path = tmp_path / "x\u202e.yaml"
    path.write_text("name: x\nnope: 1\n")
    assert cli.main(["check", str(path)]) == 2
    assert "x\\u202e.yaml:2: nope: unknown key" in capsys.readouterr().err


def test_the_console() -> None:
    stream = io.StringIO()
    console = Console(stream)
    console.say(f"removed what a dead run left behind: {HOSTILE}\nchaosd: ok")
    console.cycle(fake.cycle(fault=HOSTILE, outcome=CycleOutcome.UNAFFECTED))
    assert is_plain(stream.getvalue())
    assert stream.getvalue().count("\n") == 2


def test_a_childs_output_in_its_file(tmp_path: Path) -> None:
    from logging import makeLogRecord

    shown.know(["hunter2"])
    file = OutputFile(tmp_path / "x.log")
    file.emit(makeLogRecord({"msg": f"{HOSTILE} hunter2 %s"}))
    file.close()
    text = (tmp_path / "x.log").read_text()
    assert is_plain(text)
    assert "hunter2" not in text
    assert text.endswith("%s\n")


def hostile_report():
    from chaosd.analysis.summary import summarise

    manifest = {"name": HOSTILE, "reason": HOSTILE, "exit": 3, "runtime": HOSTILE, "settings": {}}
    cycles = [fake.cycle(fault=HOSTILE, cell="c1")]
    return summarise(HOSTILE, manifest, cycles, [], {}), cycles


def test_every_report() -> None:
    report, cycles = hostile_report()
    from chaosd.analysis.heat import HeatFold
    from chaosd.report import markdown, text

    texts = {f"c1/{HOSTILE}.cfg": HOSTILE}
    flight = page.Flight(
        cycles[0], [], {"log": [HOSTILE], "samples": {"1": [[0, 1, HOSTILE, 0, HOSTILE]]}}
    )
    heat = HeatFold(cycles, [], {}, 0).heat()
    as_markdown = markdown.render(report, texts)
    as_html = page.render(report, cycles, {"": heat}, [flight], texts)
    for rendered in (as_markdown, as_html, as_json(report, {HOSTILE: HOSTILE})):
        assert is_plain(rendered)
    xml = junit.render(report)
    assert is_plain(xml)
    ET.fromstring(xml)
    said = json.loads(as_json(report, {"x": HOSTILE}))
    assert said["config"]["x"] == HOSTILE, "for programs it is what it was"
    assert report_json.VERSION == 1
    for line in text.closing_lines(report, None):
        assert is_plain(shown.line(line))
    assert sections.facts(report)


def test_markdown_and_html_stay_text() -> None:
    said = document.line("<script>alert(1)</script> [x](javascript:1)")
    blocks = [document.Paragraph(said), document.Code("```\n<b>")]
    assert "<script>" not in document.to_markdown(blocks)
    assert r"x\](javascript" in document.to_markdown(blocks)
    assert "<script>" not in document.to_html(blocks)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_yaml_with_hidden_characters_reads_back(text: str) -> None:
    written = yamlfile.write({"a": text, "b": [text]})
    assert shown.printable(written) == written
    assert yaml.safe_load(written) == {"a": text, "b": [text]}


# --- secrets ---

SECRETS = {
    "app": {
        "env": {"DB_PASSWORD": "hunter2", "GREETING": "hello"},
        "command": ["srv", "--token", "t0k3n", "--db=postgres://me:p4ss@db/x", "API_KEY=k3y"],
    },
    "probes": [{"type": "httpx", "auth": {"username": "me", "password": "w0rd"}}],
    "arms": [{"name": "b", "app.env.DB_PASSWORD": "other1", "app.env": {"X": "other2"}}],
    "headers": {"Authorization": "Basic Zm9v", "Accept": "*/*", "X-Api-Key": "abc1"},
    "url": "http://u:pw9@h/?token=q9&page=2",
}
HIDDEN_VALUES = [
    *("hunter2", "hello", "t0k3n", "p4ss", "k3y", "w0rd", "other1", "other2", "Zm9v", "abc1"),
    *("pw9", "q9"),
]


def test_what_looks_like_a_secret_is_masked_and_nothing_else() -> None:
    masked = json.dumps(shown.mask_tree(SECRETS))
    for value in HIDDEN_VALUES:
        assert value not in masked, value
    for kept in ("srv", "postgres://me:(not shown)@db/x", '"username": "me"', "*/*", "page=2"):
        assert kept in masked, kept
    found = [value for _, value in shown.secrets_of(SECRETS)]
    for value in HIDDEN_VALUES:
        assert any(value in secret for secret in found), value
    assert len(found) == len(HIDDEN_VALUES)


def test_masking_twice_is_masking_once() -> None:
    once = shown.mask_tree(SECRETS)
    assert shown.mask_tree(once) == once
    assert not list(shown.secrets_of(once))


def test_no_key_of_the_config_is_taken_for_a_secret() -> None:
    config = Config(name="x")
    assert list(shown.secrets_of(config.model_dump(mode="json"))) == []
    names: set[str] = set()

    def walk(node: object) -> None:
        if isinstance(node, dict):
            names.update(node.get("properties", {}))
            for each in node.values():
                walk(each)
        elif isinstance(node, list):
            for each in node:
                walk(each)

    walk(shape.schema())
    assert {name for name in names if shown.is_secret_name(name)} == {"auth", "password"}


def test_a_secret_that_is_known_is_shown_nowhere(capsys: pytest.CaptureFixture[str]) -> None:
    shown.know(["hunter2", "admin", "two\nliness", "a+b(cc"])
    output.complain("app died: connect: password hunter2, a+b(cc and liness")
    output.say("hunter2hunter2 hunter2 admin")
    captured = capsys.readouterr()
    assert captured.err.endswith("password (not shown), (not shown) and (not shown)\n")
    # One of few letters would hide half of every sentence; a part of a word is none.
    assert captured.out == "hunter2hunter2 (not shown) admin\n"
    assert document.to_markdown([document.paragraph("hunter2")]) == "(not shown)\n\n"[:-1]
    assert "hunter2" not in document.to_html([document.Code("x hunter2")])


def test_a_secret_beside_ones_own_files_is_known_too() -> None:
    """`chaosd run --haproxy FILE --set app.env.DB_PASSWORD=…` has no config file."""
    shape.of_text('{"name": "a"}', Path("own.cfg"), ["app.env.DB_PASSWORD=correct-horse-9"])
    assert shown.line("it said correct-horse-9 again") == f"it said {shown.MASK} again"


def test_the_fingerprint_tells_secrets_apart_and_says_nothing() -> None:
    one, other = [("app.env.A", "hunter2")], [("app.env.A", "hunter3")]
    assert shown.fingerprint(one) == shown.fingerprint(list(one))
    assert shown.fingerprint(one) != shown.fingerprint(other)
    assert shown.fingerprint(one) != shown.fingerprint([("app.env.B", "hunter2")])
    assert shown.fingerprint([]) is None
    assert sys.getsizeof(shown.fingerprint(one)) < 100


def test_errors_do_not_say_what_was_typed(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("name: x\napp: {env: {TOKEN: s3cr3t9}, start_delay: s3cr3t9}\nnope: s3cr3t9\n")
    with pytest.raises(ConfigError) as raised:
        shape.load(path, ["app.env.PASSWORD=hunter2: [", "app.ready_timeout=1"])
    said = "\n".join(map(shown.line, raised.value.problems))
    assert "hunter2" not in said
    assert "s3cr3t9" not in said
    assert "--set app.env.PASSWORD=(not shown)" in said


@pytest.mark.parametrize(
    ("path", "value", "telling"),
    [
        (".app.env.DB_PASSWORD", "hunter2", True),
        (".app.env.MODE", "production", False),
        (".app.env.HOST", "127.0.0.1", False),
        (".app.env.X", "AKIA4Xk29s8f7d6g5h4j", True),
        (".app.env.DB", "postgres://a:b@c/d", True),
        (".app.env.NAME", "app.internal", False),
    ],
)
def test_only_what_is_recognised_as_a_secret_is_sought_elsewhere(path, value, telling) -> None:
    assert shown.is_telling(path, value) == telling
