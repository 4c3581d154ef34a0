"""What the user types, and how every ending is said: one line and an exit code.

Each command is a file of its own with `HELP`, `add_options` and `run`. It imports what is heavy
inside `run`, so that no command waits for the libraries of another.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from chaosd.cli import (
    calibrate,
    check,
    clean,
    compare,
    demo,
    doctor,
    haproxy,
    images,
    init,
    limits,
    output,
    plugins,
    report,
    run,
    schema,
    sweep,
    version,
)
from chaosd.errors import ChaosdError, Exit
from chaosd.system import stops

EPILOG = """\
  chaosd demo                               real failovers in a minute or two, nothing to prepare
  chaosd doctor /etc/haproxy/haproxy.cfg    what in your file hurts users, and what to write instead
  chaosd run --haproxy FILE                 20 failovers of your own file, and a report
  chaosd check configs/demo.yaml            what would run, the proxy's config, the prediction
  chaosd run configs/demo.yaml --cycles 10  run it; without --cycles until Ctrl-C
  chaosd sweep configs/lab.yaml             which settings and version are best, with the lines
  chaosd report runs/latest                 the same report again, from the files alone
  chaosd compare baseline.json runs/latest  better, worse, the same, or unknown

exit codes: 0 ok, 1 verdict fail, 2 config or usage, 3 machine, 4 verdict unknown, 70 bug
"""


class Command(Protocol):
    """What the file of a command has."""

    HELP: str

    def add_options(self, parser: argparse.ArgumentParser, /) -> None: ...

    def run(self, arguments: argparse.Namespace, /) -> int:
        """Do it and return the exit code; raise a ChaosdError where it can't be done."""
        ...


# In the order in which `chaosd --help` lists them.
COMMANDS: dict[str, Command] = {
    "demo": demo,
    "init": init,
    "doctor": doctor,
    "check": check,
    "run": run,
    "report": report,
    "compare": compare,
    "sweep": sweep,
    "calibrate": calibrate,
    "clean": clean,
    "haproxy": haproxy,
    "images": images,
    "plugins": plugins,
    "schema": schema,
    "version": version,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    output.open_missing_streams()
    output.escape_unknown_letters()
    if argv is None:  # it is the whole program
        stops.heed()
    arguments = parser().parse_args(argv)
    command: Command = arguments.command
    try:
        limits.check()
        return command.run(arguments)
    except ChaosdError as error:
        for problem in error.problems:
            output.complain(problem)
        return error.exit_code
    except KeyboardInterrupt as interrupt:
        return stops.exit_code(interrupt)
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _bug(error)


def parser() -> argparse.ArgumentParser:
    top = output.Parser(
        prog="chaosd",
        description="Measures how long HAProxy takes to find a backend whose IP has changed, "
        "and what users see meanwhile.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)
    for name, command in COMMANDS.items():
        text = command.HELP
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.add_options(added)
        added.set_defaults(command=command)
    return top


def _bug(error: Exception) -> int:
    import traceback

    if os.environ.get("CHAOSD_TRACEBACK"):
        traceback.print_exc()
    if (shortage := limits.shortage(error)) is not None:
        output.complain(shortage)
        return Exit.SETUP
    what = " ".join(f"{type(error).__name__}: {error}".split())
    where = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(where.filename).is_relative_to(Path(__file__).parents[1])
    whose = "chaosd: please report it" if ours else "a plugin or a library: look or report it there"
    output.complain(
        f"{what} at {Path(where.filename).name}:{where.lineno} (this is a bug in {whose}, "
        "with what CHAOSD_TRACEBACK=1 adds)"
    )
    return Exit.BUG
