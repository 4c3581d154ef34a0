"""`chaosd check`: what would run, and what is predicted."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from chaosd.cli import loading, own_files
from chaosd.cli.output import say
from chaosd.cli.verdict import with_verdicts
from chaosd.errors import ConfigError, Exit, MachineError

if TYPE_CHECKING:
    from chaosd.plan import Copied, Outlook

HELP = "show the plan, the proxy's config and the predicted recovery; run nothing"
_OUTLOOK = "# what a move and DNS trouble do to your users"


def add_options(parser: argparse.ArgumentParser) -> None:
    loading.add_options(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="only say whether it is right")


def run(arguments: argparse.Namespace) -> int:
    return max(own_files.by_what_takes_them(each, _check) for each in own_files.each(arguments))


def _check(arguments: argparse.Namespace) -> int:
    from chaosd import plan
    from chaosd.config import shape

    loaded, at_line = loading.load(arguments)
    outlook = None if arguments.quiet else plan.outlook(loaded)
    if outlook is not None and outlook.movable:
        return _not_chosen(arguments, outlook)
    try:
        planned = plan.build(loaded, at_line)
        rehearsals = with_verdicts(plan.rehearse(planned))
    except (ConfigError, MachineError) as error:  # no HAProxy takes it: the model needs none
        if own_files.may_be_another(arguments, error):
            raise
        if outlook is not None and outlook.lines:
            say(_OUTLOOK, *outlook.lines, "")
        raise
    if arguments.quiet:
        say(f"{arguments.config or arguments.haproxy[0]}: ok")
        return Exit.OK
    if arguments.config is not None:
        say("# the effective config", shape.dump(planned.config).rstrip(), "")
    for rehearsal in rehearsals:
        arm = f" of arm {rehearsal.arm.name}" if len(rehearsals) > 1 else ""
        if rehearsal.copied is None:
            say(f"# the proxy's config{arm} (a run chooses the addresses)", rehearsal.rendered)
        else:
            _say_copied(rehearsal.copied, arm)
    if outlook is not None and outlook.lines:
        say(_OUTLOOK, *outlook.lines, "")
    # What matters most stands at the end, where it is still on the screen.
    say("# the plan", *plan.describe(planned))
    for rehearsal in rehearsals:
        arm = f"{rehearsal.arm.name}: " if len(rehearsals) > 1 else ""
        say(*(f"{arm}{line}" for line in (*rehearsal.advice, *rehearsal.notes)))
    return Exit.OK


def _not_chosen(arguments: argparse.Namespace, outlook: Outlook) -> int:
    """Say what is known of all backends. HAProxy itself reads the files with any of them."""
    from chaosd import plan

    names = ", ".join(outlook.movable)
    first = argparse.Namespace(**vars(arguments) | {"backend": outlook.movable[0]})
    said = (_OUTLOOK, *outlook.lines, "", f"{len(outlook.movable)} backends can move: {names}")
    try:
        plan.rehearse(plan.build(*loading.load(first)))
    except (ConfigError, MachineError) as error:
        if not own_files.may_be_another(arguments, error):
            say(*said)
        raise
    say(*said)
    say("to measure one of them: chaosd run --haproxy … --backend NAME (all: each in turn)")
    return Exit.OK


def _say_copied(copied: Copied, arm: str) -> None:
    what = f"# your files{arm}, and the copy that chaosd runs (a run chooses the addresses)"
    say(what, *copied.difference, "")
    if copied.not_carried:
        say("# not carried over, and what that changes", *copied.not_carried, "")
    say(f"# what moves{arm}", *copied.choices, "")
