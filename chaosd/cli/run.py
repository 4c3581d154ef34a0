"""`chaosd run`: the daemon."""

from __future__ import annotations

import argparse
import shlex

from chaosd.cli import loading, own_files
from chaosd.cli.output import say
from chaosd.cli.verdict import with_verdicts

HELP = "run until stopped, or until what `until:` asks for is done"


def add_options(parser: argparse.ArgumentParser) -> None:
    loading.add_options(parser)


def run(arguments: argparse.Namespace) -> int:
    return max(own_files.by_what_takes_them(each, _run) for each in own_files.each(arguments))


def _run(arguments: argparse.Namespace) -> int:
    from chaosd import plan
    from chaosd.engine import session

    planned = plan.build(*loading.load(arguments))
    rehearsals = with_verdicts(plan.rehearse(planned))
    for copied in (rehearsal.copied for rehearsal in rehearsals):
        if copied is not None:
            count = len(copied.not_carried)
            missing = f", and {count} thing{'s' * (count != 1)} that it leaves out" if count else ""
            say(*copied.choices)
            say(f"your files stay as they are; a copy is run (chaosd check shows it{missing})")
    if deeds := plan.deeds(planned):
        say(*deeds)
    code = session.run(planned, rehearsals, arguments.config or arguments.haproxy[0])
    if arguments.haproxy:
        files = shlex.join(map(str, arguments.haproxy))
        say(f"what in your file costs the most, and what to write instead: chaosd doctor {files}")
    return code
