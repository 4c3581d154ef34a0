"""`chaosd demo`: real failovers in a minute, with nothing prepared."""

from __future__ import annotations

import argparse

from chaosd.cli import loading, own_files
from chaosd.cli import run as run_command
from chaosd.cli.output import say
from chaosd.errors import Exit

HELP = "watch real failovers; fetches a build of HAProxy if this machine has none"
CYCLES = 10


def add_options(parser: argparse.ArgumentParser) -> None:
    loading.add_overrides(parser)
    parser.set_defaults(cycles=CYCLES, **own_files.NONE)


def run(arguments: argparse.Namespace) -> int:
    from chaosd.proxies.haproxy import builds
    from chaosd.proxies.haproxy.builds import install
    from chaosd.system.shipped import shipped

    if builds.at_hand() is None:
        say("no HAProxy on this machine: fetching a build (once)")
        install.install_any(mirror=None, say=say)
    arguments.config = shipped("configs/demo.yaml")
    arguments.set.insert(0, "metrics.listen=127.0.0.1:0")  # a free port: another run may have 9464
    code = run_command.run(arguments)
    if code == Exit.UNKNOWN:
        say(
            "The verdict is unknown: this machine is too busy to be measured better. "
            "For a demo that is no error."
        )
        code = Exit.OK
    say("next, with your own HAProxy file: chaosd doctor FILE, then chaosd run --haproxy FILE")
    return code
