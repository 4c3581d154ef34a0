"""`chaosd check`: what would run, and what is predicted."""

from __future__ import annotations

import argparse

from chaosd.cli import loading
from chaosd.cli.output import say
from chaosd.errors import Exit

HELP = "show the plan, the proxy's config and the predicted recovery; run nothing"


def add_options(parser: argparse.ArgumentParser) -> None:
    loading.add_options(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only say whether it is right")


def run(arguments: argparse.Namespace) -> int:
    from chaosd import plan
    from chaosd.config import shape

    loaded, at_line = loading.load(arguments)
    planned = plan.build(loaded, at_line)
    rehearsals = plan.rehearse(planned)
    if arguments.quiet:
        say(f"{arguments.config}: ok")
        return Exit.OK
    say("# the effective config", shape.dump(loaded).rstrip(), "")
    for rehearsal in rehearsals:
        arm = f" of arm {rehearsal.arm.name}" if len(rehearsals) > 1 else ""
        say(f"# the proxy's config{arm} (a run chooses the addresses)", rehearsal.rendered)
    # What matters most stands at the end, where it is still on the screen.
    say("# the plan", *plan.describe(planned))
    for rehearsal in rehearsals:
        arm = f"{rehearsal.arm.name}: " if len(rehearsals) > 1 else ""
        say(*(f"{arm}{line}" for line in (*rehearsal.advice, *rehearsal.notes)))
    return Exit.OK
