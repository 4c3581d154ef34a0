"""What the user types, and how every ending is said: one line and an exit code."""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from chaosd import __version__, plugins
from chaosd.config.units import Percent
from chaosd.errors import ChaosdError, ConfigError, Exit, MachineError, unsaid
from chaosd.plugins.runtime import CanBeAway

EPILOG = """\
  chaosd check configs/demo.yaml            what would run, the rendered haproxy.cfg, the prediction
  chaosd run configs/demo.yaml --cycles 10  run it; without --cycles until Ctrl-C
  chaosd report runs/latest                 the same report again, from the files alone
  chaosd compare baseline.json runs/latest  better, worse, the same, or unknown

exit codes: 0 ok, 1 verdict fail, 2 config or usage, 3 machine, 4 verdict unknown, 70 bug
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    _open_all()
    _spell_out()
    arguments = parser().parse_args(argv)
    try:
        code: int = arguments.command(arguments)
    except ChaosdError as error:
        for problem in error.problems:
            _complain(problem)
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:  # noqa: BLE001 - the last line of defence
        return _bug(error)
    return code


def _open_all() -> None:
    """What was closed is /dev/null: otherwise the next file that is opened would get its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            mode = "w" if number else "r"
            stream = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 - it stays open
            os.set_inheritable(stream.fileno(), stream.fileno() == number)
            setattr(sys, name, stream)


def _spell_out() -> None:
    """Have letters that the locale lacks written by their numbers: a `?` is an unknown bound."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _print(*texts: str) -> None:
    """Print, also if nobody reads any more, as in `chaosd … | head`: the exit code still counts."""
    try:
        print("\n".join(texts), flush=True)
    except BrokenPipeError:
        _nowhere(sys.stdout)
    except OSError as error:
        _nowhere(sys.stdout)
        raise unsaid(error) from error


def _complain(problem: str) -> None:
    try:
        print(f"chaosd: {problem}", file=sys.stderr, flush=True)
    except OSError:  # the exit code says it, too
        _nowhere(sys.stderr)


def _nowhere(stream: TextIO) -> None:
    """Let Python find no fault with a stream when it ends: it has an exit code of its own then."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _bug(error: Exception) -> int:
    if os.environ.get("CHAOSD_TRACEBACK"):
        traceback.print_exc()
    what = " ".join(f"{type(error).__name__}: {error}".split())
    where = traceback.extract_tb(error.__traceback__)[-1]
    ours = Path(where.filename).is_relative_to(Path(__file__).parents[1])
    whose = "chaosd: please report it" if ours else "a plugin or a library: look or report it there"
    _complain(
        f"{what} at {Path(where.filename).name}:{where.lineno} (this is a bug in {whose}, "
        "with what CHAOSD_TRACEBACK=1 adds)"
    )
    return Exit.BUG


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="chaosd",
        description="Measures how long HAProxy takes to find a backend whose IP has changed, "
        "and what users see meanwhile.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, work: Callable[[Any], int], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        added.set_defaults(command=work)
        return added

    def with_config(added: argparse.ArgumentParser) -> None:
        added.add_argument("config", type=Path, metavar="CONFIG")
        added.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="PATH=VALUE",
            help="override one value, e.g. --set proxy.resolvers.timeout_resolve=200ms or "
            "--set faults.0.every=9s; may be repeated",
        )
        added.add_argument("--seed", type=int, help="repeat the schedule of an earlier run")
        added.add_argument(
            "--cycles", type=int, metavar="N", help="stop after N cycles in each cell"
        )
        added.add_argument(
            "--for", dest="time", metavar="TIME", help="stop after a while, e.g. 10m"
        )

    checked = command("check", _check, "show what would run and is predicted; leave nothing behind")
    with_config(checked)
    checked.add_argument("-q", "--quiet", action="store_true", help="only say whether it is right")
    run = command("run", _run, "run the daemon until it is stopped or has done enough")
    with_config(run)
    report = command("report", _report, "analyse a run directory again and render its report")
    report.add_argument("run", type=Path, metavar="RUN_DIR")
    report.add_argument("--json", action="store_true", help="print report.json instead of the text")
    _compare_options(
        command("compare", _compare, "say whether RUN_B got better or worse than RUN_A")
    )
    _calibrate_options(
        command("calibrate", _calibrate, "measure known outages and say how wrong the meter is")
    )
    command("clean", _clean, "remove whatever dead runs of chaosd left behind, and nothing else")
    _images_options(
        command(
            "images",
            _images,
            "make the images that `runtime: docker` needs, by a registry or without",
        )
    )
    command("plugins", _plugins, "list the runtimes, proxies, faults and probes that are installed")
    command("schema", _schema, "print the config's JSON Schema, for editors")
    command("version", _version, "print the version")
    return top


