"""The documents, as a test: commands parse, config paths exist, lines are short."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from chaosd import cli
from chaosd.config import shape

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]
ALL_DOCUMENTS = [*DOCUMENTS, ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/decisions/*.md"))]
LINE_MAX = 120

COMMAND = re.compile(r"(?:\$ )?(chaosd (?![:(]).*)")
SHELL = re.compile(r"\s(?:[>|;]|&&)\s.*")  # what follows is not the command's
SPAN = re.compile(r"`([^`\n]+)`")
CONFIG_PATH = re.compile(r"([a-z_]+(?:\.[a-z0-9_]+)+)(?=$|[:= ])")
FILES = (".py", ".md", ".json", ".jsonl", ".yaml", ".html", ".xml", ".cfg", ".so")


class Line(NamedTuple):
    """A line of a document, and whether it is in a block of code."""

    number: int
    text: str
    code: bool


def lines_of(text: str) -> Iterator[Line]:
    """Fenced blocks are code, and so is what is indented by four after an empty line."""
    fenced = code = False
    empty = True
    for number, line in enumerate(text.splitlines(), start=1):
        fence = line.lstrip().startswith("```")
        fenced ^= fence
        if line.strip():
            code = line.startswith("    ") and (empty or code)
        empty = not line.strip()
        yield Line(number, line, code=fenced or fence or code)


def commands_of(text: str) -> Iterator[tuple[int, list[str]]]:
    """The arguments of each command line `chaosd …` in a block of code, with its line."""
    begun = ""
    for number, line, code in lines_of(text):
        joined, begun = begun + line.strip(), ""
        found = COMMAND.fullmatch(joined) if code else None
        if found is None:
            continue
        if joined.endswith("\\"):
            begun = joined.removesuffix("\\")
            continue
        yield number, shlex.split(SHELL.sub("", found[1]), comments=True)[1:]


def parse_error(arguments: list[str]) -> str | None:
    """What chaosd's own parser has against these arguments; None if it takes them."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.parser().parse_args(arguments)
    except SystemExit as error:
        return said.getvalue().strip().splitlines()[-1] if error.code else None
    return None


def command_names_of(text: str) -> Iterator[tuple[int, str]]:
    """The command's name in each `chaosd …` in backticks, with its line."""
    for number, line, _ in lines_of(text):
        for span in SPAN.findall(line):
            if (found := re.match(r"chaosd ([a-z]+)", span)) is not None:
                yield number, found[1]


@cache
def schema() -> dict[str, Any]:
    """The config's JSON Schema, with the parts of all installed plugins."""
    return shape.schema()


def config_paths_of(text: str) -> Iterator[tuple[int, str]]:
    """Each `a.b.c` in backticks, and each --set a.b.c=…, that begins with a key of the config."""
    keys = schema()["properties"].keys()
    for number, line, _ in lines_of(text):
        for span in [*SPAN.findall(line), *re.findall(r"--set (\S+=\S+)", line)]:
            found = CONFIG_PATH.match(span)
            if found and found[1].split(".")[0] in keys and not found[1].endswith(FILES):
                yield number, found[1]


def is_in_schema(path: str) -> bool:
    """Whether the config has this path."""

    def choices(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            node = schema()["$defs"][node["$ref"].rpartition("/")[2]] | node
        yield node
        for kind in ("anyOf", "oneOf", "allOf"):
            for choice in node.get(kind, ()):
                yield from choices(choice)

    def children(node: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
        for choice in choices(node):
            if key in choice.get("properties", {}):
                yield choice["properties"][key]
            if key.isdecimal() and isinstance(choice.get("items"), dict):
                yield choice["items"]
            if isinstance(choice.get("additionalProperties"), dict):
                yield choice["additionalProperties"]

    nodes = [schema()]
    for key in path.split("."):
        nodes = [child for node in nodes for child in children(node, key)]
    return bool(nodes)


def test_commands_parse() -> None:
    wrong = []
    for document in DOCUMENTS:
        for number, arguments in commands_of(document.read_text()):
            if (error := parse_error(arguments)) is not None:
                wrong.append(f"{document.name}:{number}: chaosd {' '.join(arguments)}: {error}")
    assert not wrong


def test_commands_in_sentences_exist() -> None:
    wrong = [
        f"{document.name}:{number}: chaosd {name}"
        for document in ALL_DOCUMENTS
        for number, name in command_names_of(document.read_text())
        if name not in cli.COMMANDS
    ]
    assert not wrong


def test_there_are_commands_and_paths_to_look_at() -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    assert len(list(commands_of(text))) > 20
    assert len(list(config_paths_of(text))) > 40


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("chaosd run c.yaml --cycles 3  # a comment", None),
        ("$ chaosd schema > chaosd.schema.json", None),
        ("chaosd compare runs/a-2026… runs/latest --arm ours:faster", None),
        ("chaosd run c.yaml --cycle-count 3", "unrecognized arguments: --cycle-count 3"),
        ("chaosd sing", "invalid choice: 'sing'"),
    ],
    ids=["comment", "redirected", "several paths", "unknown option", "unknown command"],
)
def test_the_parser_of_commands(line, said) -> None:
    ((_, arguments),) = commands_of(f"Text\n\n    {line}\n")
    error = parse_error(arguments)
    assert (error is None) if said is None else said in (error or "")


def test_config_paths_exist() -> None:
    wrong = []
    for document in DOCUMENTS:
        for number, path in config_paths_of(document.read_text()):
            if not is_in_schema(path):
                wrong.append(f"{document.name}:{number}: {path}")
    assert not wrong


@pytest.mark.parametrize(
    ("path", "there"),
    [
        ("proxy.resolvers.hold.obsolete", True),
        ("faults.0.old_ip", True),
        ("runtime.engine_wait", True),
        ("slo.faults.recreate.misrouted", True),
        ("proxy.resolvers.timeout_resolv", False),
        ("runtime.wait", False),
    ],
)
def test_the_reader_of_config_paths(path, there) -> None:
    assert is_in_schema(path) == there


def test_no_line_is_too_long() -> None:
    """Tables and blocks of code may be wider; a link counts by its words."""
    wrong = []
    for document in ALL_DOCUMENTS:
        for number, line, code in lines_of(document.read_text()):
            shown = re.sub(r"\]\([^)]*\)", "]", line)
            if not code and not line.startswith("|") and len(shown) > LINE_MAX:
                wrong.append(f"{document.name}:{number}: {len(shown)} characters")
    assert not wrong


@pytest.mark.parametrize("name", ["README.md", "docs/doctor.md"])
def test_what_doctor_is_shown_to_say_it_says(name, capsys, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)
    assert cli.main(["doctor", "haproxy/shop.cfg", "--version", "3.2.26"]) == 0
    said = capsys.readouterr().out.splitlines()
    shown = [line.text[4:] for line in lines_of((ROOT / name).read_text()) if line.code]
    first = next(n for n, line in enumerate(shown) if "a lost node" in line)
    last = next(n for n, line in enumerate(shown) if line.startswith("  replace line 10:"))
    excerpt = [line for line in shown[first : last + 1] if line.strip() not in ("", "…")]
    assert len(excerpt) > 8
    for line in excerpt:
        start = line.removesuffix(" …")
        assert any(each.startswith(start) for each in said), line
