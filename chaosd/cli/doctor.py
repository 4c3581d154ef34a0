"""`chaosd doctor`: what in a haproxy.cfg hurts its users, by how much, and what to write."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chaosd.cli.output import say
from chaosd.errors import ConfigError, Exit, MachineError

if TYPE_CHECKING:
    from chaosd.doctor.examine import Diagnosis
    from chaosd.doctor.rule import Rule

HELP = "say what in a haproxy.cfg hurts its users, by how much, and what to write instead"
FORMATS = ("text", "json", "sarif", "github")
SETTINGS = ("docker", "kubernetes", "consul", "plain")
SEVERITIES = ("info", "warning", "error")
COLUMNS_MIN, COLUMNS_MAX = 40, 100  # of a line of sentences


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="a file, several files of one configuration in their -f order, a directory, "
        "or - for standard input; they are never changed",
    )
    parser.add_argument(
        "--each", action="store_true", help="each FILE is a configuration of its own"
    )
    versions = parser.add_mutually_exclusive_group()
    versions.add_argument(
        "--version", metavar="VERSION", help="of HAProxy, as 2.6.12 or 3.0 (default: haproxy -v)"
    )
    versions.add_argument(
        "--versions", metavar="A,B", help="several, side by side: is this upgrade safe?"
    )
    parser.add_argument("--in", dest="setting", choices=SETTINGS, help="what looks after the names")
    parser.add_argument("--env", type=Path, metavar="FILE", help="NAME=value lines: its variables")
    parser.add_argument("--all", action="store_true", help="say what costs nothing, too")
    parser.add_argument("--explain", metavar="RULE", help="print the page of a rule")
    parser.add_argument("--rules", action="store_true", help="list the rules")
    parser.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a mended copy: a new file, or a directory"
    )
    parser.add_argument("--format", choices=FORMATS, default="text")
    parser.add_argument(
        "--fail-on", choices=SEVERITIES, metavar="SEVERITY", help="exit 1 for a finding like this"
    )
    parser.add_argument(
        "--prove",
        action="store_true",
        help="run the file and the mended one side by side on real HAProxy, and put what is "
        "measured beside what was predicted",
    )
    parser.add_argument(
        "--cycles", type=int, default=20, metavar="N", help="of each proof (default 20)"
    )
    parser.add_argument("--html", type=Path, metavar="FILE", help="write a page that can be mailed")


def run(arguments: argparse.Namespace) -> int:
    from chaosd.doctor import rule

    if arguments.explain is not None:
        try:
            say(rule.find(arguments.explain).page().rstrip())
        except LookupError as error:
            raise ConfigError(f"--explain: {error}") from None
        return Exit.OK
    rules = rule.installed()
    if arguments.rules:
        width = max(len(each.id) for each in rules)
        say(*(f"{each.severity:8} {each.id.ljust(width)}  {each.title}" for each in rules))
        return Exit.OK
    if not arguments.files:
        raise ConfigError("name a FILE (chaosd doctor /etc/haproxy/haproxy.cfg), or - for stdin")
    _refuse(arguments)
    if not arguments.each:
        return _examine(arguments, rules)
    if arguments.format not in ("text", "github") or any(
        (arguments.fix, arguments.html, arguments.prove)
    ):
        what = "--each goes with --format text or github, and without --fix, --html and --prove"
        raise ConfigError(what)
    alone = ({**vars(arguments), "files": [file]} for file in arguments.files)
    return max(_examine(argparse.Namespace(**each), rules) for each in alone)


def _examine(arguments: argparse.Namespace, rules: list[Rule]) -> int:
    from chaosd.doctor import reading
    from chaosd.doctor.examine import Doctor, is_failed
    from chaosd.doctor.finding import Severity
    from chaosd.doctor.price import Model
    from chaosd.doctor.setting import Setting

    environment = {**os.environ, **reading.environment(arguments.env)}
    files = reading.open_files(arguments.files, environment)
    setting = None if arguments.setting is None else Setting(arguments.setting)
    model = Model()
    diagnoses = [
        Doctor(program=reading.program(version), setting=setting, rules=rules, model=model).examine(
            files
        )
        for version in _versions(arguments)
    ]
    _say(diagnoses, rules, arguments)
    if arguments.html is not None:
        from chaosd.doctor.formats import page

        _write(arguments.html, page.render(diagnoses, everything=arguments.all))
    if arguments.fix is not None:
        _fix(diagnoses[-1], arguments.fix)
    if arguments.prove:
        from chaosd.cli.proving import prove

        prove(files, diagnoses, cycles=arguments.cycles, env=arguments.env)
    failed = arguments.fail_on is not None and is_failed(diagnoses, Severity(arguments.fail_on))
    return Exit.FAIL if failed else Exit.OK


def _refuse(arguments: argparse.Namespace) -> None:
    """What does not go together."""
    if arguments.prove and arguments.format != "text":
        raise ConfigError("--prove goes with --format text")
    if arguments.versions is not None and arguments.format not in ("text", "json"):
        raise ConfigError("--versions goes with --format text or json")
    if arguments.cycles < 1:
        raise ConfigError("--cycles: at least 1")


def _versions(arguments: argparse.Namespace) -> list[str | None]:
    if arguments.versions is None:
        return [arguments.version]
    names = [name.strip() for name in arguments.versions.split(",") if name.strip()]
    if len(names) < 2:  # noqa: PLR2004
        raise ConfigError("--versions: name at least two, as 2.6,3.0")
    return [*names]


def _say(diagnoses: list[Diagnosis], rules: list[Rule], arguments: argparse.Namespace) -> None:
    everything = arguments.all
    if arguments.format == "json":
        from chaosd.doctor.formats import json

        say(json.render(diagnoses, everything=everything))
    elif arguments.format == "sarif":
        from chaosd.doctor.formats import sarif

        say(sarif.render(diagnoses[-1], rules, everything=everything))
    elif arguments.format == "github":
        from chaosd.doctor.formats import github

        for line in github.render(diagnoses[-1], everything=everything):
            say(line)
    else:
        from chaosd.doctor.formats import text

        lines = text.render_all(diagnoses, everything=everything)
        if sys.stdout.isatty():
            columns = shutil.get_terminal_size().columns
            lines = text.folded(lines, max(COLUMNS_MIN, min(COLUMNS_MAX, columns)))
        say(*lines)


# --- what is written -----------------------------------------------------------------------------


def _fix(diagnosis: Diagnosis, out: Path) -> None:
    """Write the mended copies: never over a file that is there."""
    sources = diagnosis.mended.sources
    if len(sources) == 1 and not out.is_dir():
        targets = [out]
    else:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MachineError(f"{out}: can't be made: {error.strerror}") from None
        targets = [out / source.path.name.strip("<>") for source in sources]
        if len(set(targets)) < len(targets):
            raise ConfigError(f"--fix {out}: several of the files have one name")
    for source, target in zip(sources, targets, strict=True):
        _write(target, source.text, like=source.path)


def _write(path: Path, text: str, *, like: Path | None = None) -> None:
    """Make this file. What is made of another one may be read by nobody who may not read that."""
    mode = 0o666
    if like is not None:
        with suppress(OSError):  # standard input is none
            mode &= like.stat().st_mode
    try:
        with open(
            path, "x", encoding="utf-8", newline="", opener=partial(os.open, mode=mode)
        ) as stream:
            stream.write(text)
    except FileExistsError:
        raise ConfigError(f"{path}: exists already (name a new file)") from None
    except OSError as error:
        raise MachineError(f"{path}: can't be written: {error.strerror or error}") from None