def _images_options(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "haproxy", nargs="*", metavar="VERSION", help="HAProxy 2.2, 2.6, 3.0 or 3.2 (default: 3.0)"
    )
    added.add_argument("--nginx", action="store_true", help="nginx, and no HAProxy but those named")
    added.add_argument("--all", action="store_true", help="all of these versions, and nginx")
    added.add_argument(
        "--from",
        dest="source",
        choices=("auto", "registry", "debian"),
        default="auto",
        help="auto: a registry if one answers, Debian's packages otherwise",
    )
    added.add_argument("--mirror", metavar="URL", help="of Debian (default: the one of apt)")
    added.add_argument("--engine", action="store_true", help="only say whether one answers")
    added.add_argument("--remove", action="store_true", help="remove them all instead")


def _compare_options(added: argparse.ArgumentParser) -> None:
    what = "a run directory, a report.json or a cycles.jsonl"
    added.add_argument("a", type=Path, metavar="RUN_A", help=f"the baseline: {what}")
    added.add_argument("b", type=Path, metavar="RUN_B", help="what is held against it")
    added.add_argument(
        "--margin", default="20%", metavar="SHARE", help="a p95 known to be this near is the same"
    )
    added.add_argument(
        "--tolerance",
        default="5%",
        metavar="SHARE",
        help="a difference known to be less does not matter",
    )
    added.add_argument("--fault", metavar="LABEL", help="only the failovers of this fault")
    added.add_argument("--cell", metavar="NAME", help="only the failovers of this cell")
    added.add_argument("--json", action="store_true", help="print it as JSON instead of a table")


def _compare(arguments: argparse.Namespace) -> int:
    from chaosd.analysis.compare import compare
    from chaosd.report import compare as report

    which = {"fault": arguments.fault, "cell": arguments.cell}
    found = compare(
        report.load(arguments.a, **which),
        report.load(arguments.b, **which),
        margin=_share(arguments.margin, "--margin"),
        tolerance=_share(arguments.tolerance, "--tolerance"),
    )
    _print(*([report.render(found)] if arguments.json else report.lines(found)))
    return report.EXITS[found.answer]


