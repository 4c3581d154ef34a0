"""`chaosd report`: the report of a run directory, made again from its files."""

from __future__ import annotations

import argparse
from pathlib import Path

from chaosd.cli import sweep
from chaosd.cli.output import say
from chaosd.errors import ConfigError, MachineError

HELP = "analyse a run directory again and render its report"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN_DIR")
    parser.add_argument("--json", action="store_true", help="print report.json instead of the text")


def run(arguments: argparse.Namespace) -> int:
    from chaosd import report

    try:
        exists = arguments.run.is_dir()
    except OSError as error:  # as where its parent may not be searched
        raise ConfigError(f"{arguments.run}: can't be read: {error.strerror or error}") from error
    if not exists:
        raise ConfigError(f"{arguments.run}: there is no such directory (such as runs/latest)")
    if sweep.is_sweep(arguments.run):
        return sweep.answer_again(arguments.run, as_json=arguments.json)
    found = report.analyse(arguments.run)
    unwritten: MachineError | None = None
    try:
        report.save(found, arguments.run)
    except MachineError as error:  # the text can be printed all the same
        unwritten = error
    if arguments.json:
        say(report.as_json(found.report, arguments.run).rstrip())
    else:
        where = None if unwritten else arguments.run
        say(*report.closing_lines(found.report, where, report.side_by_side(found.report)))
    if unwritten is not None:
        raise unwritten
    return report.exit_code(found.report)
