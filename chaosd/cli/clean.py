"""`chaosd clean`: remove what killed runs left behind."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from chaosd.cli.output import say
from chaosd.errors import Exit, MachineError

HELP = "remove whatever dead runs of chaosd left behind, and nothing else"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config",
        type=Path,
        nargs="?",
        metavar="CONFIG",
        help="clean where its runtime is, too: the nodes of a swarm are known from there alone",
    )


def run(arguments: argparse.Namespace) -> int:
    import asyncio

    from chaosd import plugins
    from chaosd.plugins.runtime import CanBeAway

    named: Any = None
    if arguments.config is not None:
        from chaosd.config.shape import load

        named = load(arguments.config).runtime

    removed: list[str] = []
    unseen: dict[str, list[str]] = {}  # runtimes by why they were not looked at
    away: dict[str, list[str]] = {}
    missed: list[str] = []
    for name in plugins.available("runtimes"):
        kind: Any = plugins.find("runtimes", name)
        is_named = named is not None and named.type == name
        runtime = kind(named if is_named else kind.Config(type=name))
        reason = runtime.unavailable()
        if reason is None:
            try:
                removed += asyncio.run(runtime.sweep())
            except MachineError as error:
                missed.append(str(error))
            continue
        # Where there is none nothing can be left; one that does not answer may have much of ours.
        expected = isinstance(runtime, CanBeAway) and runtime.expected()
        if expected and missed:
            continue  # the same engine: that it is away has been said
        (away if expected else unseen).setdefault(reason, []).append(name)
    missed += _not_looked_at(away)
    lines = [f"removed {what}" for what in removed] + _not_looked_at(unseen)
    if not removed:
        lines.append("nothing was left behind" + (" elsewhere" if unseen or missed else ""))
    say(*lines)
    if missed:
        raise MachineError(*missed)
    return Exit.OK


def _not_looked_at(why: dict[str, list[str]]) -> list[str]:
    """Several runtimes live on one engine."""
    return [f"{', '.join(names)}: not looked at: {reason}" for reason, names in why.items()]
