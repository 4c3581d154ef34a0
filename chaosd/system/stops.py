"""The signals by which somebody asks chaosd to end."""

from __future__ import annotations

import signal
from typing import Any

STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def heed() -> None:
    """Let each of them end the command as Ctrl-C does: by KeyboardInterrupt, with its number.

    So what is under way is undone. A signal that is ignored, as SIGHUP under nohup, stays so.
    """
    for number in STOPS[1:]:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _interrupt)


def exit_code(interrupt: KeyboardInterrupt) -> int:
    """As a shell has it."""
    number = interrupt.args[0] if interrupt.args else signal.SIGINT
    return 128 + int(number)


def _interrupt(number: int, _frame: Any) -> None:
    raise KeyboardInterrupt(number)