def _share(text: str, option: str) -> float:
    try:
        return Percent.parse(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _calibrate_options(added: argparse.ArgumentParser) -> None:
    added.add_argument(
        "--rates", default="200,500,1000", metavar="LIST", help="probes per second, one after other"
    )
    added.add_argument(
        "--outages", default="50ms..5s", metavar="A..B", help="how long they are, log-uniformly"
    )
    added.add_argument("--n", type=int, default=20, metavar="N", help="outages at each rate")
    added.add_argument("--seed", type=int, help="repeat the outages of an earlier calibration")
    added.add_argument("--directory", type=Path, default=Path("runs"), help="where its runs go")
    added.add_argument(
        "--target", metavar="URL", help="somebody else's backend instead of the built-in one"
    )
    added.add_argument(
        "--command",
        dest="program",
        default="",
        metavar="'PROGRAM ARGUMENT…'",
        help="has that target go away once, and prints `away NS` and `back NS` (CLOCK_MONOTONIC)",
    )


def _calibrate(arguments: argparse.Namespace) -> int:
    from chaosd import calibration

    return calibration.calibrate(
        calibration.wanted(
            rates=arguments.rates,
            lengths=arguments.outages,
            count=arguments.n,
            seed=arguments.seed,
            directory=arguments.directory,
            target=arguments.target,
            command=arguments.program,
        )
    )


def _load(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """The config, and how to say a problem at its place in the file."""
    from chaosd.config import shape

    overrides = list(arguments.set)
    for path, value in (
        ("seed", arguments.seed),
        ("until.cycles", arguments.cycles),
        ("until.time", arguments.time),
    ):
        if value is not None:
            overrides.append(f"{path}={value}")
    loaded = shape.load(arguments.config, overrides)
    return loaded, partial(shape.at_line, arguments.config, overrides)


def _check(arguments: argparse.Namespace) -> int:
    from chaosd import plan
    from chaosd.config import shape

    loaded, complain = _load(arguments)
    planned = plan.build(loaded, complain)
    rehearsal = plan.rehearse(planned)
    if arguments.quiet:
        _print(f"{arguments.config}: ok")
        return Exit.OK
    _print("# the effective config", shape.dump(loaded).rstrip(), "")
    _print("# the proxy's config (a run chooses the addresses)", rehearsal.rendered)
    # What matters most stands at the end, where it is still on the screen.
    _print("# the plan", *plan.describe(planned), *rehearsal.advice, *rehearsal.notes)
    return Exit.OK


def _run(arguments: argparse.Namespace) -> int:
    from chaosd import plan
    from chaosd.engine import session

    planned = plan.build(*_load(arguments))
    return session.run(planned, plan.rehearse(planned))


def _report(arguments: argparse.Namespace) -> int:
    from chaosd import report

    try:
        there = arguments.run.is_dir()
    except OSError as error:  # as where its parent may not be searched
        raise ConfigError(f"{arguments.run}: can't be read: {error.strerror or error}") from error
    if not there:
        raise ConfigError(f"{arguments.run}: there is no such directory (such as runs/latest)")
    found = report.analyse(arguments.run)
    unwritten: MachineError | None = None
    try:
        report.save(found, arguments.run)
    except MachineError as error:  # what was found can be said all the same
        unwritten = error
    if arguments.json:
        _print(report.as_json(found.report, arguments.run).rstrip())
    else:
        _print(*report.closing_lines(found.report, None if unwritten else arguments.run))
    if unwritten is not None:
        raise unwritten
    return report.exit_code(found.report)


def _clean(_: argparse.Namespace) -> int:
    removed: list[str] = []
    unseen: list[str] = []
    missed: list[str] = []
    for name in plugins.available("runtimes"):
        kind: Any = plugins.find("runtimes", name)
        runtime = kind(kind.Config(type=name))
        reason = runtime.unavailable()
        if reason is None:
            removed += asyncio.run(runtime.sweep())
            continue
        # Where there is none nothing can be left; one that does not answer may have much of ours.
        expected = isinstance(runtime, CanBeAway) and runtime.expected()
        (missed if expected else unseen).append(f"{name}: not looked at: {reason}")
    said = [f"removed {what}" for what in removed] + unseen
    if not removed:
        said.append("nothing was left behind" + (" elsewhere" if unseen or missed else ""))
    _print(*said)
    if missed:
        raise MachineError(*missed)
    return Exit.OK


def _images(arguments: argparse.Namespace) -> int:
    from chaosd.cli import images

    return images.main(arguments)


def _plugins(_: argparse.Namespace) -> int:
    for kind in plugins.KINDS:
        for name, point in plugins.available(kind).items():
            package = point.dist.name if point.dist else "?"
            _print(f"{kind:9} {name:12} {package:12} {point.value}")
    return Exit.OK


def _schema(_: argparse.Namespace) -> int:
    from chaosd.config import shape

    _print(json.dumps(shape.schema(), indent=2))
    return Exit.OK


def _version(_: argparse.Namespace) -> int:
    _print(f"chaosd {__version__}")
    return Exit.OK
