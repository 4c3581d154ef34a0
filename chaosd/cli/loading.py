"""The options of commands that take a CONFIG, and how it is loaded."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from chaosd.cli import own_files
from chaosd.errors import ConfigError


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, nargs="?", metavar="CONFIG")
    own_files.add_options(parser)
    add_overrides(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="PATH=VALUE",
        help="override one value, e.g. --set proxy.resolvers.timeout_resolve=200ms or "
        "--set faults.0.every=9s; may be repeated",
    )
    parser.add_argument(
        "--allow-programs",
        action="store_true",
        help="let the proxy's own file run programs, as proxy.allow_programs: true",
    )
    parser.add_argument("--seed", type=int, help="repeat the schedule of an earlier run")
    parser.add_argument("--cycles", type=int, metavar="N", help="stop after N cycles in each cell")
    parser.add_argument("--for", dest="time", metavar="TIME", help="stop after a while, e.g. 10m")


def load(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Return the config, and how to say a problem at its place in the file."""
    from chaosd.config import shape

    overrides = list(arguments.set)
    for path, value in (
        ("seed", arguments.seed),
        ("until.cycles", arguments.cycles),
        ("until.time", arguments.time),
    ):
        if value is not None:
            overrides.append(f"{path}={value}")
    if arguments.allow_programs:
        overrides.append("proxy.allow_programs=true")
    if wrong := own_files.problem(arguments):
        raise ConfigError(wrong)
    if arguments.haproxy:
        called = arguments.haproxy[0]
        loaded = shape.of_text(own_files.text(arguments), called, overrides)
        return loaded, partial(_complain, called)
    loaded = shape.load(arguments.config, overrides)
    return loaded, partial(shape.at_line, arguments.config, overrides)


def _complain(called: Path, _: object, what: str) -> str:
    return f"{called}: {what}"
